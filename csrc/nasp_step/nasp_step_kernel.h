// SPDX-License-Identifier: MIT
// Launchers of select_active and nasp_step_ on the device, on raw pointers.
#pragma once
#include "../common/stream.h"
#include "nasp_step_math.h"
#include "select_math.h"

namespace nasp_ext {

template <class T>
struct DeviceSelection {
  const T* a;        // (R, K)
  const bool* mask;  // (mask_rows, K) or null; row r reads mask row r % mask_rows
  int64_t mask_rows;
  int64_t rows;
  int64_t options;
  Ties ties;
  bool keep_value;
  T* weight;                // (R, K)
  int32_t* active;          // (R,); kNanRow where an entry that exists is NaN
  accumulate_t<T>* scores;  // scratch (R,), null if nothing is pruned
  int32_t* chosen;          // scratch (R,), null if nothing is pruned

  NASP_HOST_DEVICE const bool* mask_row(int64_t row) const {
    return mask ? mask + row % mask_rows * options : nullptr;
  }
};

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

struct NodeBounds {        // on the host
  const int64_t* offsets;  // (count + 1,): node i owns rows [offsets[i], offsets[i + 1])
  int64_t count;           // 0: nothing is pruned
  int64_t edges;           // rows kept per node
};

// R > 0.
template <class T>
void launch_select(const DeviceSelection<T>& selection, const NodeBounds& nodes, stream_t stream);
template <class T>
void launch_nasp_step(const DeviceSelection<T>& selection, const DeviceStep<T>& step,
                      const NodeBounds& nodes, stream_t stream);

}  // namespace nasp_ext
