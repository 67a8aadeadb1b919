// SPDX-License-Identifier: MIT
// Cells on CUDA.
#include "../common/device.h"
#include "cell_backward.h"
#include "cell_forward.h"

namespace nasp_ext {

template <>
Tensor Operators<OnCuda>::new_images(const Tensor& like, int64_t count, int64_t channels,
                                     int64_t height, int64_t width) {
  return empty_images(like, count, channels, height, width);
}

template <>
std::tuple<Tensor, Tensor> Operators<OnCuda>::norm_gradients(const Tensor& sums,
                                                             const Tensor& like) {
  const Tensor converted = torch::stable::to(sums, like.scalar_type());
  return {torch::stable::select(converted, 0, 1), torch::stable::select(converted, 0, 0)};
}

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("cell_forward", TORCH_BOX(&nasp_ext::cell_forward<nasp_ext::OnCuda>));
  m.impl("cell_backward", TORCH_BOX(&nasp_ext::cell_backward<nasp_ext::OnCuda>));
}
