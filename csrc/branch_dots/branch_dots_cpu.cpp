// SPDX-License-Identifier: MIT
// branch_dots on the CPU.
#include "dot_blocks.h"

namespace nasp_ext {
namespace {

Tensor branch_dots(const Tensor& grad,  // any shape
                   std::vector<Tensor> outputs) {
  const char* op = "branch_dots";
  check_branches(outputs, op);
  outputs.insert(outputs.begin(), grad);
  const auto tensors = side_by_side(std::move(outputs), op, "every output, as grad,");
  const auto branches = static_cast<int64_t>(tensors.size()) - 1;
  const int64_t n = grad.numel();
  Tensor dots = empty_vector(grad, branches, arithmetic_dtype(grad.scalar_type()));
  dispatch_floating(grad.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using Acc = accumulate_t<T>;
    const auto data = data_of_all<T>(tensors);
    BlockSums<Acc> sums(n, branches);
    for_blocks(n, [&](int64_t block, int64_t begin, int64_t size) {
      block_dots_all(data, begin, size, sums.of_block(block));
    });
    sums.write_totals(static_cast<Acc*>(dots.mutable_data_ptr()));
  });
  return dots;
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("branch_dots", TORCH_BOX(&nasp_ext::branch_dots));
}
