// SPDX-License-Identifier: MIT
// From the shape of a pool to what its kernels take.
#pragma once

#include "../core/on_device.h"
#include "../program/shapes.h"
#include "pool_kernel.h"

namespace nasp_ext {

inline PoolGeometry geometry_of(const PoolShape& s, int64_t images, const char* op) {
  const auto n = [op](int64_t value) { return narrow(value, op); };
  return {n(images),      n(s.channels), n(s.height), n(s.width), n(s.out_height),
          n(s.out_width), n(s.kernel),   n(s.stride), n(s.pad),   s.max};
}

}  // namespace nasp_ext
