// SPDX-License-Identifier: MIT
// Pools on the CPU.
#include <tuple>

#include "../block/behind_norm.h"
#include "../cell/operators.h"
#include "../simd/image_memory.h"
#include "../simd/kernels.h"
#include "../simd/threads.h"
#include "pool_shape.h"

namespace nasp_ext {
template <>
std::tuple<Tensor, Tensor> Operators<OnCpu>::pool_forward(
    const Tensor& x,  // (N, C, H, W), channels_last
    bool max, int64_t kernel_size, int64_t stride, bool norm, const std::optional<Tensor>& weight,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& mean,
    const std::optional<Tensor>& var, double eps) {
  const char* op = "pool_forward";
  const Images in = as_first_images(x, op, "x");
  const PoolShape s = pool_shape(in, max, kernel_size, stride, op);
  const NormArguments bn{weight, bias, mean, var, eps};
  check_norm_arguments(bn, s.channels, x, op);
  check_batch(norm, bn, in.count, op);
  Tensor z = kept_images(x, in.count, s.channels, s.out_height, s.out_width);
  Tensor rows = empty_matrix(x, norm ? kNormRows : 0, s.channels, x.scalar_type());
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>();
    const int64_t pad = round_up(s.channels, kernel.lanes);
    const bool batch = norm && !bn.mean;
    BatchSums<T> sums(batch ? in.count : 0, pad);
    for_image_chunks(in.count, [&](int64_t, int64_t first, int64_t last) {
      Scratch scratch(Scratch::bytes<T>(pool_scratch(s, kernel.lanes)));
      PoolForwardImage<T> f{};
      f.scratch = scratch.take<T>(pool_scratch(s, kernel.lanes));
      for (int64_t n = first; n < last; ++n) {
        f.x = Pixels<const T>{data_of<T>(x), in.pitch}.image(n, in.pixels());
        f.z = Pixels<T>{mutable_data_of<T>(z), s.channels}.image(n, s.out_pixels());
        if (batch) f.sums = sums.of_image(n);
        kernel.pool_forward_image(s, f);
      }
    });
    if (!norm) return;
    T* const out = mutable_data_of<T>(rows);
    if (bn.mean)
      write_running_norm(bn, s.channels, out);
    else
      write_batch_norm(bn, sums, s.out_pixels(), s.channels, 1, kernel.lanes, out);
  });
  return {z, rows};
}

template <>
void Operators<OnCpu>::pool_backward_(
    const Tensor& grad,                    // (N, C, H', W'), of the BN's output
    const std::optional<Tensor>& factors,  // (N,), grad counts times these
    const Tensor& sums,                    // (2, C) float64
    const Tensor& z,                       // (N, C, H', W')
    const Tensor& norm,                    // (5, C) or empty
    bool batch_stats,
    const Tensor& x,  // (N, C, H, W)
    bool max, int64_t kernel_size, int64_t stride,
    const Tensor& out,                  // (N, C, H, W), gets the gradient of x
    const std::optional<Tensor>& base)  // (N, C, H, W), added to it; may be `out`
{
  const char* op = "pool_backward_";
  const Images in = as_first_images(x, op, "x");
  const PoolShape s = pool_shape(in, max, kernel_size, stride, op);
  const GradientTensors t =
      check_gradient_tensors({grad, factors, sums, z, norm, batch_stats, out, base}, in, x,
                             s.channels, s.out_height, s.out_width, op);
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>();
    const int64_t pad = round_up(s.channels, kernel.lanes);
    const bool with_norm = norm.numel() > 0, batch_norm = with_norm && batch_stats;
    const auto rows =
        behind_norm_rows<T>(with_norm ? data_of<T>(norm) : nullptr, data_of<double>(sums),
                            batch_stats, in.count * s.out_pixels(), s.channels, 1, kernel.lanes);
    for_image_chunks(in.count, [&](int64_t, int64_t first, int64_t last) {
      Scratch scratch(Scratch::bytes<T>(pad));
      T* const scaled = scratch.take<T>(pad);
      for (int64_t n = first; n < last; ++n) {
        PoolBackwardImage<T> b{};
        b.grad = Pixels<const T>{data_of<T>(grad), t.grad.pitch}.image(n, s.out_pixels());
        if (batch_norm) b.z = Pixels<const T>{data_of<T>(z), t.z.pitch}.image(n, s.out_pixels());
        b.norm = norm_of_image(rows, pad, factors ? data_of<T>(*factors) + n : nullptr, scaled);
        b.x = Pixels<const T>{data_of<T>(x), in.pitch}.image(n, in.pixels());
        b.grad_x = Pixels<T>{mutable_data_of<T>(out), t.out.pitch}.image(n, in.pixels());
        if (base) b.base = Pixels<const T>{data_of<T>(*base), t.base.pitch}.image(n, in.pixels());
        kernel.pool_backward_image(s, b);
      }
    });
  });
}
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("pool_forward", TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCpu>::pool_forward));
  m.impl("pool_backward_", TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCpu>::pool_backward_));
}
