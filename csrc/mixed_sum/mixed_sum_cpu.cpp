// SPDX-License-Identifier: MIT
// mixed_sum and its backward on the CPU.
#include <tuple>

#include "../branch_dots/dot_blocks.h"
#include "mixed_sum_simd.h"
#include "mixture_weights.h"

namespace nasp_ext {
namespace {

Tensor mixed_sum(std::vector<Tensor> outputs, const Tensor& weights) {
  const char* op = "mixed_sum";
  check_branches(outputs, op);
  const Tensor row = check_weights(weights, outputs, op);
  const auto tensors = side_by_side(std::move(outputs), op, "every output");
  Tensor mixture = empty_dense_like(tensors[0]);
  dispatch_floating(mixture.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using Acc = accumulate_t<T>;
    const auto data = data_of_all<T>(tensors);
    const Acc* w = static_cast<const Acc*>(row.const_data_ptr());
    T* out = static_cast<T*>(mixture.mutable_data_ptr());
    for_blocks(mixture.numel(), [&](int64_t, int64_t begin, int64_t size) {
      const T* y[kMaxBranches];
      for (size_t k = 0; k < data.size(); ++k) y[k] = data[k] + begin;
      mix_block(y, w, static_cast<int64_t>(data.size()), size, out + begin);
    });
  });
  return mixture;
}

std::tuple<std::vector<Tensor>, Tensor> mixed_sum_backward(const Tensor& grad,
                                                           std::vector<Tensor> outputs,
                                                           const Tensor& weights) {
  const char* op = "mixed_sum_backward";
  check_branches(outputs, op);
  const Tensor row = check_weights(weights, outputs, op);
  outputs.insert(outputs.begin(), grad);
  const auto tensors = side_by_side(std::move(outputs), op, "every output, as grad,");
  const auto branches = static_cast<int64_t>(tensors.size()) - 1;
  std::vector<Tensor> grad_outputs;
  for (int64_t k = 0; k < branches; ++k) grad_outputs.push_back(empty_dense_like(tensors[0]));
  Tensor grad_weights = empty_vector(grad, branches, arithmetic_dtype(grad.scalar_type()));
  dispatch_floating(grad.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using Acc = accumulate_t<T>;
    const auto data = data_of_all<T>(tensors);
    std::vector<T*> out;
    for (const Tensor& t : grad_outputs) out.push_back(static_cast<T*>(t.mutable_data_ptr()));
    const Acc* w = static_cast<const Acc*>(row.const_data_ptr());
    BlockSums<Acc> sums(grad.numel(), branches);
    for_blocks(grad.numel(), [&](int64_t block, int64_t begin, int64_t size) {
      block_dots_all(data, begin, size, sums.of_block(block));
      for (int64_t k = 0; k < branches; ++k)
        scale_block(data[0] + begin, w[k], size, out[static_cast<size_t>(k)] + begin);
    });
    sums.write_totals(static_cast<Acc*>(grad_weights.mutable_data_ptr()));
  });
  return {grad_outputs, grad_weights};
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("mixed_sum", TORCH_BOX(&nasp_ext::mixed_sum));
  m.impl("mixed_sum_backward", TORCH_BOX(&nasp_ext::mixed_sum_backward));
}
