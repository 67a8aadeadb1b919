// SPDX-License-Identifier: MIT
// The sums of a node's edges in the backward, see node_gradient_sums.
#pragma once

#include "../core/tensors.h"

namespace nasp_ext {

// Of (E_i, 2, C) each, along the first dimension.
inline Tensor joined(const Tensors& parts) {
  if (parts.size() == 1) return parts[0];
  int64_t count = 0;
  for (const Tensor& part : parts) count += part.size(0);
  const int64_t channels = parts[0].size(2);
  const int64_t sizes[] = {count, 2, channels}, strides[] = {2 * channels, channels, 1};
  Tensor all = empty_strided_on(parts[0], 3, sizes, strides, ScalarType::Double);
  int64_t at = 0;
  for (const Tensor& part : parts) {
    Tensor rows = torch::stable::narrow(all, 0, at, part.size(0));
    torch::stable::copy_(rows, part);
    at += part.size(0);
  }
  return all;
}

// (E, 2, C) times the first column of (E, N).
inline Tensor times_gates(const Tensor& sums, const Tensor& factors) {
  Tensor wide = torch::stable::to(factors, ScalarType::Double);
  Tensor column = torch::stable::narrow(wide, 1, 0, 1);
  return product(sums, torch::stable::unsqueeze(column, 2));
}

}  // namespace nasp_ext
