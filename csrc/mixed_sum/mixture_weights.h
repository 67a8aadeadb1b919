// SPDX-License-Identifier: MIT
#pragma once

#include "../branch_dots/branches.h"

namespace nasp_ext {

// The weights of a mixture, contiguous.
inline Tensor check_weights(const Tensor& weights, const std::vector<Tensor>& outputs,
                            const char* op) {
  const ScalarType expected = arithmetic_dtype(outputs[0].scalar_type());
  const auto branches = static_cast<int64_t>(outputs.size());
  if (weights.dim() != 1 || weights.size(0) != branches || weights.scalar_type() != expected)
    fail(op, ": expected weights of shape (", branches, ",) in ",
         torch::headeronly::toString(expected), ", found ", shape_text(weights), " in ",
         torch::headeronly::toString(weights.scalar_type()));
  check_device(weights, outputs[0], op, "weights");
  return as_contiguous(weights);
}

}  // namespace nasp_ext
