// SPDX-License-Identifier: MIT
// select_active and nasp_step_ on the device against the row arithmetic run by plain loops, bit for
// bit.
#include <limits>

#include "../nasp_step/nasp_step_kernel.h"
#include "kernel_testing.h"

namespace {

using namespace nasp_ext;
using namespace nasp_ext::testing;

struct Case {
  int64_t rows, options, mask_rows;  // mask_rows 0: no mask
  std::vector<int64_t> offsets;      // empty: nothing is pruned
  bool random_ties, keep_value, misaligned, nan;

  const bool* mask_row(const Array<bool>& mask, int64_t row) const {
    return mask_rows ? mask.data() + row % mask_rows * options : nullptr;
  }
  Ties ties() const { return {random_ties, 5}; }
  NodeBounds nodes() const {
    return {offsets.data(), offsets.empty() ? 0 : static_cast<int64_t>(offsets.size()) - 1, 2};
  }
  void describe(const char* type) const {
    describe_case(type, "rows", rows, "options", options, "mask", mask_rows, "nodes",
                  offsets.size(), "random", random_ties, "keep", keep_value, "misaligned",
                  misaligned, "nan", nan);
  }
};

const std::vector<int64_t> kDarts = {0, 2, 5, 9, 14, 16, 19, 23, 28};
const Case kCases[] = {
    {1, 1, 0, {}, false, false, false, false},
    {28, 8, 0, kDarts, false, false, false, false},
    {28, 8, 14, kDarts, true, true, false, false},
    {28, 8, 28, kDarts, false, false, false, true},
    {28, 7, 28, {}, true, true, false, true},
    {300, 8, 0, {}, false, true, false, false},
    {300, 8, 3, {}, true, false, false, true},
    {28, 8, 0, {}, false, false, true, false},
    {70, 3, 0, {0, 1, 69, 70}, true, true, false, false},  // a node of more rows than a warp
};

template <class T>
struct Result {
  Array<T> weight;
  Array<int32_t> active;
};

// finite: whether the row's gradient was.
template <class T>
Result<T> expected_selection(const Case& c, const Array<T>& a, const Array<bool>& mask,
                             const std::vector<bool>& finite) {
  using Acc = accumulate_t<T>;
  Result<T> result{Array<T>(c.rows * c.options), Array<int32_t>(c.rows)};
  const Array<Acc> scores(c.rows);
  const Array<int32_t> chosen(c.rows);
  for (int64_t r = 0; r < c.rows; ++r) {
    const auto best =
        select_entry<ProxC>(a.data() + r * c.options, c.mask_row(mask, r), c.options, c.ties(), r);
    scores[r] = best.score;
    chosen[r] = static_cast<int32_t>(finite[r] ? best.index : kNanRow);
    result.active[r] = chosen[r];
  }
  for (size_t node = 0; node + 1 < c.offsets.size(); ++node) {
    for (int64_t r = c.offsets[node]; r < c.offsets[node + 1]; ++r) {
      const bool kept = row_survives(scores.data(), chosen.data(), c.offsets[node],
                                     c.offsets[node + 1], r, 2, c.ties());
      if (chosen[r] >= 0 && !kept) result.active[r] = static_cast<int32_t>(kPruned);
    }
  }
  for (int64_t i = 0; i < c.rows * c.options; ++i) {
    result.weight[i] =
        weight_entry(a[i], i % c.options, int64_t{result.active[i / c.options]}, c.keep_value);
  }
  return result;
}

template <class T>
DeviceSelection<T> selection(const Case& c, const T* a, const Array<bool>& mask,
                             const Array<T>& weight, const Array<int32_t>& active,
                             const Array<accumulate_t<T>>& scores, const Array<int32_t>& chosen) {
  const bool prune = !c.offsets.empty();
  return {a,
          c.mask_rows ? mask.input("mask") : nullptr,
          c.mask_rows,
          c.rows,
          c.options,
          c.ties(),
          c.keep_value,
          weight.data(),
          active.output("active"),
          prune ? scores.output("scores") : nullptr,
          prune ? chosen.output("chosen") : nullptr};
}

template <class T>
void check_select(const Case& c) {
  c.describe(type_name<T>());
  const int64_t size = c.rows * c.options;
  const Array<T> a = coarse_numbers<T>(size, 1, c.misaligned);
  if (c.nan) a[size / 2] = static_cast<T>(std::numeric_limits<float>::quiet_NaN());
  const Array<bool> mask = random_mask(c.mask_rows * c.options, c.options, 2);
  const auto expected = expected_selection(c, a, mask, std::vector<bool>(c.rows, true));
  in_every_order([&] {
    const Array<T> weight(size, c.misaligned);
    const Array<int32_t> active(c.rows), chosen(c.rows);
    const Array<accumulate_t<T>> scores(c.rows);
    weight.output("weight");
    launch_select(selection(c, a.input("a"), mask, weight, active, scores, chosen), c.nodes(),
                  nullptr);
    CHECK(same_bits(active, expected.active));
    CHECK(same_bits(weight, expected.weight));
  });
}

template <class T>
struct State {
  Array<T> a, weight, exp_avg, exp_avg_sq;
  State copy() const { return {a.copy(), weight.copy(), exp_avg.copy(), exp_avg_sq.copy()}; }
};

template <class T>
struct StepInputs {
  Array<T> grad, cost;
  int64_t cost_rows;  // 0: no cost
  bool adam;
  StepRule<T> rule;
};

// Updates `s` as nasp_step_ must; returns which rows had only numbers to make a step from.
template <class T>
std::vector<bool> expected_step(const Case& c, const StepInputs<T>& in, const Array<bool>& mask,
                                State<T>& s) {
  std::vector<bool> finite(c.rows, true);
  for (int64_t i = 0; i < c.rows * c.options; ++i) {
    const bool* exists = c.mask_row(mask, i / c.options);
    if (exists && !exists[i % c.options]) continue;
    bool good = is_finite(in.grad[i]) && is_finite(s.a[i]);
    if (in.adam)
      good &= is_finite(s.exp_avg[i]) && is_finite(s.exp_avg_sq[i]) && s.exp_avg_sq[i] >= 0;
    if (in.cost_rows) good &= is_finite(in.cost[in.cost_rows == 1 ? i % c.options : i]);
    if (!good) finite[i / c.options] = false;
  }
  for (int64_t i = 0; i < c.rows * c.options; ++i) {
    const int64_t row = i / c.options, k = i % c.options;
    const bool* exists = c.mask_row(mask, row);
    if (!finite[row] || (exists && !exists[k])) continue;
    const T cost = in.cost_rows ? in.cost[in.cost_rows == 1 ? k : i] : T(0);
    const T g = full_gradient(in.rule, in.grad[i], s.a[i], in.cost_rows ? s.weight[i] : T(0), cost);
    s.a[i] = in.adam ? adam_step(in.rule, s.a[i], g, s.exp_avg[i], s.exp_avg_sq[i])
                     : plain_step(in.rule, s.a[i], g);
  }
  return finite;
}

enum class Damage { grad, a, exp_avg, exp_avg_sq, cost };  // of one number, in the cases with a NaN

template <class T>
void check_step(const Case& c, bool adam, int64_t cost_rows, Damage damage) {
  c.describe(type_name<T>());
  const int64_t size = c.rows * c.options;
  const StepInputs<T> in{normal_numbers<T>(size, 1, c.misaligned),
                         normal_numbers<T>(cost_rows * c.options, 2), cost_rows, adam,
                         make_step_rule<T>(adam, 3, 0.1, 0.5, 0.999, 1e-8, 1e-3, 0.25)};
  const Array<bool> mask = random_mask(c.mask_rows * c.options, c.options, 3);
  const State<T> start{coarse_numbers<T>(size, 4, c.misaligned),
                       normal_numbers<T>(size, 5, c.misaligned), normal_numbers<T>(size, 6),
                       normal_numbers<T>(size, 7)};
  for (int64_t i = 0; i < size; ++i) start.exp_avg_sq[i] *= start.exp_avg_sq[i];
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  if (c.nan && damage == Damage::grad) in.grad[size / 2] = kInfinity;
  if (c.nan && damage == Damage::a) start.a[size / 2] = kInfinity;
  if (c.nan && damage == Damage::exp_avg) start.exp_avg[size / 2] = kInfinity - kInfinity;
  if (c.nan && damage == Damage::exp_avg_sq) start.exp_avg_sq[size / 2] = T(-1);
  if (c.nan && damage == Damage::cost && cost_rows) in.cost[cost_rows * c.options / 2] = kInfinity;
  State<T> expected = start.copy();
  const auto finite = expected_step(c, in, mask, expected);
  const auto chosen_rows = expected_selection(c, expected.a, mask, finite);
  in_every_order([&] {
    const State<T> s = start.copy();
    const Array<int32_t> active(c.rows), chosen(c.rows);
    const Array<T> scores(c.rows);
    s.weight.in_place("weight");
    const DeviceStep<T> step{s.a.in_place("a"),
                             in.grad.input("grad"),
                             adam ? s.exp_avg.in_place("exp_avg") : nullptr,
                             adam ? s.exp_avg_sq.in_place("exp_avg_sq") : nullptr,
                             cost_rows ? in.cost.input("cost") : nullptr,
                             cost_rows,
                             in.rule};
    launch_nasp_step(selection(c, step.a, mask, s.weight, active, scores, chosen), step, c.nodes(),
                     nullptr);
    CHECK(same_bits(s.a, expected.a));
    CHECK(same_bits(s.exp_avg, expected.exp_avg));
    CHECK(same_bits(s.exp_avg_sq, expected.exp_avg_sq));
    CHECK(same_bits(active, chosen_rows.active));
    CHECK(same_bits(s.weight, chosen_rows.weight));
  });
}

template <class T>
void check_steps() {
  for (const Case& c : kCases) {
    for (const Damage damage :
         {Damage::grad, Damage::a, Damage::exp_avg, Damage::exp_avg_sq, Damage::cost}) {
      if (!c.nan && damage != Damage::grad) continue;
      check_step<T>(c, true, 1, damage);
      check_step<T>(c, true, c.rows, damage);
      check_step<T>(c, false, 0, damage);
    }
  }
}

}  // namespace

TEST(select_active_on_the_device_has_the_bits_of_the_row_arithmetic) {
  for_every_type([](auto type) {
    for (const Case& c : kCases) check_select<decltype(type)>(c);
  });
}

TEST(nasp_step_on_the_device_has_the_bits_of_the_row_arithmetic) {
  check_steps<float>();
  check_steps<double>();
}

TEST(nodes_beyond_one_launch_are_pruned_too) {
  Case c{600 * 3, 2, 0, {}, false, false, false, false};
  for (int64_t i = 0; i <= 600; ++i) c.offsets.push_back(3 * i);
  check_select<float>(c);
}
