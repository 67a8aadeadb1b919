// SPDX-License-Identifier: MIT
// branch_dots, mixed_sum and its backward on CUDA.
#include <tuple>
#include <vector>

#include "../common/device.h"
#include "branches.h"
#include "mixture_kernel.h"

namespace nasp_ext {
namespace {

template <class T>
Branches<const T> read_branches(const std::vector<Tensor>& tensors, size_t first) {
  Branches<const T> branches{};
  for (size_t k = first; k < tensors.size(); ++k) {
    branches.pointer[k - first] = static_cast<const T*>(tensors[k].const_data_ptr());
  }
  return branches;
}

// tensors: grad, then the outputs, side by side.
template <class T>
Dots<T> dots_of(const std::vector<Tensor>& tensors, const Tensor& block_sums, const Tensor& dots) {
  using Acc = accumulate_t<T>;
  return {static_cast<const T*>(tensors[0].const_data_ptr()),
          read_branches<T>(tensors, 1),
          static_cast<int>(tensors.size()) - 1,
          tensors[0].numel(),
          static_cast<Acc*>(block_sums.mutable_data_ptr()),
          static_cast<Acc*>(dots.mutable_data_ptr())};
}

Tensor branch_dots(const Tensor& grad,  // any shape
                   std::vector<Tensor> outputs) {
  const char* op = "branch_dots";
  check_branches(outputs, op);
  const DeviceScope device(grad);
  const auto branches = static_cast<int64_t>(outputs.size());
  outputs.insert(outputs.begin(), grad);
  const auto tensors = side_by_side(std::move(outputs), op, "every output, as grad,");
  const ScalarType dtype = arithmetic_dtype(grad.scalar_type());
  Tensor dots = empty_vector(grad, branches, dtype);
  const Tensor block_sums = empty_vector(grad, branches * dot_blocks(grad.numel()), dtype);
  dispatch_floating(grad.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    launch_branch_dots<T>(dots_of<T>(tensors, block_sums, dots), device.stream());
  });
  return dots;
}

Tensor mixed_sum(std::vector<Tensor> outputs, const Tensor& weights) {
  const char* op = "mixed_sum";
  check_branches(outputs, op);
  const DeviceScope device(outputs[0]);
  const Tensor row = check_weights(weights, outputs, op);
  const auto tensors = side_by_side(std::move(outputs), op, "every output");
  Tensor mixture = empty_dense_like(tensors[0]);
  dispatch_floating(mixture.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    if (mixture.numel() == 0) return;
    launch_mixed_sum<T>(read_branches<T>(tensors, 0),
                        static_cast<const accumulate_t<T>*>(row.const_data_ptr()),
                        static_cast<int>(tensors.size()), mixture.numel(),
                        static_cast<T*>(mixture.mutable_data_ptr()), device.stream());
  });
  return mixture;
}

std::tuple<std::vector<Tensor>, Tensor> mixed_sum_backward(const Tensor& grad,
                                                           std::vector<Tensor> outputs,
                                                           const Tensor& weights) {
  const char* op = "mixed_sum_backward";
  check_branches(outputs, op);
  const DeviceScope device(grad);
  const Tensor row = check_weights(weights, outputs, op);
  const auto branches = static_cast<int64_t>(outputs.size());
  outputs.insert(outputs.begin(), grad);
  const auto tensors = side_by_side(std::move(outputs), op, "every output, as grad,");
  std::vector<Tensor> grad_outputs;
  for (int64_t k = 0; k < branches; ++k) grad_outputs.push_back(empty_dense_like(tensors[0]));
  const ScalarType dtype = arithmetic_dtype(grad.scalar_type());
  Tensor grad_weights = empty_vector(grad, branches, dtype);
  const Tensor block_sums = empty_vector(grad, branches * dot_blocks(grad.numel()), dtype);
  dispatch_floating(grad.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    Branches<T> out{};
    for (size_t k = 0; k < grad_outputs.size(); ++k) {
      out.pointer[k] = static_cast<T*>(grad_outputs[k].mutable_data_ptr());
    }
    launch_mixed_sum_backward<T>(dots_of<T>(tensors, block_sums, grad_weights),
                                 static_cast<const accumulate_t<T>*>(row.const_data_ptr()), out,
                                 device.stream());
  });
  return {grad_outputs, grad_weights};
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("branch_dots", TORCH_BOX(&nasp_ext::branch_dots));
  m.impl("mixed_sum", TORCH_BOX(&nasp_ext::mixed_sum));
  m.impl("mixed_sum_backward", TORCH_BOX(&nasp_ext::mixed_sum_backward));
}
