// SPDX-License-Identifier: MIT
// Max and average pools, padded to keep the size, followed by a BN or not.
#pragma once

#include "../block/block.h"

namespace nasp_ext {

struct PoolShape {
  int64_t channels, height, width, out_height, out_width;
  int64_t kernel, stride, pad;
  bool max;  // else the average over the pixels that exist

  int64_t out_pixels() const { return out_height * out_width; }
};

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

constexpr int64_t kMaxPools = 8;

// Several pools of one input, whose outputs are of one size, and their inner products with
// gradients.
template <class T>
struct PoolDotsImage {
  const PoolShape* shapes;
  ImageSums<T>* sums;  // of each pool; sums.dot: (gradients, pad), of z less its shift
  int64_t count;       // up to kMaxPools
  Pixels<const T> x;
  const Pixels<const T>* grads;
  double* const* grad_sums;  // of each gradient, (pad,), added to
  int64_t grad_count;
  T* scratch;  // count * pool_scratch(shape, lanes) elements
};

template <class T>
struct PoolBackwardImage {
  Pixels<const T> grad, z;  // z null: the norm does not depend on it
  BehindNorm<T> norm;       // (pad) each; without z only scale_g
  Pixels<const T> x;
  Pixels<T> grad_x;
  Pixels<const T> base;  // null: 0
};

}  // namespace nasp_ext
