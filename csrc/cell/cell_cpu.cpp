// SPDX-License-Identifier: MIT
// Cells on the CPU.
#include "../core/boxed.h"
#include "cell_backward.h"
#include "cell_forward.h"

namespace nasp_ext {

template <>
std::tuple<Tensor, Tensor> norm_gradients<OnCpu>(const Tensor& sums,    // (2, C) float64
                                                 const Tensor& like) {  // any
  const int64_t channels = sums.size(1);
  Tensor weight = empty_vector(like, channels, like.scalar_type());
  Tensor bias = empty_vector(like, channels, like.scalar_type());
  dispatch_single_double(like.scalar_type(), "cell_backward", [&](auto zero) {
    using T = decltype(zero);
    const double* const from = data_of<double>(sums);
    for (int64_t c = 0; c < channels; ++c) {
      mutable_data_of<T>(bias)[c] = static_cast<T>(from[c]);
      mutable_data_of<T>(weight)[c] = static_cast<T>(from[channels + c]);
    }
  });
  return {weight, bias};
}

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("cell_forward", NASP_BOX(&nasp_ext::cell_forward<nasp_ext::OnCpu>));
  m.impl("cell_backward", NASP_BOX(&nasp_ext::cell_backward<nasp_ext::OnCpu>));
}
