// SPDX-License-Identifier: MIT
// nasp_step_ on CUDA. A NaN, or a number that no step can be made from, is marked
// in `active`, not raised: that would be a sync.
#include "../core/boxed.h"
#include "../core/device.h"
#include "../select_active/on_device.h"
#include "arguments.h"
#include "nasp_step_kernel.h"

namespace nasp_ext {
namespace {

template <class T>
void step_typed(const StepArguments& call, const StepNumbers& n, const Ties& ties, bool keep_value,
                stream_t stream) {
  const bool adam = call.exp_avg.has_value();
  const PruneScratch scratch(call.rows.tensor, call.rows.count, call.nodes);
  const DeviceStep<T> step = {
      mutable_data_of<T>(call.a.tensor()),
      static_cast<const T*>(call.grad.const_data_ptr()),
      adam ? mutable_data_of<T>(call.exp_avg->tensor()) : nullptr,
      adam ? mutable_data_of<T>(call.exp_avg_sq->tensor()) : nullptr,
      call.cost ? static_cast<const T*>(call.cost->const_data_ptr()) : nullptr,
      call.cost_rows,
      checked_rule<T>(n, adam)};
  launch_nasp_step(selection_of<T>(call.rows, call.mask, ties, keep_value, call.weight.tensor(),
                                   call.active.tensor(), scratch),
                   step, bounds_of(call.nodes), stream);
}

void nasp_step_(const StepCall& call) {
  const DeviceScope device(call.a);
  StepArguments arguments = as_step_arguments(call);
  if (arguments.rows.count == 0) return;
  const Ties ties = ties_of(call.seed);
  if (call.a.scalar_type() == ScalarType::Float)
    step_typed<float>(arguments, call.numbers, ties, call.keep_value, device.stream());
  else
    step_typed<double>(arguments, call.numbers, ties, call.keep_value, device.stream());
  arguments.commit();
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("nasp_step_", NASP_BOX(&nasp_ext::nasp_step_));
}
