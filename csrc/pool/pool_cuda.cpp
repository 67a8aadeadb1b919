// SPDX-License-Identifier: MIT
// Pools on CUDA.
#include <tuple>

#include "../cell/operators.h"
#include "../common/device.h"
#include "on_device.h"

namespace nasp_ext {
template <>
std::tuple<Tensor, Tensor> Operators<OnCuda>::pool_forward(
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
  const DeviceScope device(x);
  Tensor z = empty_images(x, in.count, s.channels, s.out_height, s.out_width);
  Tensor rows = empty_matrix(x, norm ? kNormRows : 0, s.channels, x.scalar_type());
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const PoolGeometry g = geometry_of(s, in.count, op);
    const bool batch = norm && !bn.mean;
    const Tensor sums =
        empty_sums(x, batch, kMomentRows, tiles_of(g.out_pixels(), kTilePixels), s.channels);
    PoolForwards<T> forwards{};
    PoolForward<T>& f = forwards.pool[0];
    f.shape = g;
    f.x_pitch = narrow(in.pitch, op);
    f.x = data_of<T>(x);
    f.z = mutable_data_of<T>(z);
    f.sums = batch ? mutable_data_of<T>(sums) : nullptr;
    if (in.count > 0) launch_pool_forward(forwards, 1, device.stream());
    if (!norm) return;
    FinishNorms<T> finish{};
    finish.norm[0] = finish_of(bn, data_of<T>(sums), g.out_pixels(), kTilePixels, s.channels,
                               mutable_data_of<T>(rows), op);
    launch_finish_norms(finish, 1, device.stream());
  });
  return {z, rows};
}

template <>
void Operators<OnCuda>::pool_backward_(
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
  const DeviceScope device(x);
  if (out.numel() == 0) return;
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const bool with_norm = norm.numel() > 0;
    PoolBackward<T> b{};
    b.shape = geometry_of(s, in.count, op);
    b.x_pitch = narrow(in.pitch, op);
    b.grad_pitch = narrow(t.grad.pitch, op);
    b.z_pitch = narrow(t.z.pitch, op);
    b.out_pitch = narrow(t.out.pitch, op);
    b.base_pitch = narrow(t.base.pitch, op);
    b.grad = data_of<T>(grad);
    b.factors = data_or_null<T>(factors);
    b.sums = with_norm && batch_stats ? data_of<double>(sums) : nullptr;
    b.per_count = 1.0 / static_cast<double>(b.shape.out_pixels());
    b.z = data_of<T>(z);
    b.norm = with_norm ? data_of<T>(norm) : nullptr;
    b.x = data_of<T>(x);
    b.out = mutable_data_of<T>(out);
    b.base = data_or_null<T>(base);
    launch_pool_backward(b, device.stream());
  });
}
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("pool_forward", TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCuda>::pool_forward));
  m.impl("pool_backward_", TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCuda>::pool_backward_));
}
