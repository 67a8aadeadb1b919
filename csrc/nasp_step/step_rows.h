// SPDX-License-Identifier: MIT
// The architecture step on the CPU, as plain pointers: first all numbers are looked at, then chunks
// of rows are updated and, still in the cache, discretised.
#pragma once

#include <vector>

#include "../select_active/select_rows.h"
#include "step_check.h"

namespace nasp_ext {

constexpr int64_t kChunk = 4096;  // elements updated before their selection: stay in L1 and L2

template <bool kAdam, bool kCost, bool kMask, class T>
NASP_SIMD_CLONES void update(const StepRule<T>& step_rule, const Elements<T>& e, int64_t n) {
  const StepRule<T> rule = step_rule;
  T* __restrict__ a = e.a;
  T* __restrict__ exp_avg = e.exp_avg;
  T* __restrict__ exp_avg_sq = e.exp_avg_sq;
  const T* __restrict__ grad = e.grad;
  const T* __restrict__ weight = e.weight;
  const T* __restrict__ cost = e.cost;
  const bool* __restrict__ mask = e.mask;
  for (int64_t i = 0; i < n; ++i) {
    const T x = a[i];
    const T g = full_gradient(rule, grad[i], x, kCost ? weight[i] : T(0), kCost ? cost[i] : T(0));
    if constexpr (kAdam) {
      T first = exp_avg[i], second = exp_avg_sq[i];
      const T moved = adam_step(rule, x, g, first, second);
      a[i] = !kMask || mask[i] ? moved : x;
      exp_avg[i] = !kMask || mask[i] ? first : exp_avg[i];
      exp_avg_sq[i] = !kMask || mask[i] ? second : exp_avg_sq[i];
    } else {
      a[i] = !kMask || mask[i] ? plain_step(rule, x, g) : x;
    }
  }
}

// One row of a table written `count` times, so that runs are long.
template <class T>
std::vector<T> repeated(const T* row, int64_t options, int64_t count) {
  std::vector<T> table;
  table.reserve(static_cast<size_t>(options * count));
  for (int64_t i = 0; i < count; ++i) table.insert(table.end(), row, row + options);
  return table;
}

// What one step reads and writes. Everything is contiguous.
template <class T>
struct StepMemory {
  RowShape rows;
  Elements<T> matrix;  // its cost and mask are unused
  T* weight;           // (R, K)
  int32_t* active;     // (R,)
  Table<T> cost;
  RowMask mask;
  NodeSpan nodes;
};

// Returns whether a gradient is not exactly zero. Fails before anything is written, never after.
template <class T>
bool run_step(const StepMemory<T>& memory, const StepNumbers& numbers, const Ties& ties,
              bool keep_value) {
  const RowShape& rows = memory.rows;
  const int64_t chunk = std::max<int64_t>(1, kChunk / rows.options);
  const auto rule = checked_rule<T>(numbers, memory.matrix.exp_avg != nullptr);
  Table<T> cost = memory.cost;
  std::vector<T> cost_rows;
  if (cost.data && cost.count == 1) {
    const int64_t count = std::max<int64_t>(1, std::min(chunk, rows.count));
    cost_rows = repeated(cost.data, rows.options, count);
    cost = {cost_rows.data(), count};
  }
  const Table<bool> mask = {memory.mask.data, memory.mask.count};
  const bool moves = check_elements(rule, memory.matrix, cost, mask, rows);
  const Projection<T, int32_t> selection = {
      memory.matrix.a, mask.data, mask.count, rows.options, ties, memory.weight, memory.active};
  for_rows(rows, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r += chunk) {
      const int64_t stop = std::min(end, r + chunk);
      for_runs(memory.matrix, cost, mask, rows.options, r, stop,
               [&](const Elements<T>& part, int64_t n) {
                 for_kind(part, [&](auto adam, auto costs, auto masked) {
                   update<decltype(adam)::value, decltype(costs)::value, decltype(masked)::value>(
                       rule, part, n);
                 });
               });
      select_rows(selection, keep_value, false, r, stop);
    }
  });
  prune_nodes(selection, memory.nodes);
  return moves;
}

}  // namespace nasp_ext
