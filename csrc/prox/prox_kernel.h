// SPDX-License-Identifier: MIT
// Launchers of the proximal operators on the device, on raw pointers.
#pragma once
#include "../core/stream.h"
#include "prox_math.h"

namespace nasp_ext {

template <class T>
struct DeviceProjection {
  const T* a;        // (R, K)
  const bool* mask;  // (mask_rows, K) or null; row r reads mask row r % mask_rows
  int64_t mask_rows;
  int64_t rows;
  int64_t options;
  Ties ties;
  T* values;       // (R, K)
  int64_t* index;  // (R,); kNanRow where an entry that exists is NaN

  NASP_HOST_DEVICE const bool* mask_row(int64_t row) const {
    return mask ? mask + row % mask_rows * options : nullptr;
  }
};

// Prox: ProxC or ProxC1. R > 0.
template <class Prox, class T>
void launch_projection(const DeviceProjection<T>& projection, stream_t stream);

template <class T>
struct Clip {
  const T* a;        // (R, K), `count` entries in all
  const bool* mask;  // `mask_count` entries, repeated over a, or null
  int64_t mask_count;
  int64_t count;
  T* values;  // (R, K)
};

// count > 0.
template <class T>
void launch_clip(const Clip<T>& clip, stream_t stream);

}  // namespace nasp_ext
