// SPDX-License-Identifier: MIT
// The running statistics of a BN, moved by those of a batch.
#pragma once

#include "../core/launch.cuh"
#include "norm_kernel.h"

namespace nasp_ext {

template <class T>
__device__ __forceinline__ void move_running(const RunningNorm<T>& running, int c, T mean, T var,
                                             double count) {
  running.mean[c] = moved(running.mean[c], static_cast<double>(mean), running.momentum);
  running.var[c] =
      moved(running.var[c], unbiased(static_cast<double>(var), count), running.momentum);
  if (c == 0) *running.batches += 1;
}

}  // namespace nasp_ext
