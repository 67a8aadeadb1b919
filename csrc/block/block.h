// SPDX-License-Identifier: MIT
// The operators of blocks. csrc/ops.cpp says what they do.
#pragma once

#include <tuple>

#include "../core/back_ends.h"
#include "../program/option.h"

namespace nasp_ext {

struct BlockForwardCall {
  Tensor x;             // (N, C, H, W), channels_last
  MaybeTensor in_norm;  // (5, C)
  ProgramBlock block;   // its weights, geometry, relu and norm

  auto fields() {
    NormArguments& bn = block.norm.arguments;
    return std::tie(x, in_norm, block.weights.depthwise, block.weights.products, block.geometry,
                    block.relu, block.norm.exists, bn.weight, bn.bias, bn.mean, bn.var, bn.eps);
  }
};
using BlockOutput = std::tuple<Tensor, Tensor>;  // z (N, O, H', W'), norm (5, O) or empty

struct BlockBackwardCall {
  Tensor grad;          // (N, O, H', W'), of the BN's output
  MaybeTensor factors;  // (N,), grad counts times these
  Tensor sums;          // (2, O) float64, see node_gradient_sums
  Tensor z;             // (N, O, H', W')
  Tensor norm;          // (5, O) or empty
  Tensor x;             // (N, C, H, W)
  MaybeTensor in_norm;  // (5, C)
  ProgramBlock block;   // its weights, geometry, relu, and whether its norm is of the batch
  bool need_weights;
  MaybeTensor out;   // (N, C, H, W), gets the gradient of x
  MaybeTensor base;  // (N, C, H, W), added to it; may be `out`

  auto fields() {
    return std::tie(grad, factors, sums, z, norm, block.norm.batch, x, in_norm,
                    block.weights.depthwise, block.weights.products, block.geometry, block.relu,
                    need_weights, out, base);
  }
};
// in_sums (2, C) float64 or empty, the gradients of the depthwise and of the product weights.
using BlockGradients = std::tuple<Tensor, Tensor, Tensors>;

// Calls of one list write to different places.
template <class Device>
std::vector<BlockOutput> blocks_forward(const std::vector<BlockForwardCall>& calls);
template <class Device>
std::vector<BlockGradients> blocks_backward(const std::vector<BlockBackwardCall>& calls);

}  // namespace nasp_ext
