// SPDX-License-Identifier: MIT
// Rows on the CPU, over threads.
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

}  // namespace nasp_ext
