// SPDX-License-Identifier: MIT
// Pools on CUDA.
#include <tuple>

#include "../core/boxed.h"
#include "../core/device.h"
#include "../core/image_memory.h"
#include "../norm/behind_norm.h"
#include "../norm/on_device.h"
#include "../program/pool_shape.h"
#include "on_device.h"
#include "pool.h"

namespace nasp_ext {

template <>
std::tuple<Tensor, Tensor> pool_forward<OnCuda>(const PoolForwardCall& call) {
  const char* op = "pool_forward";
  const Tensor& x = call.x;
  const bool norm = call.norm;
  const NormArguments& bn = call.bn;
  const Images in = as_first_images(x, op, "x");
  const PoolShape s = pool_shape(in, call.max, call.kernel, call.stride, op);
  check_norm_arguments(bn, s.channels, x, op);
  check_batch(norm, bn, in.count, op);
  const DeviceScope device(x);
  Tensor z = new_images<OnCuda>(x, in.count, s.channels, s.out_height, s.out_width);
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
void pool_backward_<OnCuda>(const PoolBackwardCall& call) {
  const char* op = "pool_backward_";
  const Tensor& x = call.x;
  const Images in = as_first_images(x, op, "x");
  const PoolShape s = pool_shape(in, call.max, call.kernel, call.stride, op);
  const GradientTensors t =
      check_gradient_tensors({call.grad, call.factors, call.sums, call.z, call.norm,
                              call.batch_stats, call.out, call.base},
                             in, x, s.channels, s.out_height, s.out_width, op);
  const DeviceScope device(x);
  if (call.out.numel() == 0) return;
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const bool with_norm = call.norm.numel() > 0;
    PoolBackward<T> b{};
    b.shape = geometry_of(s, in.count, op);
    b.x_pitch = narrow(in.pitch, op);
    b.grad_pitch = narrow(t.grad.pitch, op);
    b.z_pitch = narrow(t.z.pitch, op);
    b.out_pitch = narrow(t.out.pitch, op);
    b.base_pitch = narrow(t.base.pitch, op);
    b.grad = data_of<T>(call.grad);
    b.factors = data_or_null<T>(call.factors);
    b.sums = with_norm && call.batch_stats ? data_of<double>(call.sums) : nullptr;
    b.per_count = 1.0 / static_cast<double>(b.shape.out_pixels());
    b.z = data_of<T>(call.z);
    b.norm = with_norm ? data_of<T>(call.norm) : nullptr;
    b.x = data_of<T>(x);
    b.out = mutable_data_of<T>(call.out);
    b.base = data_or_null<T>(call.base);
    launch_pool_backward(b, device.stream());
  });
}

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("pool_forward", NASP_BOX(&nasp_ext::pool_forward<nasp_ext::OnCuda>));
  m.impl("pool_backward_", NASP_BOX(&nasp_ext::pool_backward_<nasp_ext::OnCuda>));
}
