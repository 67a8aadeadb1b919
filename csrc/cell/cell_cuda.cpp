// SPDX-License-Identifier: MIT
// Cells on CUDA.
#include "../core/boxed.h"
#include "../core/device.h"
#include "cell_backward.h"
#include "cell_forward.h"

namespace nasp_ext {

template <>
std::tuple<Tensor, Tensor> norm_gradients<OnCuda>(const Tensor& sums,    // (2, C) float64
                                                  const Tensor& like) {  // any
  const Tensor converted = torch::stable::to(sums, like.scalar_type());
  return {torch::stable::select(converted, 0, 1), torch::stable::select(converted, 0, 0)};
}

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("cell_forward", NASP_BOX(&nasp_ext::cell_forward<nasp_ext::OnCuda>));
  m.impl("cell_backward", NASP_BOX(&nasp_ext::cell_backward<nasp_ext::OnCuda>));
}
