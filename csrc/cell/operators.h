// SPDX-License-Identifier: MIT
// The operators that cells are put together of, as functions of a device: the *_cpu.cpp define them
// for OnCpu, the *_cuda.cpp for OnCuda. csrc/ops.cpp says what they do.
#pragma once

#include <tuple>
#include <vector>

#include "option.h"

namespace nasp_ext {

// kEdgesAtOnce: of a node. A GPU runs their blocks in one launch; a CPU one after the other, while
// what the first one wrote is in its cache.
struct OnCpu {
  static constexpr size_t kEdgesAtOnce = 1;
};
struct OnCuda {
  static constexpr size_t kEdgesAtOnce = 64;
};

struct SourceOption;  // csrc/source/program.h

using Tensors = std::vector<Tensor>;
using MaybeTensor = std::optional<Tensor>;

// The arguments of block_forward and its results; without_norm: z alone is asked for.
struct ForwardCall {
  const ProgramBlock* block;
  Tensor x;
  MaybeTensor in_norm;
  bool without_norm;
  Tensor z, norm;
};

// The arguments of block_backward and its results; calls of one list write to different places.
struct BackwardCall {
  const ProgramBlock* block;
  Tensor grad;
  MaybeTensor factors;
  Tensor sums, z, norm, x;
  MaybeTensor in_norm;
  bool need_weights;
  MaybeTensor out, base;
  Tensor in_sums, grad_depthwise;
  Tensors grad_products;
};

template <class Device>
struct Operators {
  static Tensor new_images(const Tensor& like, int64_t count, int64_t channels, int64_t height,
                           int64_t width);
  static std::tuple<Tensor, Tensor> block_forward(const Tensor& x,  // (N, C, H, W), channels_last
                                                  const MaybeTensor& in_norm,  // (5, C)
                                                  const MaybeTensor& depthwise, Tensors products,
                                                  const std::vector<int64_t>& geometry, bool relu,
                                                  bool norm, const MaybeTensor& weight,
                                                  const MaybeTensor& bias, const MaybeTensor& mean,
                                                  const MaybeTensor& var, double eps);
  static std::tuple<Tensor, Tensor, Tensors> block_backward(
      const Tensor& grad,          // (N, O, H', W'), of the BN's output
      const MaybeTensor& factors,  // (N,), grad counts times these
      const Tensor& sums,          // (2, O) float64, see node_gradient_sums
      const Tensor& z,             // (N, O, H', W')
      const Tensor& norm,          // (5, O) or empty
      bool batch_stats,
      const Tensor& x,             // (N, C, H, W)
      const MaybeTensor& in_norm,  // (5, C)
      const MaybeTensor& depthwise, Tensors products, const std::vector<int64_t>& geometry,
      bool relu, bool need_weights,
      const MaybeTensor& out,    // (N, C, H, W), gets the gradient of x
      const MaybeTensor& base);  // (N, C, H, W), added to it; may be `out`
  static void blocks_forward(std::vector<ForwardCall>& calls);
  static void blocks_backward(std::vector<BackwardCall>& calls);
  static std::tuple<Tensor, Tensor> pool_forward(const Tensor& x,  // (N, C, H, W), channels_last
                                                 bool max, int64_t kernel_size, int64_t stride,
                                                 bool norm, const MaybeTensor& weight,
                                                 const MaybeTensor& bias, const MaybeTensor& mean,
                                                 const MaybeTensor& var, double eps);
  static void pool_backward_(const Tensor& grad,          // (N, C, H', W'), of the BN's output
                             const MaybeTensor& factors,  // (N,), grad counts times these
                             const Tensor& sums,          // (2, C) float64
                             const Tensor& z,             // (N, C, H', W')
                             const Tensor& norm,          // (5, C) or empty
                             bool batch_stats,
                             const Tensor& x,  // (N, C, H, W)
                             bool max, int64_t kernel_size, int64_t stride,
                             const Tensor& out,         // (N, C, H, W), gets the gradient of x
                             const MaybeTensor& base);  // (N, C, H, W), added; may be `out`
  static void node_sum_(
      const Tensor& out,                                  // (N, C, H, W)
      const Tensors& terms,                               // E of (N, C, H, W)
      const Tensors& norms,                               // E of (5, C) or empty
      const MaybeTensor& factors,                         // (E, N)
      const MaybeTensor& base = std::nullopt);            // (N, C, H, W), added; may be `out`
  static Tensor node_gradient_sums(const Tensor& grad,    // (N, C, H, W)
                                   const Tensors& terms,  // E of (N, C, H, W)
                                   const Tensors& norms,  // E of (5, C) or empty
                                   const MaybeTensor& factors);        // (E, N)
  static void update_statistics_(const Tensors& means,                 // B of (C,)
                                 const Tensors& variances,             // B of (C,)
                                 const Tensors& batches,               // B of (), int64
                                 const Tensors& norms,                 // B of (5, C)
                                 const std::vector<int64_t>& counts,   // B, elements of a channel
                                 const std::vector<double>& momenta);  // B
  static Tensor source_dots(const Tensor& x,       // (N, C, H, W), channels_last
                            const Tensors& grads,  // one for each edge
                            const std::vector<int64_t>& program, const Tensors& weights,
                            const Tensors& statistics, const std::vector<double>& numbers);
  // The same of options that are read and checked.
  static Tensor option_dots(const Tensor& x, const Tensors& grads,
                            std::vector<SourceOption>& options);
  // Of weight and bias of a BN, in the dtype of `like`, from its sums (2, C).
  static std::tuple<Tensor, Tensor> norm_gradients(const Tensor& sums, const Tensor& like);
};

}  // namespace nasp_ext
