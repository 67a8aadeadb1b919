// SPDX-License-Identifier: MIT
// select_active on the CPU.
#include <atomic>
#include <tuple>

#include "../prox/nan_rows.h"
#include "select_rows.h"

namespace nasp_ext {
namespace {

std::tuple<Tensor, Tensor> select_active(const Tensor& a,  // (R, K)
                                         std::optional<std::vector<int64_t>> node_offsets,
                                         std::optional<int64_t> edges_per_node,
                                         const std::optional<Tensor>& mask,  // (M, K)
                                         bool keep_value, std::optional<int64_t> seed) {
  const char* op = "select_active";
  check_matrix(a, op);
  const Rows rows = as_rows(a, op);
  const RowMask row_mask = as_row_mask(mask, rows, op);
  const Nodes nodes = as_nodes(std::move(node_offsets), edges_per_node, rows.count, op);
  Tensor weight = empty_leading(a, 2, a.scalar_type());
  Tensor active = empty_leading(a, 1, ScalarType::Int);
  dispatch_floating(a.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const Projection<T, int32_t> p = {static_cast<const T*>(rows.tensor.const_data_ptr()),
                                      row_mask.data,
                                      row_mask.count,
                                      rows.options,
                                      ties_of(seed),
                                      static_cast<T*>(weight.mutable_data_ptr()),
                                      static_cast<int32_t*>(active.mutable_data_ptr())};
    std::atomic<bool> nan{false};
    for_rows(rows, [&](int64_t begin, int64_t end) {
      if (select_rows(p, keep_value, false, begin, end)) nan = true;
    });
    if (nan) fail_nan(op, p.a, row_mask, rows);
    prune_nodes(p, nodes.span());
  });
  return {weight, active};
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("select_active", TORCH_BOX(&nasp_ext::select_active));
}
