// SPDX-License-Identifier: MIT
// The operators of pools. csrc/ops.cpp says what they do.
#pragma once

#include <tuple>

#include "../core/back_ends.h"
#include "../program/norm_arguments.h"

namespace nasp_ext {

struct PoolForwardCall {
  Tensor x;  // (N, C, H, W), channels_last
  bool max;
  int64_t kernel, stride;
  bool norm;
  NormArguments bn;

  auto fields() {
    return std::tie(x, max, kernel, stride, norm, bn.weight, bn.bias, bn.mean, bn.var, bn.eps);
  }
};

struct PoolBackwardCall {
  Tensor grad;          // (N, C, H', W'), of the BN's output
  MaybeTensor factors;  // (N,), grad counts times these
  Tensor sums;          // (2, C) float64
  Tensor z;             // (N, C, H', W')
  Tensor norm;          // (5, C) or empty
  bool batch_stats;
  Tensor x;  // (N, C, H, W)
  bool max;
  int64_t kernel, stride;
  Tensor out;        // (N, C, H, W), gets the gradient of x
  MaybeTensor base;  // (N, C, H, W), added to it; may be `out`

  auto fields() {
    return std::tie(grad, factors, sums, z, norm, batch_stats, x, max, kernel, stride, out, base);
  }
};

// z (N, C, H', W') and norm (5, C) or empty.
template <class Device>
std::tuple<Tensor, Tensor> pool_forward(const PoolForwardCall& call);
template <class Device>
void pool_backward_(const PoolBackwardCall& call);

}  // namespace nasp_ext
