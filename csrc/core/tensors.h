// SPDX-License-Identifier: MIT
// What every operator does with its tensors before and after the arithmetic: check, make rows,
// allocate, dispatch on the dtype. Serves the CPU and the CUDA side.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace nasp_ext {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Tensors = std::vector<Tensor>;
using MaybeTensor = std::optional<Tensor>;

// Reaches Python as a ValueError. The text says what was expected, what was found, what to do.
template <class... Parts>
[[noreturn]] inline void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}

inline std::string shape_text(const Tensor& t) {
  if (!t.defined()) return "None";
  std::string text = "(";
  for (int64_t i = 0; i < t.dim(); ++i) text += (i ? ", " : "") + std::to_string(t.size(i));
  return text + (t.dim() == 1 ? ",)" : ")");
}

template <class T>
const T* data_of(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* mutable_data_of(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// Calls body(T()) with the C++ type of a floating dtype.
template <class Body>
inline auto dispatch_floating(ScalarType dtype, const char* op, Body&& body) {
  switch (dtype) {
    case ScalarType::Float:
      return body(float());
    case ScalarType::Double:
      return body(double());
    case ScalarType::Half:
      return body(torch::headeronly::Half());
    case ScalarType::BFloat16:
      return body(torch::headeronly::BFloat16());
    default:
      fail(op, ": expected float32, float64, float16 or bfloat16, found ",
           torch::headeronly::toString(dtype), "; convert it with .float()");
  }
}

// A new tensor on the device of `like`; one shim call, where the stable new_empty looks up an
// operator.
inline Tensor empty_strided_on(const Tensor& like, int64_t dim, const int64_t* sizes,
                               const int64_t* strides, ScalarType dtype) {
  int32_t device_type = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  const int32_t device = like.get_device_index();
  AtenTensorHandle handle = nullptr;
  // The shim numbers dtypes as ScalarType does: both are serialised values that never change.
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      dim, sizes, strides, static_cast<int32_t>(dtype), device_type, device, &handle));
  return Tensor(handle);
}

// The tensor itself if it is contiguous: the stable contiguous() looks up an operator to find that
// out.
inline Tensor as_contiguous(const Tensor& t) {
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

inline Tensor empty_vector(const Tensor& like, int64_t size, ScalarType dtype) {
  const int64_t stride = 1;
  return empty_strided_on(like, 1, &size, &stride, dtype);
}

inline Tensor empty_matrix(const Tensor& like, int64_t rows, int64_t columns, ScalarType dtype) {
  const int64_t sizes[] = {rows, columns}, strides[] = {columns, 1};
  return empty_strided_on(like, 2, sizes, strides, dtype);
}

// a * b with broadcasting: the stable operators have no product.
inline Tensor product(const Tensor& a, const Tensor& b) {
  using torch::stable::detail::from;
  StableIValue stack[] = {from(a), from(b)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::mul", "Tensor", stack, TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// The dtype in which sums over elements of `dtype` are kept.
inline ScalarType arithmetic_dtype(ScalarType dtype) {
  return dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

constexpr int64_t kMaxDims = 64;  // of a PyTorch tensor

}  // namespace nasp_ext
