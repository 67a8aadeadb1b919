// SPDX-License-Identifier: MIT
// The selection of select_active and nasp_step_ on the CPU: rows first, then the rows of each node.
#pragma once

#include <algorithm>
#include <vector>

#include "../core/rows_cpu.h"
#include "../prox/prox_rows.h"
#include "nodes.h"
#include "select_active_math.h"

namespace nasp_ext {

// Selects in rows [begin, end); tells whether an entry that exists is NaN.
template <class T>
inline bool select_rows(const Projection<T, int32_t>& p, bool keep_value, bool stream,
                        int64_t begin, int64_t end) {
  return keep_value ? project_range<ProxC>(p, stream, begin, end)
                    : project_range<OneHot>(p, stream, begin, end);
}

// Zeroes the rows of node [begin, end) that are not among its `edges` best. ranked: scratch.
template <class T>
inline void prune_node(const Projection<T, int32_t>& p, int64_t edges, int64_t begin, int64_t end,
                       std::vector<Candidate<accumulate_t<T>>>& ranked) {
  using Acc = accumulate_t<T>;
  if (end - begin <= edges) return;
  ranked.clear();
  for (int64_t r = begin; r < end; ++r) {
    const int64_t option = p.index[r];
    const Acc score = option < 0 ? Acc(0) : static_cast<Acc>(p.a[r * p.options + option]);
    const auto row = row_candidate(score, option, p.ties, r);
    if (row.index >= 0) ranked.push_back(row);
  }
  if (static_cast<int64_t>(ranked.size()) <= edges) return;
  const auto first_lost = ranked.begin() + edges;
  std::nth_element(ranked.begin(), first_lost, ranked.end(), beats<Acc>);
  for (auto row = first_lost; row != ranked.end(); ++row) {
    std::fill_n(p.values + row->index * p.options, p.options, static_cast<T>(Acc(0)));
    p.index[row->index] = static_cast<int32_t>(kPruned);
  }
}

template <class T>
inline void prune_nodes(const Projection<T, int32_t>& p, const NodeSpan& nodes) {
  std::vector<Candidate<accumulate_t<T>>> ranked;
  for (int64_t i = 0; nodes.edges > 0 && i < nodes.count; ++i)
    prune_node(p, nodes.edges, nodes.offsets[i], nodes.offsets[i + 1], ranked);
}

}  // namespace nasp_ext
