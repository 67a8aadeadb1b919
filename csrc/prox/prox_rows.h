// SPDX-License-Identifier: MIT
// A range of rows projected on the CPU, by the fastest way that the row length and the dtype allow.
#pragma once

#include "prox_simd.h"

namespace nasp_ext {

// A prox call as plain pointers.
template <class T, class Index>
struct Projection {
  const T* a;        // (rows, options)
  const bool* mask;  // (mask_rows, options) or null
  int64_t mask_rows;
  int64_t options;
  Ties ties;
  T* values;     // (rows, options)
  Index* index;  // (rows,)

  const bool* mask_row(int64_t r) const {
    return mask ? mask + (r % mask_rows) * options : nullptr;
  }
};

// Rows [begin, end), any K; tells whether an entry that exists is NaN.
template <class Prox, class T, class Index>
inline bool project_rows(const Projection<T, Index>& p, int64_t begin, int64_t end) {
  bool nan = false;
  for (int64_t r = begin; r < end; ++r) {
    const T* row = p.a + r * p.options;
    const int64_t chosen = select_entry<Prox>(row, p.mask_row(r), p.options, p.ties, r).index;
    for (int64_t k = 0; k < p.options; ++k)
      p.values[r * p.options + k] = projected_entry<Prox>(row[k], k, chosen);
    p.index[r] = static_cast<Index>(chosen);
    nan |= chosen == kNanRow;
  }
  return nan;
}

template <class Prox, class T, class Index, bool kMasked, bool kStream>
inline bool project_rows_by_vector(const Projection<T, Index>& p, int64_t begin, int64_t end) {
  int64_t done = begin;
  const bool nan = project_rows8<Prox, T, Index, kMasked, kStream>(
      p.a, p.mask, p.mask_rows, p.options, begin, end, p.values, p.index, done);
  return project_rows<Prox>(p, done, end) || nan;
}

// Moves what row r keeps to the largest key of the entries that exist and tie with it.
template <class Prox, class T, class Index>
inline void break_tie(const Projection<T, Index>& p, int64_t r) {
  const int64_t first = p.index[r];
  if (first < 0) return;
  const T* row = p.a + r * p.options;
  const bool* mask = p.mask_row(r);
  const T top = Prox::score(row[first]);
  int64_t chosen = first;
  for (int64_t k = first + 1; k < p.options; ++k)
    if (Prox::score(row[k]) == top && (!mask || mask[k]) &&
        p.ties.key(r, k) > p.ties.key(r, chosen))
      chosen = k;
  if (chosen == first) return;
  T* values = p.values + r * p.options;
  values[first] = projected_entry<Prox>(row[first], first, chosen);
  values[chosen] = projected_entry<Prox>(row[chosen], chosen, chosen);
  p.index[r] = static_cast<Index>(chosen);
}

// By vectors the lowest index wins; where ties are random, those there are are broken afterwards.
template <class Prox, class T, class Index>
inline bool project_range(const Projection<T, Index>& p, bool stream, int64_t begin, int64_t end) {
  if constexpr (std::is_floating_point_v<T>) {
    if (p.options <= 8) {
      const bool nan = p.mask ? project_rows_by_vector<Prox, T, Index, true, false>(p, begin, end)
                       : stream
                           ? project_rows_by_vector<Prox, T, Index, false, true>(p, begin, end)
                           : project_rows_by_vector<Prox, T, Index, false, false>(p, begin, end);
      for (int64_t r = begin; p.ties.random && !nan && r < end; ++r) break_tie<Prox>(p, r);
      return nan;
    }
  }
  return project_rows<Prox>(p, begin, end);
}

}  // namespace nasp_ext
