// SPDX-License-Identifier: MIT
// Blocks on the CPU: images over threads, sums of the images added in their order.
#include <tuple>

#include "../cell/operators.h"
#include "../simd/image_memory.h"
#include "../simd/kernels.h"
#include "../simd/threads.h"
#include "behind_norm.h"
#include "weights.h"

namespace nasp_ext {
template <>
std::tuple<Tensor, Tensor> Operators<OnCpu>::block_forward(
    const Tensor& x,                       // (N, C, H, W), channels_last
    const std::optional<Tensor>& in_norm,  // (5, C)
    const std::optional<Tensor>& depthwise, std::vector<Tensor> products,
    const std::vector<int64_t>& geometry, bool relu, bool norm, const std::optional<Tensor>& weight,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& mean,
    const std::optional<Tensor>& var, double eps) {
  const char* op = "block_forward";
  const Images in = as_first_images(x, op, "x");
  BlockWeights weights{depthwise, std::move(products)};
  const BlockShape s = block_shape(in, weights, check_geometry(geometry, op), relu, x, op);
  const NormArguments bn{weight, bias, mean, var, eps};
  check_norm_arguments(bn, s.out_channels, x, op);
  check_batch(norm, bn, in.count, op);
  check_in_norm(in_norm, s.in_channels, x, op);
  Tensor z = kept_images(x, in.count, s.out_channels, s.out_height, s.out_width);
  Tensor rows = empty_matrix(x, norm ? kNormRows : 0, s.out_channels, x.scalar_type());
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>();
    const int64_t lanes = kernel.lanes, in_pad = round_up(s.in_channels, lanes);
    const int64_t packed = s.parts * round_up(s.part_channels(), lanes);
    const auto taps = pack_depthwise<T>(s, weights, lanes, false);
    const auto matrix = pack_forward<T>(s, weights, lanes);
    const PaddedNorm<T> before =
        in_norm ? PaddedNorm<T>(data_of<T>(*in_norm), s.in_channels, 1, lanes) : PaddedNorm<T>();
    BatchSums<T> sums(in.count, packed);
    const BlockedScratch<T> inside(s.reach_h(), s.reach_w(), in_pad, lanes);
    const Pixels<const T> from{data_of<T>(x), in.pitch};
    const Pixels<T> to{mutable_data_of<T>(z), s.out_channels};
    for_image_chunks(in.count, [&](int64_t, int64_t first, int64_t last) {
      Scratch scratch(Scratch::bytes<T>(forward_scratch(s, lanes)) +
                      Scratch::bytes<T>(inside.size));
      ForwardImage<T> f{};
      f.in = before.affine();
      f.depthwise = taps.data();
      f.pointwise = matrix.data();
      f.scratch = scratch.take<T>(forward_scratch(s, lanes));
      const Blocked<T> input = s.is_pointwise() ? Blocked<T>{} : inside.zeroed(scratch);
      f.input = readable(input);
      for (int64_t n = first; n < last; ++n) {
        f.x = from.image(n, in.pixels());
        f.z = to.image(n, s.out_pixels());
        f.sums = sums.of_image(n);
        if (input.data) kernel.pad_image(s, f.x, f.in, input);
        kernel.forward_image(s, f);
      }
    });
    if (!norm) return;
    T* const out = mutable_data_of<T>(rows);
    if (bn.mean)
      write_running_norm(bn, s.out_channels, out);
    else
      write_batch_norm(bn, sums, s.out_pixels(), s.out_channels, s.parts, lanes, out);
  });
  return {z, rows};
}

template <>
std::tuple<Tensor, Tensor, std::vector<Tensor>> Operators<OnCpu>::block_backward(
    const Tensor& grad,                    // (N, O, H', W'), of the BN's output
    const std::optional<Tensor>& factors,  // (N,), grad counts times these
    const Tensor& sums,                    // (2, O) float64, see node_gradient_sums
    const Tensor& z,                       // (N, O, H', W')
    const Tensor& norm,                    // (5, O) or empty
    bool batch_stats,
    const Tensor& x,                       // (N, C, H, W)
    const std::optional<Tensor>& in_norm,  // (5, C)
    const std::optional<Tensor>& depthwise, std::vector<Tensor> products,
    const std::vector<int64_t>& geometry, bool relu, bool need_weights,
    const std::optional<Tensor>& out,   // (N, C, H, W), gets the gradient of x
    const std::optional<Tensor>& base)  // (N, C, H, W), added to it; may be `out`
{
  const char* op = "block_backward";
  const Images in = as_first_images(x, op, "x");
  BlockWeights weights{depthwise, std::move(products)};
  const BlockShape s = block_shape(in, weights, check_geometry(geometry, op), relu, x, op);
  const GradientTensors t =
      check_gradient_tensors({grad, factors, sums, z, norm, batch_stats, out, base}, in, x,
                             s.out_channels, s.out_height, s.out_width, op);
  const bool with_norm = norm.numel() > 0, batch_norm = with_norm && batch_stats;
  const bool chained = in_norm.has_value();
  check_in_norm(in_norm, s.in_channels, x, op);
  const bool sums_wanted = out && chained;
  Tensor in_sums = empty_matrix(x, sums_wanted ? 2 : 0, s.in_channels, ScalarType::Double);
  std::vector<Tensor> grad_products;
  Tensor grad_depthwise = empty_vector(x, 0, x.scalar_type());
  if (need_weights) {
    for (const Tensor& w : weights.products) grad_products.push_back(torch::stable::empty_like(w));
    if (s.depthwise) grad_depthwise = torch::stable::empty_like(*weights.depthwise);
  }
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>();
    const int64_t lanes = kernel.lanes, in_pad = round_up(s.in_channels, lanes);
    const int64_t part_pad = round_up(s.part_channels(), lanes), packed = s.parts * part_pad;
    const auto rows =
        behind_norm_rows<T>(with_norm ? data_of<T>(norm) : nullptr, data_of<double>(sums),
                            batch_stats, in.count * s.out_pixels(), s.out_channels, s.parts, lanes);
    const auto taps = pack_depthwise<T>(s, weights, lanes, false);
    const auto flipped = pack_depthwise<T>(s, weights, lanes, true);
    const auto matrix = pack_backward<T>(s, weights, lanes);
    const PaddedNorm<T> before =
        chained ? PaddedNorm<T>(data_of<T>(*in_norm), s.in_channels, 1, lanes) : PaddedNorm<T>();
    const int64_t chunks = image_chunks(in.count);
    const int64_t taps_size = need_weights ? static_cast<int64_t>(taps.size()) : 0;
    const int64_t matrix_size =
        need_weights ? s.parts * product_taps(s) * s.in_channels * part_pad : 0;
    std::vector<T> grad_taps(static_cast<size_t>(chunks * taps_size), T(0));
    std::vector<T> grad_matrix(static_cast<size_t>(chunks * matrix_size), T(0));
    std::vector<double> image_sums(static_cast<size_t>(sums_wanted ? in.count * 2 * in_pad : 0));
    const BlockedScratch<T> inside(s.reach_h(), s.reach_w(), in_pad, lanes);
    const BlockedScratch<T> spread(spread_height(s), spread_width(s), in_pad, lanes);
    const T* const factor = factors ? data_of<T>(*factors) : nullptr;
    for_image_chunks(in.count, [&](int64_t chunk, int64_t first, int64_t last) {
      const int64_t group = backward_scratch(s, lanes);
      Scratch scratch(Scratch::bytes<T>(group) + Scratch::bytes<T>(inside.size) +
                      Scratch::bytes<T>(spread.size) + Scratch::bytes<T>(packed));
      BackwardImage<T> b{};
      b.scratch = scratch.take<T>(group);
      T* const scaled = scratch.take<T>(packed);
      const Blocked<T> input =
          need_weights && !s.is_pointwise() ? inside.zeroed(scratch) : Blocked<T>{};
      if (!s.is_pointwise()) b.spread = spread.zeroed(scratch);
      b.input = readable(input);
      b.in = before.affine();
      b.in_mean = before.row(kMean);
      b.in_rstd = before.row(kRstd);
      b.flipped = flipped.data();
      b.depthwise = taps.data();
      b.pointwise = matrix.data();
      if (need_weights) {
        b.grad_depthwise = s.depthwise ? grad_taps.data() + chunk * taps_size : nullptr;
        b.grad_pointwise = grad_matrix.data() + chunk * matrix_size;
      }
      for (int64_t n = first; n < last; ++n) {
        b.grad = Pixels<const T>{data_of<T>(grad), t.grad.pitch}.image(n, s.out_pixels());
        if (batch_norm) b.z = Pixels<const T>{data_of<T>(z), t.z.pitch}.image(n, s.out_pixels());
        b.x = Pixels<const T>{data_of<T>(x), in.pitch}.image(n, in.pixels());
        if (out) b.grad_x = Pixels<T>{mutable_data_of<T>(*out), t.out.pitch}.image(n, in.pixels());
        if (base) b.base = Pixels<const T>{data_of<T>(*base), t.base.pitch}.image(n, in.pixels());
        if (sums_wanted) {
          b.in_sum = image_sums.data() + n * 2 * in_pad;
          b.in_dot = b.in_sum + in_pad;
        }
        b.norm = norm_of_image(rows, packed, factor ? factor + n : nullptr, scaled);
        if (input.data) kernel.pad_image(s, b.x, b.in, input);
        kernel.backward_image(s, b);
      }
    });
    if (need_weights) {
      unpack_products(s, grad_matrix, chunks, matrix_size, lanes, grad_products);
      if (s.depthwise)
        unpack_depthwise(s, grad_taps.data(), chunks, taps_size, lanes,
                         mutable_data_of<T>(grad_depthwise));
    }
    if (sums_wanted) {
      double* const total = mutable_data_of<double>(in_sums);
      for (int64_t k = 0; k < 2; ++k)
        for (int64_t c = 0; c < s.in_channels; ++c) {
          double sum = 0;
          for (int64_t n = 0; n < in.count; ++n)
            sum += image_sums[static_cast<size_t>((n * 2 + k) * in_pad + c)];
          total[k * s.in_channels + c] = sum;
        }
    }
  });
  return {in_sums, grad_depthwise, grad_products};
}
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("block_forward", TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCpu>::block_forward));
  m.impl("block_backward", TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCpu>::block_backward));
}
