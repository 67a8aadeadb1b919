// SPDX-License-Identifier: MIT
// What the loops of source_dots on the CPU take for one image.
#pragma once

#include "../core/pixels.h"
#include "../program/shapes.h"

namespace nasp_ext {

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

}  // namespace nasp_ext
