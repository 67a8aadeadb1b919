// SPDX-License-Identifier: MIT
// From the tensors of a block to what its kernels take.
#pragma once

#include "../core/on_device.h"
#include "../program/block_weights.h"
#include "block_kernel.h"

namespace nasp_ext {

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

}  // namespace nasp_ext
