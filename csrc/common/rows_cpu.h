// SPDX-License-Identifier: MIT
// Rows on the CPU: threads, and the error for a NaN.
#pragma once

#include "parallel.h"
#include "rows.h"

namespace nasp_ext {

constexpr int64_t kThreadElements = 32768;  // below this a second thread costs more than it saves

// body(begin, end) over all rows, in threads.
template <class Body>
inline void for_rows(const RowShape& rows, const Body& body) {
  if (rows.elements() <= kThreadElements) {
    if (rows.count) body(0, rows.count);
    return;
  }
  parallel_for(0, rows.count, 1 + kThreadElements / rows.options, body);
}

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
