// SPDX-License-Identifier: MIT
// Tensors that a step writes must not share memory, neither with themselves nor with one another:
// checked before anything is written.
#pragma once

#include <cstdint>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "../core/tensors.h"

namespace nasp_ext {

// The memory of a contiguous tensor, by name.
struct Span {
  const char* name;
  const void* data;
  int64_t bytes;

  bool meets(const Span& other) const {
    const auto first = reinterpret_cast<uintptr_t>(data);
    const auto second = reinterpret_cast<uintptr_t>(other.data);
    return bytes && other.bytes && first < second + uint64_t(other.bytes) &&
           second < first + uint64_t(bytes);
  }
};

[[noreturn]] inline void fail_shared(const char* one, const char* other) {
  fail("nasp_step_: expected every tensor in memory of its own, found ", one, " and ", other,
       " in the same; nothing is changed: clone one of them");
}

// Whether two elements of a tensor of at most two dimensions lie at one address. Elements (i, j)
// and (k, l) do if (i - k) s = (l - j) t; the smallest such steps are t / g and s / g.
inline bool overlaps_itself(const Tensor& t) {
  if (t.numel() == 0) return false;
  int64_t size[2] = {1, 1}, stride[2] = {0, 0}, count = 0;
  for (int64_t i = 0; i < t.dim(); ++i)
    if (t.size(i) > 1) {
      if (t.stride(i) == 0) return true;
      size[count] = t.size(i), stride[count++] = t.stride(i);
    }
  if (count < 2) return false;
  const int64_t g = std::gcd(stride[0], stride[1]);
  return stride[1] / g < size[0] && stride[0] / g < size[1];
}

struct Read {
  const char* name;
  std::optional<Tensor> tensor;
};

// What lies between the elements of a strided tensor may belong to another, so of those only the
// first element is looked at.
inline void check_memory(const Tensor& a, const Tensor& weight, const Tensor& active,
                         const std::optional<Tensor>& exp_avg,
                         const std::optional<Tensor>& exp_avg_sq, const std::vector<Read>& read) {
  std::vector<Span> spans;
  const auto add = [&](const char* name, const Tensor& t) {
    const int64_t elements = t.is_contiguous() ? t.numel() : t.numel() > 0;
    spans.push_back({name, t.const_data_ptr(), elements * int64_t(t.element_size())});
  };
  const auto write = [&](const char* name, const Tensor& t) {
    if (overlaps_itself(t))
      fail("nasp_step_: expected ", name, " to have memory for each element, found an expanded ",
           shape_text(t), "; nothing is changed: pass a .contiguous() copy");
    add(name, t);
  };
  write("a", a);
  write("weight", weight);
  write("active", active);
  if (exp_avg) write("exp_avg", *exp_avg);
  if (exp_avg_sq) write("exp_avg_sq", *exp_avg_sq);
  const size_t written = spans.size();
  for (const Read& r : read)
    if (r.tensor) add(r.name, *r.tensor);
  for (size_t i = 0; i < written; ++i)
    for (size_t j = i + 1; j < spans.size(); ++j)
      if (spans[i].meets(spans[j])) fail_shared(spans[i].name, spans[j].name);
}

}  // namespace nasp_ext
