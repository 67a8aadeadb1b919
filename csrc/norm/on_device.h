// SPDX-License-Identifier: MIT
// From a BN to what its kernels take.
#pragma once

#include "../core/on_device.h"
#include "../program/norm_arguments.h"
#include "norm_kernel.h"

namespace nasp_ext {

// The norm of one call: of its batch, or of the running statistics, which stay.
template <class T>
FinishNorm<T> finish_of(const NormArguments& norm, const T* sums, int64_t pixels, int64_t tile,
                        int64_t channels, T* rows, const char* op) {
  FinishNorm<T> f{};
  f.sums = sums;
  f.weight = data_or_null<T>(norm.weight);
  f.bias = data_or_null<T>(norm.bias);
  f.from_running = norm.mean.has_value();
  if (f.from_running) {
    f.running.mean = const_cast<T*>(data_of<T>(*norm.mean));  // read only: no `batches`
    f.running.var = const_cast<T*>(data_of<T>(*norm.var));
  }
  f.norm = rows;
  f.eps = norm.eps;
  f.pixels = pixels;
  f.tile_pixels = narrow(tile, op);
  f.channels = narrow(channels, op);
  return f;
}

}  // namespace nasp_ext
