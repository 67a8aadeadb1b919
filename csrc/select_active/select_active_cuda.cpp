// SPDX-License-Identifier: MIT
// select_active on CUDA. A NaN is marked in `active`, not raised: that would be a sync.
#include <tuple>

#include "../core/device.h"
#include "on_device.h"

namespace nasp_ext {
namespace {

std::tuple<Tensor, Tensor> select_active(const Tensor& a,  // (R, K)
                                         std::optional<std::vector<int64_t>> node_offsets,
                                         std::optional<int64_t> edges_per_node,
                                         const std::optional<Tensor>& mask,  // (M, K)
                                         bool keep_value, std::optional<int64_t> seed) {
  const char* op = "select_active";
  check_matrix(a, op);
  const DeviceScope device(a);
  const Rows rows = as_rows(a, op);
  const RowMask row_mask = as_row_mask(mask, rows, op);
  const Nodes nodes = as_nodes(std::move(node_offsets), edges_per_node, rows.count, op);
  Tensor weight = empty_leading(a, 2, a.scalar_type());
  Tensor active = empty_leading(a, 1, ScalarType::Int);
  const PruneScratch scratch(a, rows.count, nodes);
  dispatch_floating(a.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    if (rows.count == 0) return;
    launch_select(
        selection_of<T>(rows, row_mask, ties_of(seed), keep_value, weight, active, scratch),
        bounds_of(nodes), device.stream());
  });
  return {weight, active};
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("select_active", TORCH_BOX(&nasp_ext::select_active));
}
