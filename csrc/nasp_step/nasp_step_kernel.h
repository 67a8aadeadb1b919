// SPDX-License-Identifier: MIT
// Launcher of nasp_step_ on the device, on raw pointers.
#pragma once
#include "../select_active/select_active_kernel.h"
#include "nasp_step_math.h"

namespace nasp_ext {

// What nasp_step_ does to a row before its selection. A row with a number that no step can be made
// from (adam_holds) keeps its entries and moments, and its `active` becomes kNanRow.
template <class T>
struct DeviceStep {
  T* a;               // (R, K), the `a` of the selection
  const T* grad;      // (R, K)
  T* exp_avg;         // (R, K), null: a plain step
  T* exp_avg_sq;      // (R, K), null: a plain step
  const T* cost;      // (cost_rows, K) or null
  int64_t cost_rows;  // 1 or R
  StepRule<T> rule;
};

// R > 0.
template <class T>
void launch_nasp_step(const DeviceSelection<T>& selection, const DeviceStep<T>& step,
                      const NodeBounds& nodes, stream_t stream);

}  // namespace nasp_ext
