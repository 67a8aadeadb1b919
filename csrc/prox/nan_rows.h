// SPDX-License-Identifier: MIT
// The error for a NaN in the rows of a matrix, on the CPU.
#pragma once

#include "../core/rows.h"
#include "prox_math.h"

namespace nasp_ext {

// Names the first row in which an entry that exists is NaN.
template <class T>
[[noreturn]] inline void fail_nan(const char* op, const T* a, const RowMask& mask,
                                  const RowShape& rows) {
  int64_t r = 0;
  while (r < rows.count && select_entry<ProxC>(a + r * rows.options, mask.row(r, rows.options),
                                               rows.options, Ties{}, r)
                                   .index != kNanRow)
    ++r;
  fail(op, ": expected numbers, found NaN in row ", r, " of ", rows.count,
       "; check the loss and the learning rate, a NaN has no nearest point");
}

}  // namespace nasp_ext
