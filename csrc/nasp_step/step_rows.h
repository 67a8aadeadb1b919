// SPDX-License-Identifier: MIT
// The architecture step on the CPU, as plain pointers: chunks of rows are updated and, still in the
// cache, discretised.
#pragma once

#include <atomic>
#include <vector>

#include "../common/simd.h"
#include "arguments.h"
#include "nasp_step_math.h"
#include "selection.h"

namespace nasp_ext {

constexpr int64_t kChunk = 4096;  // elements updated before their selection: stay in L1 and L2

// `n` consecutive elements. mask and cost may be null, exp_avg is null for the plain step.
template <class T>
struct Elements {
  T* a;
  const T* grad;
  const T* weight;
  T* exp_avg;
  T* exp_avg_sq;
  const T* cost;
  const bool* mask;

  Elements from(int64_t i) const {
    return {a + i,
            grad + i,
            weight + i,
            exp_avg ? exp_avg + i : nullptr,
            exp_avg_sq ? exp_avg_sq + i : nullptr,
            cost,
            mask};
  }
};

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

template <bool kAdam, class T>
void update_kind(const StepRule<T>& rule, const Elements<T>& e, int64_t n) {
  if (e.cost)
    e.mask ? update<kAdam, true, true>(rule, e, n) : update<kAdam, true, false>(rule, e, n);
  else
    e.mask ? update<kAdam, false, true>(rule, e, n) : update<kAdam, false, false>(rule, e, n);
}

// A (count, K) table that repeats over the rows.
template <class T>
struct Table {
  const T* data = nullptr;
  int64_t count = 1;
};

// Rows [begin, end), in runs over which mask and cost are contiguous.
template <class T>
void update_rows(const StepRule<T>& rule, const Elements<T>& all, const Table<T>& cost,
                 const Table<bool>& mask, int64_t options, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end;) {
    int64_t rows = end - r;
    Elements<T> part = all.from(r * options);
    if (mask.data) {
      rows = std::min(rows, mask.count - r % mask.count);
      part.mask = mask.data + r % mask.count * options;
    }
    if (cost.data) {
      rows = std::min(rows, cost.count - r % cost.count);
      part.cost = cost.data + r % cost.count * options;
    }
    if (all.exp_avg)
      update_kind<true>(rule, part, rows * options);
    else
      update_kind<false>(rule, part, rows * options);
    r += rows;
  }
}

// One row of a table written `count` times, so that the runs of update_rows are long.
template <class T>
std::vector<T> repeated(const T* row, int64_t options, int64_t count) {
  std::vector<T> table;
  table.reserve(static_cast<size_t>(options * count));
  for (int64_t i = 0; i < count; ++i) table.insert(table.end(), row, row + options);
  return table;
}

// x - x is 0 for a finite x, and NaN otherwise.
template <class T>
NASP_SIMD_CLONES bool all_finite(const T* x, int64_t n) {
  int bad = 0;
  for (int64_t i = 0; i < n; ++i) bad |= x[i] - x[i] == T(0) ? 0 : 1;
  return bad == 0;
}

// Before anything is written: a step from or along a number that is not finite would ruin A and its
// state.
template <class T>
void check_finite(const char* what, const T* x, const RowMask& mask, const RowShape& rows) {
  std::atomic<bool> finite{true};
  for_rows(rows, [&](int64_t begin, int64_t end) {
    if (!all_finite(x + begin * rows.options, (end - begin) * rows.options)) finite = false;
  });
  if (finite) return;
  for (int64_t i = 0; i < rows.elements(); ++i) {
    const bool* exists = mask.row(i / rows.options, rows.options);
    if (exists && !exists[i % rows.options]) continue;
    if (!all_finite(x + i, 1))
      fail("nasp_step_: expected a finite ", what, ", found ", x[i], " in row ", i / rows.options,
           ", option ", i % rows.options,
           "; a and its state are unchanged: look at the loss, lower lr or clip");
  }
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

// Tells whether the step itself made a NaN, by overflow; `memory` is then written all the same.
template <class T>
bool run_step(const StepMemory<T>& memory, const StepNumbers& n, const Ties& ties,
              bool keep_value) {
  const RowShape& rows = memory.rows;
  const int64_t chunk = std::max<int64_t>(1, kChunk / rows.options);
  const auto rule = make_step_rule<T>(memory.matrix.exp_avg != nullptr, n.step, n.lr, n.beta1,
                                      n.beta2, n.eps, n.weight_decay, n.eta);
  check_finite("gradient", memory.matrix.grad, memory.mask, rows);
  check_finite("architecture matrix", memory.matrix.a, memory.mask, rows);
  Table<T> cost = memory.cost;
  std::vector<T> cost_rows;
  if (cost.data && cost.count == 1) {
    cost_rows = repeated(cost.data, rows.options, std::min(chunk, rows.count));
    cost = {cost_rows.data(), std::min(chunk, rows.count)};
  }
  const Table<bool> mask = {memory.mask.data, memory.mask.count};
  const Projection<T, int32_t> selection = {
      memory.matrix.a, mask.data, mask.count, rows.options, ties, memory.weight, memory.active};
  std::atomic<bool> nan{false};
  for_rows(rows, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r += chunk) {
      const int64_t stop = std::min(end, r + chunk);
      update_rows(rule, memory.matrix, cost, mask, rows.options, r, stop);
      if (select_rows(selection, keep_value, false, r, stop)) nan = true;
    }
  });
  if (!nan) prune_nodes(selection, memory.nodes);
  return nan;
}

}  // namespace nasp_ext
