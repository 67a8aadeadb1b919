// SPDX-License-Identifier: MIT
// The prox kernels against the row arithmetic run by one plain loop, bit for bit.
#include "../prox/prox_kernel.h"

#include <cmath>
#include <limits>

#include "kernel_testing.h"

namespace {

using namespace nasp_ext;
using namespace nasp_ext::testing;

struct Case {
  int64_t rows, options, mask_rows;  // mask_rows 0: no mask
  bool random_ties, misaligned, nan;
};

template <class Prox, class T>
void check_projection(const Case& c) {
  describe_case(type_name<T>(), "rows", c.rows, "options", c.options, "mask", c.mask_rows, "random",
                c.random_ties, "misaligned", c.misaligned, "nan", c.nan);
  const int64_t size = c.rows * c.options;
  const Array<T> a = coarse_numbers<T>(size, 1, c.misaligned);
  if (c.nan) a[size / 2] = static_cast<T>(std::numeric_limits<float>::quiet_NaN());
  const Array<bool> mask = random_mask(c.mask_rows * c.options, c.options, 2);
  const Ties ties{c.random_ties, 77};
  const Array<T> expected(size);
  const Array<int64_t> expected_index(c.rows);
  for (int64_t r = 0; r < c.rows; ++r) {
    const bool* exists = c.mask_rows ? mask.data() + r % c.mask_rows * c.options : nullptr;
    const T* row = a.data() + r * c.options;
    expected_index[r] = select_entry<Prox>(row, exists, c.options, ties, r).index;
    for (int64_t k = 0; k < c.options; ++k) {
      expected[r * c.options + k] = projected_entry<Prox>(row[k], k, expected_index[r]);
    }
  }
  in_every_order([&] {
    const Array<T> values(size, c.misaligned);
    const Array<int64_t> index(c.rows);
    launch_projection<Prox, T>(
        {a.input("a"), c.mask_rows ? mask.input("mask") : nullptr, c.mask_rows, c.rows, c.options,
         ties, values.output("values"), index.output("index")},
        nullptr);
    CHECK(same_bits(values, expected));
    CHECK(same_bits(index, expected_index));
  });
}

const Case kCases[] = {
    {1, 1, 0, false, false, false},  {14, 8, 0, false, false, false},
    {14, 8, 7, true, false, false},  {14, 8, 0, false, true, false},
    {300, 8, 3, false, false, true}, {33, 7, 33, true, false, false},
    {5, 2, 5, false, false, false},  {9, 33, 3, true, true, false},
    {3, 100, 1, false, false, true}, {130, 5, 0, false, false, false},
};

template <class T>
void check_clip(int64_t rows, int64_t options, int64_t mask_rows, bool misaligned) {
  describe_case(type_name<T>(), "rows", rows, "options", options, "mask", mask_rows);
  const int64_t size = rows * options;
  const Array<T> a = coarse_numbers<T>(size, 3, misaligned);
  a[size - 1] = static_cast<T>(std::numeric_limits<float>::quiet_NaN());
  const Array<bool> mask = random_mask(mask_rows * options, options, 4);
  const Array<T> expected(size);
  for (int64_t i = 0; i < size; ++i) {
    const bool exists = mask_rows == 0 || mask[i % (mask_rows * options)];
    expected[i] =
        static_cast<T>(exists ? clip01(static_cast<accumulate_t<T>>(a[i])) : accumulate_t<T>(0));
  }
  in_every_order([&] {
    const Array<T> values(size, misaligned);
    launch_clip<T>({a.input("a"), mask_rows ? mask.input("mask") : nullptr, mask_rows * options,
                    size, values.output("values")},
                   nullptr);
    CHECK(same_bits(values, expected));
  });
}

}  // namespace

TEST(prox_c_on_the_device_has_the_bits_of_the_row_arithmetic) {
  for_every_type([](auto type) {
    for (const Case& c : kCases) check_projection<ProxC, decltype(type)>(c);
  });
}

TEST(prox_c1_on_the_device_has_the_bits_of_the_row_arithmetic) {
  for_every_type([](auto type) {
    for (const Case& c : kCases) check_projection<ProxC1, decltype(type)>(c);
  });
}

TEST(prox_c2_on_the_device_has_the_bits_of_the_row_arithmetic) {
  for_every_type([](auto type) {
    using T = decltype(type);
    check_clip<T>(1, 1, 0, false);
    check_clip<T>(33, 7, 0, false);
    check_clip<T>(33, 7, 0, true);
    check_clip<T>(30, 8, 5, false);
    check_clip<T>(500, 8, 0, false);
  });
}

// More rows than kMaxBlocks blocks of kThreads hold. By hand: option r % 8 is the largest.
TEST(rows_beyond_one_grid_are_projected_too) {
  if (checked_build()) return;  // the accesses are those of the other tests
  const int64_t rows = 4096 * 256 + 5;
  const Array<float> a(rows * 8), values(rows * 8);
  const Array<int64_t> index(rows);
  for (int64_t i = 0; i < rows * 8; ++i) a[i] = i % 8 == i / 8 % 8 ? 0.5f : 0.25f;
  launch_projection<ProxC, float>(
      {a.data(), nullptr, 0, rows, 8, Ties{}, values.data(), index.data()}, nullptr);
  for (int64_t r = 0; r < rows; ++r) CHECK(index[r] == r % 8 && values[r * 8 + r % 8] == 0.5f);
}
