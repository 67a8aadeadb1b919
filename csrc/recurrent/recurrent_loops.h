// SPDX-License-Identifier: MIT
// The passes of a recurrent cell on a part of the (B, H) numbers, compiled for several instruction
// sets. csrc/isa chooses when called.
#pragma once

#include "passes.h"

namespace nasp_ext {

struct Part {
  int64_t first_row, end_row, first_column, end_column;

  int64_t columns() const { return end_column - first_column; }
};

// Room of a part for two numbers of each of its columns, padded to whole vectors: sums, and what
// follows from them.
template <class T>
struct ColumnPairs {
  double* sums;  // (2, pad)
  T* values;     // (2, pad)
  int64_t pad;
};

template <class T>
struct RecurrentLoops {
  int64_t lanes;  // to which columns are padded
  // With statistics of the batch a part has all rows.
  void (*node_forward)(const NodeForward<T>&, const Part&, const ColumnPairs<T>&);
  void (*output_forward)(const OutputForward<T>&, const Part&);
  void (*output_backward)(const OutputBackward<T>&, const Part&);
  void (*node_backward)(const NodeBackward<T>&, const Part&, const ColumnPairs<T>&);
  void (*row_dots)(const RowDots<T>&, int64_t first_row, int64_t end_row, double* sums);
};

template <class T>
const RecurrentLoops<T>& recurrent_loops();

}  // namespace nasp_ext
