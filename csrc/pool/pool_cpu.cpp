// SPDX-License-Identifier: MIT
// Pools on the CPU.
#include <tuple>

#include "../core/boxed.h"
#include "../core/image_memory.h"
#include "../core/scratch.h"
#include "../norm/behind_norm.h"
#include "../program/pool_shape.h"
#include "pool.h"
#include "pool_loops.h"

namespace nasp_ext {

template <>
std::tuple<Tensor, Tensor> pool_forward<OnCpu>(const PoolForwardCall& call) {
  const char* op = "pool_forward";
  const Tensor& x = call.x;
  const bool norm = call.norm;
  const NormArguments& bn = call.bn;
  const Images in = as_first_images(x, op, "x");
  const PoolShape s = pool_shape(in, call.max, call.kernel, call.stride, op);
  check_norm_arguments(bn, s.channels, x, op);
  check_batch(norm, bn, in.count, op);
  Tensor z = new_images<OnCpu>(x, in.count, s.channels, s.out_height, s.out_width);
  Tensor rows = empty_matrix(x, norm ? kNormRows : 0, s.channels, x.scalar_type());
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const PoolLoops<T>& loops = pool_loops<T>();
    const int64_t pad = round_up(s.channels, loops.lanes);
    const bool batch = norm && !bn.mean;
    BatchSums<T> sums(batch ? in.count : 0, pad);
    for_image_chunks(in.count, [&](int64_t, int64_t first, int64_t last) {
      Scratch scratch(Scratch::bytes<T>(pool_scratch(s, loops.lanes)));
      PoolForwardImage<T> f{};
      f.scratch = scratch.take<T>(pool_scratch(s, loops.lanes));
      for (int64_t n = first; n < last; ++n) {
        f.x = Pixels<const T>{data_of<T>(x), in.pitch}.image(n, in.pixels());
        f.z = Pixels<T>{mutable_data_of<T>(z), s.channels}.image(n, s.out_pixels());
        if (batch) f.sums = sums.of_image(n);
        loops.forward_image(s, f);
      }
    });
    if (!norm) return;
    T* const out = mutable_data_of<T>(rows);
    if (bn.mean)
      write_running_norm(bn, s.channels, out);
    else
      write_batch_norm(bn, sums, s.out_pixels(), s.channels, 1, loops.lanes, out);
  });
  return {z, rows};
}

template <>
void pool_backward_<OnCpu>(const PoolBackwardCall& call) {
  const char* op = "pool_backward_";
  const Tensor& x = call.x;
  const Images in = as_first_images(x, op, "x");
  const PoolShape s = pool_shape(in, call.max, call.kernel, call.stride, op);
  const GradientTensors t =
      check_gradient_tensors({call.grad, call.factors, call.sums, call.z, call.norm,
                              call.batch_stats, call.out, call.base},
                             in, x, s.channels, s.out_height, s.out_width, op);
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const PoolLoops<T>& loops = pool_loops<T>();
    const int64_t pad = round_up(s.channels, loops.lanes);
    const bool with_norm = call.norm.numel() > 0, batch_norm = with_norm && call.batch_stats;
    const auto rows = behind_norm_rows<T>(with_norm ? data_of<T>(call.norm) : nullptr,
                                          data_of<double>(call.sums), call.batch_stats,
                                          in.count * s.out_pixels(), s.channels, 1, loops.lanes);
    for_image_chunks(in.count, [&](int64_t, int64_t first, int64_t last) {
      Scratch scratch(Scratch::bytes<T>(pad));
      T* const scaled = scratch.take<T>(pad);
      for (int64_t n = first; n < last; ++n) {
        PoolBackwardImage<T> b{};
        b.grad = Pixels<const T>{data_of<T>(call.grad), t.grad.pitch}.image(n, s.out_pixels());
        if (batch_norm)
          b.z = Pixels<const T>{data_of<T>(call.z), t.z.pitch}.image(n, s.out_pixels());
        b.norm = norm_of_image(rows, pad, call.factors ? data_of<T>(*call.factors) + n : nullptr,
                               scaled);
        b.x = Pixels<const T>{data_of<T>(x), in.pitch}.image(n, in.pixels());
        b.grad_x = Pixels<T>{mutable_data_of<T>(call.out), t.out.pitch}.image(n, in.pixels());
        if (call.base)
          b.base = Pixels<const T>{data_of<T>(*call.base), t.base.pitch}.image(n, in.pixels());
        loops.backward_image(s, b);
      }
    });
  });
}

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("pool_forward", NASP_BOX(&nasp_ext::pool_forward<nasp_ext::OnCpu>));
  m.impl("pool_backward_", NASP_BOX(&nasp_ext::pool_backward_<nasp_ext::OnCpu>));
}
