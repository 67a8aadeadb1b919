// SPDX-License-Identifier: MIT
// The operators of a node. csrc/ops.cpp says what they do.
#pragma once

#include "../core/back_ends.h"
#include "../core/tensors.h"

namespace nasp_ext {

template <class Device>
void node_sum_(const Tensor& out,           // (N, C, H, W)
               const Tensors& terms,        // E of (N, C, H, W)
               const Tensors& norms,        // E of (5, C) or empty
               const MaybeTensor& factors,  // (E, N)
               const MaybeTensor& base);    // (N, C, H, W), added; may be `out`
// (E, 2, C) float64.
template <class Device>
Tensor node_gradient_sums(const Tensor& grad,           // (N, C, H, W)
                          const Tensors& terms,         // E of (N, C, H, W)
                          const Tensors& norms,         // E of (5, C) or empty
                          const MaybeTensor& factors);  // (E, N)

}  // namespace nasp_ext
