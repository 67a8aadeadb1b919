// SPDX-License-Identifier: MIT
// What every operator asks of its arguments before it allocates or touches memory, on every device.
#pragma once

#include <initializer_list>

#include "tensors.h"

namespace nasp_ext {

inline std::string device_text(const Tensor& t) {
  return t.is_cpu() ? "cpu" : "cuda:" + std::to_string(t.get_device_index());
}

// The dispatcher takes None for any tensor.
inline void check_device(const Tensor& t, const Tensor& expected, const char* op,
                         const char* name) {
  if (!t.defined()) fail(op, ": expected ", name, " to be a tensor, found None");
  if (t.is_cpu() != expected.is_cpu() || t.get_device_index() != expected.get_device_index())
    fail(op, ": expected all tensors on one device, found ", name, " on ", device_text(t),
         " beside ", device_text(expected), "; move it with .to()");
}

inline void check_like(const Tensor& t, const Tensor& like, const char* op, const char* name) {
  check_device(t, like, op, name);
  if (t.scalar_type() != like.scalar_type())
    fail(op, ": expected ", name, " in ", torch::headeronly::toString(like.scalar_type()),
         ", found ", torch::headeronly::toString(t.scalar_type()));
}

inline void check_vector(const Tensor& t, int64_t channels, const Tensor& like, const char* op,
                         const char* name) {
  check_device(t, like, op, name);
  if (t.dim() != 1 || t.size(0) != channels || t.scalar_type() != like.scalar_type() ||
      !t.is_contiguous())
    fail(op, ": expected ", name, " of shape (", channels, ",) in ",
         torch::headeronly::toString(like.scalar_type()), ", contiguous, found ", shape_text(t),
         " in ", torch::headeronly::toString(t.scalar_type()));
}

// Of numbers that describe a window: kernels, strides, padding, dilations. Sums and differences of
// a few of them stay within the 32 bits in which they travel to a GPU.
constexpr int64_t kMostOfWindow = (int64_t(1) << 30) - 1;

inline bool fits_window(int64_t value, int64_t least) {
  return value >= least && value <= kMostOfWindow;
}

constexpr int64_t kMostBytes = int64_t(1) << 47;  // what a process can address

// Of a new tensor, before it is asked for. element: bytes.
inline void check_sizes(std::initializer_list<int64_t> sizes, int64_t element, const char* op) {
  int64_t bytes = element;
  bool fits = true;
  for (const int64_t size : sizes) {
    fits = fits && size >= 0 && size <= kMostBytes / bytes;
    if (fits && size > 1) bytes *= size;  // of 0, the strides still are those of 1
  }
  if (fits) return;
  std::string text;
  for (const int64_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  fail(op, ": expected sizes >= 0 of at most 2^47 bytes in all, found (", text, ")");
}

}  // namespace nasp_ext
