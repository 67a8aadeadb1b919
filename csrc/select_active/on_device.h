// SPDX-License-Identifier: MIT
// From the arguments of a selection to what its kernels take.
#pragma once

#include "../core/rows.h"
#include "nodes.h"
#include "select_active_kernel.h"

namespace nasp_ext {

inline NodeBounds bounds_of(const Nodes& nodes) {
  if (!nodes.prune()) return {nullptr, 0, 0};
  return {nodes.offsets.data(), nodes.count(), nodes.edges};
}

// What pruning needs between its two phases.
struct PruneScratch {
  Tensor scores;  // (R,), or (0,)
  Tensor chosen;  // (R,) int32, or (0,)

  PruneScratch(const Tensor& a, int64_t rows, const Nodes& nodes)
      : scores(empty_vector(a, nodes.prune() ? rows : 0, arithmetic_dtype(a.scalar_type()))),
        chosen(empty_vector(a, nodes.prune() ? rows : 0, ScalarType::Int)) {}
};

template <class T>
DeviceSelection<T> selection_of(const Rows& rows, const RowMask& mask, const Ties& ties,
                                bool keep_value, const Tensor& weight, const Tensor& active,
                                const PruneScratch& scratch) {
  return {data_of<T>(rows.tensor),
          mask.data,
          mask.count,
          rows.count,
          rows.options,
          ties,
          keep_value,
          mutable_data_of<T>(weight),
          mutable_data_of<int32_t>(active),
          mutable_data_of<accumulate_t<T>>(scratch.scores),
          mutable_data_of<int32_t>(scratch.chosen)};
}

}  // namespace nasp_ext
