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
  Pixels<T> z;        // null: not stored
  ImageSums<T> sums;  // (pad) each; written; null: no BN follows
  // Inner products of z, less its shift, with these: (gradients, pad) in sums.dot.
  const Pixels<const T>* grads;
  int64_t grad_count;
  T* scratch;  // pool_scratch(shape, lanes) elements
};

inline int64_t pool_scratch(const PoolShape& s, int64_t lanes) {
  return (s.width + s.out_width) * lanes;
}

template <class T>
struct PoolBackwardImage {
  Pixels<const T> grad, z;  // z null: no BN
  BehindNorm<T> norm;       // (pad) each; without a BN only scale_g
  Pixels<const T> x;
  Pixels<T> grad_x;
  Pixels<const T> base;  // null: 0
};

}  // namespace nasp_ext
