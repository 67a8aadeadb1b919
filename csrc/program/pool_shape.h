// SPDX-License-Identifier: MIT
// The shape of a pool, from its input.
#pragma once

#include "../core/images.h"
#include "shapes.h"

namespace nasp_ext {

inline PoolShape pool_shape(const Images& x, bool max, int64_t kernel, int64_t stride,
                            const char* op) {
  check_pixels(x, op, "x");
  if (!fits_window(kernel, 1) || kernel % 2 == 0 || !fits_window(stride, 1))
    fail(op, ": expected an odd kernel and a stride >= 1, below ", kMostOfWindow, ", found ",
         kernel, " and ", stride);
  PoolShape s{};
  s.channels = x.channels;
  s.height = x.height;
  s.width = x.width;
  s.kernel = kernel;
  s.stride = stride;
  s.pad = kernel / 2;
  s.max = max;
  s.out_height = (x.height - 1) / stride + 1;
  s.out_width = (x.width - 1) / stride + 1;
  return s;
}

}  // namespace nasp_ext
