// SPDX-License-Identifier: MIT
// select_active and nasp_step_ on CUDA. A NaN, or a number that no step can be made from, is marked
// in `active`, not raised: that would be a sync.
#include <tuple>

#include "../common/device.h"
#include "arguments.h"
#include "nasp_step_kernel.h"

namespace nasp_ext {
namespace {

template <class T>
T* data_of(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

NodeBounds bounds_of(const Nodes& nodes) {
  if (!nodes.prune()) return {nullptr, 0, 0};
  return {nodes.offsets.data(), nodes.count(), nodes.edges};
}

// What pruning needs between its two phases.
struct Scratch {
  Tensor scores;  // (R,), or (0,)
  Tensor chosen;  // (R,) int32, or (0,)

  Scratch(const Tensor& a, int64_t rows, const Nodes& nodes)
      : scores(empty_vector(a, nodes.prune() ? rows : 0, arithmetic_dtype(a.scalar_type()))),
        chosen(empty_vector(a, nodes.prune() ? rows : 0, ScalarType::Int)) {}
};

template <class T>
DeviceSelection<T> selection_of(const Rows& rows, const RowMask& mask, const Ties& ties,
                                bool keep_value, const Tensor& weight, const Tensor& active,
                                const Scratch& scratch) {
  return {static_cast<const T*>(rows.tensor.const_data_ptr()),
          mask.data,
          mask.count,
          rows.count,
          rows.options,
          ties,
          keep_value,
          data_of<T>(weight),
          data_of<int32_t>(active),
          data_of<accumulate_t<T>>(scratch.scores),
          data_of<int32_t>(scratch.chosen)};
}

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
  const Scratch scratch(a, rows.count, nodes);
  dispatch_floating(a.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    if (rows.count == 0) return;
    launch_select(
        selection_of<T>(rows, row_mask, ties_of(seed), keep_value, weight, active, scratch),
        bounds_of(nodes), device.stream());
  });
  return {weight, active};
}

template <class T>
void step_typed(const StepArguments& call, const StepNumbers& n, const Ties& ties, bool keep_value,
                stream_t stream) {
  const bool adam = call.exp_avg.has_value();
  const Scratch scratch(call.rows.tensor, call.rows.count, call.nodes);
  const DeviceStep<T> step = {
      data_of<T>(call.a.tensor()),
      static_cast<const T*>(call.grad.const_data_ptr()),
      adam ? data_of<T>(call.exp_avg->tensor()) : nullptr,
      adam ? data_of<T>(call.exp_avg_sq->tensor()) : nullptr,
      call.cost ? static_cast<const T*>(call.cost->const_data_ptr()) : nullptr,
      call.cost_rows,
      checked_rule<T>(n, adam)};
  launch_nasp_step(selection_of<T>(call.rows, call.mask, ties, keep_value, call.weight.tensor(),
                                   call.active.tensor(), scratch),
                   step, bounds_of(call.nodes), stream);
}

void nasp_step_(const Tensor& a, const Tensor& grad, const Tensor& weight,  // (R, K)
                const Tensor& active,                                       // (R,) int32
                const std::optional<Tensor>& exp_avg,                       // (R, K)
                const std::optional<Tensor>& exp_avg_sq,                    // (R, K)
                int64_t step, double lr, double beta1, double beta2, double eps,
                double weight_decay,
                const std::optional<Tensor>& cost,  // (K,) or (R, K)
                double eta, std::optional<std::vector<int64_t>> node_offsets,
                std::optional<int64_t> edges_per_node,
                const std::optional<Tensor>& mask,  // (M, K)
                bool keep_value, std::optional<int64_t> seed) {
  const DeviceScope device(a);
  const StepNumbers numbers = {step, lr, beta1, beta2, eps, weight_decay, eta};
  StepArguments call = as_step_arguments(a, grad, weight, active, exp_avg, exp_avg_sq, cost,
                                         std::move(node_offsets), edges_per_node, mask, numbers);
  if (call.rows.count == 0) return;
  if (a.scalar_type() == ScalarType::Float)
    step_typed<float>(call, numbers, ties_of(seed), keep_value, device.stream());
  else
    step_typed<double>(call, numbers, ties_of(seed), keep_value, device.stream());
  call.commit();
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("select_active", TORCH_BOX(&nasp_ext::select_active));
  m.impl("nasp_step_", TORCH_BOX(&nasp_ext::nasp_step_));
}
