// SPDX-License-Identifier: MIT
// branch_dots on CUDA.
#include "../core/device.h"
#include "on_device.h"

namespace nasp_ext {
namespace {

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

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("branch_dots", TORCH_BOX(&nasp_ext::branch_dots));
}
