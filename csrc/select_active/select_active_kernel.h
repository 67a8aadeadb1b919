// SPDX-License-Identifier: MIT
// Launcher of select_active on the device, on raw pointers.
#pragma once
#include "../core/stream.h"
#include "select_active_math.h"

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

struct NodeBounds {        // on the host
  const int64_t* offsets;  // (count + 1,): node i owns rows [offsets[i], offsets[i + 1])
  int64_t count;           // 0: nothing is pruned
  int64_t edges;           // rows kept per node
};

// R > 0.
template <class T>
void launch_select(const DeviceSelection<T>& selection, const NodeBounds& nodes, stream_t stream);

}  // namespace nasp_ext
