// SPDX-License-Identifier: MIT
// K tensors of one shape, read element by element side by side whatever their common layout.
#pragma once

#include <algorithm>
#include <vector>

#include "../core/checks.h"
#include "branch_dots_math.h"

namespace nasp_ext {

inline bool same_strides(const Tensor& a, const Tensor& b) {
  for (int64_t i = 0; i < a.dim(); ++i)
    if (a.size(i) != 1 && a.stride(i) != b.stride(i)) return false;
  return true;
}

// Whether the elements fill a stretch of memory without gaps, in any order of the dimensions.
inline bool is_dense(const Tensor& t) {
  if (t.is_contiguous()) return true;
  std::vector<std::pair<int64_t, int64_t>> steps;  // (stride, size)
  for (int64_t i = 0; i < t.dim(); ++i)
    if (t.size(i) != 1) steps.emplace_back(t.stride(i), t.size(i));
  std::sort(steps.begin(), steps.end());
  int64_t expected = 1;
  for (const auto& [stride, size] : steps) {
    if (stride != expected) return false;
    expected *= size;
  }
  return true;
}

inline void check_branches(const std::vector<Tensor>& outputs, const char* op) {
  const auto count = static_cast<int64_t>(outputs.size());
  if (count < 1 || count > kMaxBranches)
    fail(op, ": expected 1 to ", kMaxBranches, " outputs, found ", count);
}

inline void check_same(const Tensor& t, const Tensor& first, const char* op, const char* name) {
  bool same = t.dim() == first.dim();
  for (int64_t i = 0; same && i < t.dim(); ++i) same = t.size(i) == first.size(i);
  if (!same)
    fail(op, ": expected ", name, " of shape ", shape_text(first), ", found ", shape_text(t));
  if (t.scalar_type() != first.scalar_type())
    fail(op, ": expected ", name, " in ", torch::headeronly::toString(first.scalar_type()),
         ", found ", torch::headeronly::toString(t.scalar_type()),
         "; convert it with .to(), under autocast too");
  check_device(t, first, op, name);
}

// Checks that the tensors agree and gives them one dense layout: theirs if they share one.
inline std::vector<Tensor> side_by_side(std::vector<Tensor> tensors, const char* op,
                                        const char* name) {
  const Tensor first = tensors[0];
  bool shared = is_dense(first);
  for (const Tensor& t : tensors) {
    check_same(t, first, op, name);
    shared = shared && same_strides(first, t);
  }
  if (!shared)
    for (Tensor& t : tensors) t = torch::stable::contiguous(t);
  return tensors;
}

// A new tensor in the layout of `like`, which is dense.
inline Tensor empty_dense_like(const Tensor& like) {
  return empty_strided_on(like, like.dim(), like.sizes().data(), like.strides().data(),
                          like.scalar_type());
}

}  // namespace nasp_ext
