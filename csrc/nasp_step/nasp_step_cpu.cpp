// SPDX-License-Identifier: MIT
// nasp_step_ on the CPU.
#include "../core/boxed.h"
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

void nasp_step_(const StepCall& call) {
  StepArguments arguments = as_step_arguments(call);
  const Ties ties = ties_of(call.seed);
  if (call.a.scalar_type() == ScalarType::Float)
    step_typed<float>(arguments, call.numbers, ties, call.keep_value);
  else
    step_typed<double>(arguments, call.numbers, ties, call.keep_value);
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("nasp_step_", NASP_BOX(&nasp_ext::nasp_step_));
}
