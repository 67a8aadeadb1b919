// SPDX-License-Identifier: MIT
// What a step on the CPU looks at before it writes: one that would make a NaN or an infinity of A
// or of its moments is refused, and everything is left as it was.
#pragma once

#include <atomic>

#include "../core/simd.h"
#include "step_elements.h"

namespace nasp_ext {

struct Findings {
  bool bad = false;    // a number that no step can be made from
  bool moves = false;  // a gradient that is not exactly zero
};

template <bool kAdam, bool kCost, bool kMask, class T>
NASP_SIMD_CLONES Findings look(const StepRule<T>& step_rule, const Elements<T>& e, int64_t n) {
  const StepRule<T> rule = step_rule;
  int bad = 0, moves = 0;
  for (int64_t i = 0; i < n; ++i) {
    const T g = full_gradient(rule, e.grad[i], e.a[i], kCost ? e.weight[i] : T(0),
                              kCost ? e.cost[i] : T(0));
    const bool holds = kAdam ? adam_holds(rule, g, e.exp_avg[i], e.exp_avg_sq[i]) : is_finite(g);
    const bool exists = !kMask || e.mask[i];
    bad |= !holds & exists;
    moves |= e.grad[i] != T(0);
  }
  return {bad != 0, moves != 0};
}

// Says what is wrong with option k of a row that starts at `e`.
template <class T>
[[noreturn]] void explain(const StepRule<T>& rule, const Elements<T>& e, int64_t row, int64_t k) {
  const char* what = nullptr;
  T found = 0;
  const auto finite = [&](const char* name, T x) {
    if (!what && !is_finite(x)) what = name, found = x;
  };
  finite("finite gradient", e.grad[k]);
  finite("finite architecture matrix", e.a[k]);
  if (e.cost) {
    finite("finite cost", e.cost[k]);
    finite("finite weight", e.weight[k]);
  }
  if (e.exp_avg) {
    finite("finite exp_avg", e.exp_avg[k]);
    finite("finite exp_avg_sq", e.exp_avg_sq[k]);
    if (!what && e.exp_avg_sq[k] < 0) what = "exp_avg_sq >= 0", found = e.exp_avg_sq[k];
  }
  const char* unchanged = "; a and its state are unchanged: look at the loss, lower lr or clip";
  if (what)
    fail("nasp_step_: expected a ", what, ", found ", found, " in row ", row, ", option ", k,
         unchanged);
  if (e.exp_avg && rule.eps == T(0) && e.grad[k] * e.grad[k] == T(0))
    fail("nasp_step_: expected eps > 0 where a gradient is zero, found 0 / 0 in row ", row,
         ", option ", k, "; a and its state are unchanged: pass eps, 1e-8 for example");
  fail("nasp_step_: expected a gradient whose step stays finite in ",
       sizeof(T) == 4 ? "float32" : "float64", ", found one that overflows, ", e.grad[k],
       ", in row ", row, ", option ", k, unchanged);
}

// Finds out what `look` finds in all rows; fails on a bad number, before anything is written.
template <class T>
bool check_elements(const StepRule<T>& rule, const Elements<T>& all, const Table<T>& cost,
                    const Table<bool>& mask, const RowShape& rows) {
  std::atomic<bool> bad{false}, moves{false};
  for_rows(rows, [&](int64_t begin, int64_t end) {
    for_runs(all, cost, mask, rows.options, begin, end, [&](const Elements<T>& part, int64_t n) {
      for_kind(part, [&](auto adam, auto costs, auto masked) {
        const Findings found =
            look<decltype(adam)::value, decltype(costs)::value, decltype(masked)::value>(rule, part,
                                                                                         n);
        if (found.bad) bad = true;
        if (found.moves) moves = true;
      });
    });
  });
  if (!bad) return moves;
  for (int64_t i = 0; i < rows.elements(); ++i) {
    const int64_t row = i / rows.options, k = i % rows.options;
    for_runs(all, cost, mask, rows.options, row, row + 1, [&](const Elements<T>& e, int64_t) {
      for_kind(e, [&](auto adam, auto costs, auto masked) {
        if (look<decltype(adam)::value, decltype(costs)::value, decltype(masked)::value>(rule,
                                                                                         e.at(k), 1)
                .bad)
          explain(rule, e, row, k);
      });
    });
  }
  return moves;
}

}  // namespace nasp_ext
