// SPDX-License-Identifier: MIT
// Cells on the CPU.
#include "../simd/image_memory.h"
#include "cell_backward.h"
#include "cell_forward.h"

namespace nasp_ext {

template <>
Tensor Operators<OnCpu>::new_images(const Tensor& like, int64_t count, int64_t channels,
                                    int64_t height, int64_t width) {
  return kept_images(like, count, channels, height, width);
}

template <>
void Operators<OnCpu>::blocks_forward(std::vector<ForwardCall>& calls) {
  for (ForwardCall& c : calls) {
    const ProgramBlock& b = *c.block;
    const NormArguments& bn = b.norm.arguments;
    std::tie(c.z, c.norm) = block_forward(c.x, c.in_norm, b.weights.depthwise, b.weights.products,
                                          b.geometry, b.relu, b.norm.exists && !c.without_norm,
                                          bn.weight, bn.bias, bn.mean, bn.var, bn.eps);
  }
}

template <>
void Operators<OnCpu>::blocks_backward(std::vector<BackwardCall>& calls) {
  for (BackwardCall& c : calls) {
    const ProgramBlock& b = *c.block;
    std::tie(c.in_sums, c.grad_depthwise, c.grad_products) = block_backward(
        c.grad, c.factors, c.sums, c.z, c.norm, b.norm.batch, c.x, c.in_norm, b.weights.depthwise,
        b.weights.products, b.geometry, b.relu, c.need_weights, c.out, c.base);
  }
}

template <>
std::tuple<Tensor, Tensor> Operators<OnCpu>::norm_gradients(const Tensor& sums,
                                                            const Tensor& like) {
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
  m.impl("cell_forward", TORCH_BOX(&nasp_ext::cell_forward<nasp_ext::OnCpu>));
  m.impl("cell_backward", TORCH_BOX(&nasp_ext::cell_backward<nasp_ext::OnCpu>));
}
