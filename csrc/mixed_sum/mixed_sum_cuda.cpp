// SPDX-License-Identifier: MIT
// mixed_sum and its backward on CUDA.
#include <tuple>

#include "../branch_dots/on_device.h"
#include "../core/device.h"
#include "mixed_sum_kernel.h"
#include "mixture_weights.h"

namespace nasp_ext {
namespace {

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
  m.impl("mixed_sum", TORCH_BOX(&nasp_ext::mixed_sum));
  m.impl("mixed_sum_backward", TORCH_BOX(&nasp_ext::mixed_sum_backward));
}
