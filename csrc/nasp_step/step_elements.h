// SPDX-License-Identifier: MIT
// The elements of a step on the CPU as plain pointers, in runs over which mask and cost are
// contiguous.
#pragma once

#include <algorithm>
#include <type_traits>

#include "arguments.h"
#include "nasp_step_math.h"

namespace nasp_ext {

// Consecutive elements. mask and cost may be null, exp_avg is null for the plain step.
template <class T>
struct Elements {
  T* a;
  const T* grad;
  const T* weight;
  T* exp_avg;
  T* exp_avg_sq;
  const T* cost;
  const bool* mask;

  // The elements from the i-th on, of a matrix whose rows share cost and mask.
  Elements from(int64_t i) const {
    return {a + i,
            grad + i,
            weight + i,
            exp_avg ? exp_avg + i : nullptr,
            exp_avg_sq ? exp_avg_sq + i : nullptr,
            cost,
            mask};
  }
  // The i-th element of a run and those behind it.
  Elements at(int64_t i) const {
    Elements part = from(i);
    if (cost) part.cost = cost + i;
    if (mask) part.mask = mask + i;
    return part;
  }
};

// body(adam, cost, mask): which of them there are, as std::bool_constant.
template <class T, class Body>
void for_kind(const Elements<T>& e, const Body& body) {
  const auto masked = [&](auto adam, auto cost) {
    e.mask ? body(adam, cost, std::true_type()) : body(adam, cost, std::false_type());
  };
  const auto costed = [&](auto adam) {
    e.cost ? masked(adam, std::true_type()) : masked(adam, std::false_type());
  };
  e.exp_avg ? costed(std::true_type()) : costed(std::false_type());
}

// A (count, K) table that repeats over the rows.
template <class T>
struct Table {
  const T* data = nullptr;
  int64_t count = 1;
};

// body(elements, how many) for rows [begin, end), in runs over which mask and cost are contiguous.
template <class T, class Body>
void for_runs(const Elements<T>& all, const Table<T>& cost, const Table<bool>& mask,
              int64_t options, int64_t begin, int64_t end, const Body& body) {
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
    body(part, rows * options);
    r += rows;
  }
}

}  // namespace nasp_ext
