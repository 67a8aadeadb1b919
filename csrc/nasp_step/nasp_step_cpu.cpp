// SPDX-License-Identifier: MIT
// nasp_step_ on the CPU: chunks of rows are updated and, still in the cache, discretised.
#include <atomic>

#include "../common/simd.h"
#include "arguments.h"
#include "nasp_step_math.h"
#include "selection.h"

namespace nasp_ext {
namespace {

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
void check_finite(const char* what, const T* x, const RowMask& mask, const Rows& rows) {
  std::atomic<bool> finite{true};
  for_rows(rows, [&](int64_t begin, int64_t end) {
    if (!all_finite(x + begin * rows.options, (end - begin) * rows.options)) finite = false;
  });
  if (finite) return;
  for (int64_t i = 0; i < rows.count * rows.options; ++i) {
    const bool* exists = mask.row(i / rows.options, rows.options);
    if (exists && !exists[i % rows.options]) continue;
    if (!all_finite(x + i, 1))
      fail("nasp_step_: expected a finite ", what, ", found ", x[i], " in row ", i / rows.options,
           ", option ", i % rows.options,
           "; a and its state are unchanged: look at the loss, lower lr or clip");
  }
}

template <class T>
T* data_of(const InPlace& t) {
  return static_cast<T*>(t.tensor().mutable_data_ptr());
}

template <class T>
void step_typed(StepArguments& call, const StepNumbers& n, const Ties& ties, bool keep_value) {
  const int64_t options = call.rows.options;
  const int64_t chunk = std::max<int64_t>(1, kChunk / options);
  const auto rule = make_step_rule<T>(call.exp_avg.has_value(), n.step, n.lr, n.beta1, n.beta2,
                                      n.eps, n.weight_decay, n.eta);
  const Elements<T> all = {data_of<T>(call.a),
                           static_cast<const T*>(call.grad.const_data_ptr()),
                           data_of<T>(call.weight),
                           call.exp_avg ? data_of<T>(*call.exp_avg) : nullptr,
                           call.exp_avg_sq ? data_of<T>(*call.exp_avg_sq) : nullptr,
                           nullptr,
                           nullptr};
  check_finite("gradient", all.grad, call.mask, call.rows);
  check_finite("architecture matrix", all.a, call.mask, call.rows);
  Table<T> cost = {call.cost ? static_cast<const T*>(call.cost->const_data_ptr()) : nullptr,
                   call.cost_rows};
  std::vector<T> cost_rows;
  if (cost.data && cost.count == 1) {
    cost_rows = repeated(cost.data, options, std::min(chunk, call.rows.count));
    cost = {cost_rows.data(), std::min(chunk, call.rows.count)};
  }
  const Table<bool> mask = {call.mask.data, call.mask.count};
  const Projection<T, int32_t> selection = {all.a,
                                            mask.data,
                                            mask.count,
                                            options,
                                            ties,
                                            data_of<T>(call.weight),
                                            data_of<int32_t>(call.active)};
  std::atomic<bool> nan{false};
  for_rows(call.rows, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r += chunk) {
      const int64_t stop = std::min(end, r + chunk);
      update_rows(rule, all, cost, mask, options, r, stop);
      if (select_rows(selection, keep_value, false, r, stop)) nan = true;
    }
  });
  if (!nan) prune_nodes(selection, call.nodes);
  call.commit();
  if (nan) fail_nan("nasp_step_", all.a, call.mask, call.rows);
}

void nasp_step_(const Tensor& a, const Tensor& grad, const Tensor& weight,  // (R, K)
                const Tensor& active,                                       // (R,) int32
                const std::optional<Tensor>& exp_avg,                       // (R, K)
                const std::optional<Tensor>& exp_avg_sq,                    // (R, K)
                int64_t step, double lr, double beta1, double beta2, double eps,
                double weight_decay,
                const std::optional<Tensor>& cost,  // (K,) or (R, K)
                double eta, std::optional<std::vector<int64_t>> node_offsets,
                std::optional<int64_t> edges_per_node,
                const std::optional<Tensor>& mask,  // (M, K)
                bool keep_value, std::optional<int64_t> seed) {
  const StepNumbers numbers = {step, lr, beta1, beta2, eps, weight_decay, eta};
  StepArguments call = as_step_arguments(a, grad, weight, active, exp_avg, exp_avg_sq, cost,
                                         std::move(node_offsets), edges_per_node, mask, numbers);
  if (a.scalar_type() == ScalarType::Float)
    step_typed<float>(call, numbers, ties_of(seed), keep_value);
  else
    step_typed<double>(call, numbers, ties_of(seed), keep_value);
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("nasp_step_", TORCH_BOX(&nasp_ext::nasp_step_));
}
