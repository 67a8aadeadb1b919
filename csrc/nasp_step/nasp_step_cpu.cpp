// SPDX-License-Identifier: MIT
// nasp_step_ on the CPU.
#include "step_rows.h"

namespace nasp_ext {
namespace {

template <class T>
T* data_of(const InPlace& t) {
  return static_cast<T*>(t.tensor().mutable_data_ptr());
}

template <class T>
void step_typed(StepArguments& call, const StepNumbers& numbers, const Ties& ties,
                bool keep_value) {
  const StepMemory<T> memory = {
      call.rows,
      {data_of<T>(call.a), static_cast<const T*>(call.grad.const_data_ptr()),
       data_of<T>(call.weight), call.exp_avg ? data_of<T>(*call.exp_avg) : nullptr,
       call.exp_avg_sq ? data_of<T>(*call.exp_avg_sq) : nullptr, nullptr, nullptr},
      data_of<T>(call.weight),
      data_of<int32_t>(call.active),
      {call.cost ? static_cast<const T*>(call.cost->const_data_ptr()) : nullptr, call.cost_rows},
      call.mask,
      call.nodes.span()};
  run_step(memory, numbers, ties, keep_value);
  call.commit();
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
  const StepNumbers numbers = {step, lr, beta1, beta2, eps, weight_decay, eta};
  StepArguments call = as_step_arguments(a, grad, weight, active, exp_avg, exp_avg_sq, cost,
                                         std::move(node_offsets), edges_per_node, mask, numbers);
  if (a.scalar_type() == ScalarType::Float)
    step_typed<float>(call, numbers, ties_of(seed), keep_value);
  else
    step_typed<double>(call, numbers, ties_of(seed), keep_value);
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("nasp_step_", TORCH_BOX(&nasp_ext::nasp_step_));
}
