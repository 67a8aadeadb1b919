// SPDX-License-Identifier: MIT
// From tensors to what kernels take.
#pragma once

#include <algorithm>
#include <limits>

#include "stream.h"
#include "tensors.h"

namespace nasp_ext {

// Sizes travel to the device in 32 bits; offsets are 64 bits there.
inline int narrow(int64_t value, const char* op) {
  if (value > std::numeric_limits<int>::max())
    fail(op, ": expected sizes below 2^31, found ", value);
  return static_cast<int>(value);
}

template <class T>
const T* data_or_null(const std::optional<Tensor>& t) {
  return t ? data_of<T>(*t) : nullptr;
}

// Room for `rows` rows of sums of every tile, (rows, tiles, channels); empty if not wanted.
inline Tensor empty_sums(const Tensor& like, bool wanted, int64_t rows, int64_t tiles,
                         int64_t channels) {
  return empty_vector(like, wanted ? rows * tiles * channels : 0, like.scalar_type());
}

// As few launches as their parameters allow; list(parameters) is where items go.
template <class Parameters, int kMost, class Item, class List, class Launch>
void launch_in_chunks(const std::vector<Item>& items, const List& list, const Launch& launch,
                      stream_t stream) {
  for (size_t first = 0; first < items.size(); first += kMost) {
    const size_t count = std::min<size_t>(items.size() - first, kMost);
    Parameters parameters{};
    std::copy(items.begin() + static_cast<int64_t>(first),
              items.begin() + static_cast<int64_t>(first + count), list(parameters));
    launch(parameters, static_cast<int>(count), stream);
  }
}

}  // namespace nasp_ext
