// SPDX-License-Identifier: MIT
// A BN as a call describes it.
#pragma once

#include "../core/checks.h"

namespace nasp_ext {

// The affine map of a BN module and, in evaluation mode, its running statistics.
struct NormArguments {
  std::optional<Tensor> weight, bias;  // (C,) both or none
  std::optional<Tensor> mean, var;     // (C,) both or none: then those of the batch
  double eps;
};

inline void check_norm_arguments(const NormArguments& norm, int64_t channels, const Tensor& like,
                                 const char* op) {
  if (norm.weight.has_value() != norm.bias.has_value() ||
      norm.mean.has_value() != norm.var.has_value())
    fail(op, ": expected weight and bias, mean and var, in pairs, found one without the other");
  if (norm.weight) check_vector(*norm.weight, channels, like, op, "weight");
  if (norm.bias) check_vector(*norm.bias, channels, like, op, "bias");
  if (norm.mean) check_vector(*norm.mean, channels, like, op, "mean");
  if (norm.var) check_vector(*norm.var, channels, like, op, "var");
}

}  // namespace nasp_ext
