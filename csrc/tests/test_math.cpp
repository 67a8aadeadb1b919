// SPDX-License-Identifier: MIT
// The row arithmetic and the CPU's row code, by hand and by brute force; built with the address and
// undefined-behaviour sanitizers, on heap blocks of exactly the size needed.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>

#include "../branch_dots/branch_dots_math.h"
#include "../mixed_sum/mixed_sum_math.h"
#include "../nasp_step/nasp_step_math.h"
#include "../prox/prox_rows.h"
#include "../select_active/select_active_math.h"
#include "testing.h"

namespace {

using namespace nasp_ext;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

int64_t chosen(const std::vector<float>& a, const bool* mask = nullptr, Ties ties = {}) {
  return select_entry<ProxC>(a.data(), mask, static_cast<int64_t>(a.size()), ties, 0).index;
}

// Half the squared distance from a to the projected row.
double cost_of_projection(const std::vector<float>& a) {
  const int64_t index = chosen(a);
  double sum = 0.0;
  for (size_t k = 0; k < a.size(); ++k) {
    const double kept = projected_entry<ProxC>(a[k], static_cast<int64_t>(k), index);
    sum += 0.5 * (a[k] - kept) * (a[k] - kept);
  }
  return sum;
}

// The least of it over all points with one entry in {0, 1/4, ..., 1}; a is a multiple of 1/4.
double least_cost(const std::vector<float>& a) {
  double least = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < a.size(); ++i) {
    for (int c = 0; c <= 4; ++c) {
      double sum = 0.0;
      for (size_t k = 0; k < a.size(); ++k) {
        const double difference = a[k] - (k == i ? c / 4.0 : 0.0);
        sum += 0.5 * difference * difference;
      }
      least = std::min(least, sum);
    }
  }
  return least;
}

std::vector<float> coarse_row(std::mt19937& random, size_t options) {
  std::vector<float> row(options);
  for (float& x : row) x = static_cast<float>(static_cast<int>(random() % 13) - 4) / 4.0f;
  return row;
}

template <class T>
std::unique_ptr<T[]> exact_copy(const std::vector<float>& values) {
  auto copy = std::make_unique<T[]>(values.size());
  for (size_t i = 0; i < values.size(); ++i) copy[i] = static_cast<T>(values[i]);
  return copy;
}

template <class Prox, class T>
void check_range(int64_t rows, int64_t options, int64_t mask_rows, bool stream) {
  nasp_ext::testing::context = std::to_string(rows) + " rows of " + std::to_string(options) +
                               ", mask rows " + std::to_string(mask_rows);
  std::mt19937 random(static_cast<unsigned>(options));
  const auto size = static_cast<size_t>(rows * options);
  const auto a = exact_copy<T>(coarse_row(random, size));
  const auto mask = std::make_unique<bool[]>(static_cast<size_t>(mask_rows * options));
  for (int64_t i = 0; i < mask_rows * options; ++i) mask[i] = random() % 3 != 0;
  const auto values = std::make_unique<T[]>(size);
  const auto index = std::make_unique<int64_t[]>(static_cast<size_t>(rows));
  const Projection<T, int64_t> p{
      a.get(),    mask_rows ? mask.get() : nullptr, mask_rows, options, Ties{}, values.get(),
      index.get()};
  CHECK(!project_range<Prox>(p, stream, 0, rows));
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = a.get() + r * options;
    const int64_t expected = select_entry<Prox>(row, p.mask_row(r), options, Ties{}, r).index;
    CHECK(index[r] == expected);
    for (int64_t k = 0; k < options; ++k) {
      CHECK(values[r * options + k] == projected_entry<Prox>(row[k], k, expected));
    }
  }
}

}  // namespace

TEST(the_largest_unclipped_entry_is_kept_and_clipped) {
  const std::vector<float> a = {0.2f, 1.5f, 1.2f};
  CHECK(chosen(a) == 1);
  CHECK(projected_entry<ProxC>(a[1], 1, 1) == 1.0f);
  CHECK(projected_entry<ProxC>(a[2], 2, 1) == 0.0f);
}

TEST(a_row_without_a_positive_entry_projects_to_zero) {
  const std::vector<float> a = {-0.5f, -0.25f};
  CHECK(chosen(a) == 1);
  CHECK(projected_entry<ProxC>(a[1], 1, 1) == 0.0f);
}

TEST(prox_c_is_the_nearest_point_of_the_set) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 500; ++trial) {
    const std::vector<float> a = coarse_row(random, 1 + random() % 5);
    CHECK(cost_of_projection(a) == least_cost(a));
  }
}

TEST(prox_c1_keeps_the_entry_of_largest_magnitude_unchanged) {
  const std::vector<float> a = {0.2f, -1.5f, 1.2f};
  CHECK(select_entry<ProxC1>(a.data(), nullptr, 3, Ties{}, 0).index == 1);
  CHECK(projected_entry<ProxC1>(a[1], 1, 1) == -1.5f);
}

TEST(equal_entries_are_broken_by_the_lowest_index_or_by_the_seed) {
  CHECK(chosen({0.5f, 0.5f, 0.5f}) == 0);
  std::vector<int> wins(3);
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    ++wins[chosen({0.5f, 0.5f, 0.5f}, nullptr, Ties{true, seed})];
  }
  for (const int n : wins) CHECK(n > 900 && n < 1100);  // 4 standard deviations: 103
}

TEST(a_masked_option_is_never_chosen) {
  const bool mask[] = {true, false, true}, none[] = {false, false, false};
  CHECK(chosen({0.1f, 0.9f, 0.2f}, mask) == 2);
  CHECK(chosen({0.1f, kNan, 0.2f}, mask) == 2);
  CHECK(chosen({0.1f, 0.9f, 0.2f}, none) == kPruned);
}

TEST(a_nan_marks_its_row_wherever_it_stands) {
  CHECK(chosen({kNan, 0.5f, 0.6f}) == kNanRow);
  CHECK(chosen({0.5f, 0.6f, kNan}) == kNanRow);
  CHECK(is_nan(projected_entry<ProxC>(0.5f, 0, kNanRow)));
}

TEST(the_best_candidate_does_not_depend_on_the_order) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<float> a = coarse_row(random, 7);
    if (trial % 4 == 0) a[3] = kNan;
    const Ties ties{trial % 2 == 0, static_cast<uint64_t>(trial)};
    std::vector<int64_t> order(7);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    auto best = no_candidate<float>();
    for (const int64_t k : order)
      best = better(best, entry_candidate<ProxC>(a[k], k != 5, ties, 0, k));
    const bool mask[] = {true, true, true, true, true, false, true};
    CHECK(best.index == chosen(a, mask, ties));
  }
}

TEST(the_vector_code_of_the_cpu_agrees_with_the_row_arithmetic) {
  for (int64_t options = 1; options <= 9; ++options) {
    for (const int64_t rows : {1, 2, 3, 17}) {
      for (const int64_t mask_rows : {int64_t{0}, int64_t{1}, rows}) {
        check_range<ProxC, float>(rows, options, mask_rows, false);
        check_range<ProxC1, float>(rows, options, mask_rows, false);
        check_range<ProxC, double>(rows, options, mask_rows, false);
        check_range<ProxC1, double>(rows, options, mask_rows, false);
      }
    }
  }
  check_range<ProxC, float>(17, 8, 0, true);
  check_range<ProxC, double>(17, 8, 0, true);
}

TEST(as_many_rows_survive_as_a_node_keeps) {
  const float score[] = {0.1f, 0.9f, 0.5f, 0.9f, 0.7f};
  const int32_t option[] = {0, 1, 0, 2, static_cast<int32_t>(kPruned)};
  std::vector<int64_t> kept;
  for (int64_t r = 0; r < 5; ++r) {
    if (row_survives(score, option, 0, 5, r, 2, Ties{})) kept.push_back(r);
  }
  CHECK(kept == (std::vector<int64_t>{1, 3}));
}

TEST(a_weight_entry_is_one_or_the_clipped_value) {
  CHECK(weight_entry(0.25f, 1, 1, false) == 1.0f);
  CHECK(weight_entry(0.25f, 1, 1, true) == 0.25f);
  CHECK(weight_entry(1.5f, 1, 1, true) == 1.0f);
  CHECK(weight_entry(0.25f, 0, 1, false) == 0.0f);
  CHECK(weight_entry(0.25f, 0, kPruned, true) == 0.0f);
}

// Bias correction makes both moments of a constant gradient g exactly g and g^2.
TEST(adam_along_a_constant_gradient_moves_by_the_learning_rate) {
  double a = 0.5, first = 0.0, second = 0.0;
  for (int64_t step = 1; step <= 3; ++step) {
    const auto rule = make_step_rule<double>(true, step, 0.1, 0.5, 0.75, 0.0, 0.0, 0.0);
    a = adam_step(rule, a, 2.0, first, second);
    CHECK(std::abs(a - (0.5 - 0.1 * static_cast<double>(step))) < 1e-15);
  }
  CHECK(first == 1.75 && second == 4.0 * (1.0 - 0.421875));  // 1 - 0.5^3, 1 - 0.75^3
}

TEST(a_plain_step_ends_in_the_box) {
  const auto rule = make_step_rule<double>(false, 1, 0.25, 0.5, 0.999, 0.0, 0.5, 2.0);
  CHECK(full_gradient(rule, 1.0, 0.5, 1.0, 0.25) == 1.0 + 4.0 * 0.25 + 0.25);
  CHECK(plain_step(rule, 0.5, 1.0) == 0.25);
  CHECK(plain_step(rule, 0.5, 10.0) == 0.0);
  CHECK(plain_step(rule, 0.5, -10.0) == 1.0);
}

TEST(the_summation_tree_adds_every_term_once) {
  float lane[kDotLanes];
  std::iota(lane, lane + kDotLanes, 1.0f);
  CHECK(lane_tree(lane) == 528.0f);
  std::vector<float> sums(100);
  std::iota(sums.begin(), sums.end(), 1.0f);
  CHECK(blocks_total(sums.data(), 100, 1) == 5050.0);
  CHECK(blocks_total(sums.data(), 50, 2) == 2500.0);  // 1 + 3 + ... + 99
  CHECK(dot_blocks(0) == 0 && dot_blocks(kDotBlock) == 1 && dot_blocks(kDotBlock + 1) == 2);
  CHECK(dot_next(1.0f, 2.0f, 3.0f) == 7.0f);
  CHECK(mix_next(mix_first(2.0f, 3.0f), 4.0f, 5.0f) == 26.0f);
}
