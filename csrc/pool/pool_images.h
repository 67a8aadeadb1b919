// SPDX-License-Identifier: MIT
// What the loops of the CPU take for one image of a pool, followed by a BN or not.
#pragma once

#include "../core/pixels.h"
#include "../program/shapes.h"

namespace nasp_ext {

template <class T>
struct PoolForwardImage {
  Pixels<const T> x;
  Pixels<T> z;
  ImageSums<T> sums;  // (pad,) each; written; null: no BN follows
  T* scratch;         // pool_scratch(shape, lanes) elements
};

// Rows of a pool that are worked on at a time, about 64 pixels.
inline int64_t pool_rows(const PoolShape& s) {
  const int64_t rows = kGroupPixels / s.out_width;
  return rows < 1 ? 1 : (rows > s.out_height ? s.out_height : rows);
}
inline int64_t pool_scratch(const PoolShape& s, int64_t lanes) {
  return (s.width + s.out_width * pool_rows(s)) * lanes;
}

template <class T>
struct PoolBackwardImage {
  Pixels<const T> grad, z;  // z null: the norm does not depend on it
  BehindNorm<T> norm;       // (pad) each; without z only scale_g
  Pixels<const T> x;
  Pixels<T> grad_x;
  Pixels<const T> base;  // null: 0
};

}  // namespace nasp_ext
