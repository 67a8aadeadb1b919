// SPDX-License-Identifier: MIT
// Sums over rows of the gradient of a node times its terms, of all activations at once.
#pragma once

#include "activations_simd.h"
#include "recurrent_loops.h"

namespace nasp_ext {
namespace NASP_ISA {

constexpr int64_t kDotRows = 4;    // summed up in T before they are added in double
constexpr int64_t kRowsAhead = 2;  // of what comes from memory, asked for early

// body(column, number of columns) over n columns: whole vectors, then the rest.
template <class T, class Body>
NASP_INLINE void for_columns(int64_t n, const Body& body) {
  int64_t c = 0;
  for (; c + kLanes<T> <= n; c += kLanes<T>) body(c, kLanes<T>);
  if (c < n) body(c, n - c);
}

template <class T>
void recurrent_row_dots(const RowDots<T>& dots, int64_t first_row, int64_t end_row, double* sums) {
  double totals[kNonlinearities + 1][kLanes<T>] = {};  // the last one: what all have in common
  for (int64_t first = first_row; first < end_row; first += kDotRows) {
    const int64_t end = first + kDotRows < end_row ? first + kDotRows : end_row;
    Vec<T> of_rows[kNonlinearities + 1] = {};
    for (int64_t row = first; row < end; ++row) {
      const T* const c = dots.products + 2 * row * dots.size;
      const T* const s = dots.source + row * dots.size;
      const T* const g = dots.grad + row * dots.size;
      for_columns<T>(dots.size, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
        __builtin_prefetch(g + i + kRowsAhead * dots.size);
        __builtin_prefetch(s + i + kRowsAhead * dots.size);
        const Vec<T> grad = load_upto(g + i, n), h = load_upto(c + dots.size + i, n);
        const Vec<T> gated = grad * sigmoid_of<T>(load_upto(c + i, n));
        const TanhSigmoid<T> both = tanh_and_sigmoid<T>(h);
        of_rows[kTanh] = fma(gated, both.tanh, of_rows[kTanh]);
        of_rows[kRelu] = fma(gated, relu(h), of_rows[kRelu]);
        of_rows[kSigmoid] = fma(gated, both.sigmoid, of_rows[kSigmoid]);
        of_rows[kIdentity] = fma(gated, h, of_rows[kIdentity]);
        of_rows[kNonlinearities] = fma(grad - gated, load_upto(s + i, n), of_rows[kNonlinearities]);
      });
    }
    for (int f = 0; f <= kNonlinearities; ++f) add_to<T>(totals[f], of_rows[f]);
  }
  double common = 0;
  for (int64_t i = 0; i < kLanes<T>; ++i) common += totals[kNonlinearities][i];
  for (int f = 0; f < kNonlinearities; ++f) {
    sums[f] = common;
    for (int64_t i = 0; i < kLanes<T>; ++i) sums[f] += totals[f][i];
  }
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
