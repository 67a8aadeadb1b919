// SPDX-License-Identifier: MIT
// From the tensors of a block to what its kernels take.
#pragma once

#include <limits>

#include "../norm/norm_kernel.h"
#include "block_kernel.h"
#include "weights.h"

namespace nasp_ext {

// Sizes travel to the device in 32 bits; offsets are 64 bits there.
inline int narrow(int64_t value, const char* op) {
  if (value > std::numeric_limits<int>::max())
    fail(op, ": expected sizes below 2^31, found ", value);
  return static_cast<int>(value);
}

inline BlockGeometry geometry_of(const BlockShape& s, int64_t images, const char* op) {
  const auto n = [op](int64_t value) { return narrow(value, op); };
  return {n(images),      n(s.in_channels), n(s.out_channels),
          n(s.height),    n(s.width),       n(s.out_height),
          n(s.out_width), n(s.kernel_h),    n(s.kernel_w),
          n(s.stride_h),  n(s.stride_w),    n(s.pad_h),
          n(s.pad_w),     n(s.dilation_h),  n(s.dilation_w),
          n(s.parts),     s.depthwise,      s.relu};
}

template <class T>
BlockWeightsOnDevice<T> weights_on_device(const BlockWeights& weights) {
  BlockWeightsOnDevice<T> w{};
  if (weights.depthwise) w.depthwise = data_of<T>(*weights.depthwise);
  for (size_t part = 0; part < weights.products.size(); ++part)
    w.products[part] = data_of<T>(weights.products[part]);
  return w;
}

template <class T>
const T* data_or_null(const std::optional<Tensor>& t) {
  return t ? data_of<T>(*t) : nullptr;
}

// Room for `rows` rows of sums of every tile, (rows, tiles, channels); empty if not wanted.
inline Tensor empty_sums(const Tensor& like, bool wanted, int64_t rows, int64_t tiles,
                         int64_t channels) {
  return empty_vector(like, wanted ? rows * tiles * channels : 0, like.scalar_type());
}

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

// As few launches as their parameters allow; list(parameters) is where items go.
template <class Parameters, int kMost, class Item, class List, class Launch>
void launch_in_chunks(const std::vector<Item>& items, const List& list, const Launch& launch,
                      stream_t stream) {
  for (size_t first = 0; first < items.size(); first += kMost) {
    const size_t count = std::min<size_t>(items.size() - first, kMost);
    Parameters parameters{};
    std::copy(items.begin() + static_cast<int64_t>(first),
              items.begin() + static_cast<int64_t>(first + count), list(parameters));
    launch(parameters, static_cast<int>(count), stream);
  }
}

}  // namespace nasp_ext
