// SPDX-License-Identifier: MIT
// Blocks on the CPU: images over threads, sums of the images added in their order.
#include <tuple>

#include "../core/boxed.h"
#include "../core/image_memory.h"
#include "../core/scratch.h"
#include "../norm/behind_norm.h"
#include "block.h"
#include "block_loops.h"
#include "packed_weights.h"

namespace nasp_ext {
namespace {

BlockOutput block_forward(const BlockForwardCall& call) {
  const char* op = "block_forward";
  const Tensor& x = call.x;
  const MaybeTensor& in_norm = call.in_norm;
  const bool norm = call.block.norm.exists;
  const NormArguments& bn = call.block.norm.arguments;
  const Images in = as_first_images(x, op, "x");
  BlockWeights weights = call.block.weights;
  const BlockShape s = block_shape(in, weights, call.block.geometry, call.block.relu, x, op);
  check_norm_arguments(bn, s.out_channels, x, op);
  check_batch(norm, bn, in.count, op);
  check_in_norm(in_norm, s.in_channels, x, op);
  Tensor z = new_images<OnCpu>(x, in.count, s.out_channels, s.out_height, s.out_width);
  Tensor rows = empty_matrix(x, norm ? kNormRows : 0, s.out_channels, x.scalar_type());
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const BlockLoops<T>& loops = block_loops<T>();
    const int64_t lanes = loops.lanes, in_pad = round_up(s.in_channels, lanes);
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
        if (input.data) loops.pad_image(s, f.x, f.in, input);
        loops.forward_image(s, f);
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

BlockGradients block_backward(const BlockBackwardCall& call) {
  const char* op = "block_backward";
  const Tensor& x = call.x;
  const bool batch_stats = call.block.norm.batch;
  const Images in = as_first_images(x, op, "x");
  BlockWeights weights = call.block.weights;
  const BlockShape s = block_shape(in, weights, call.block.geometry, call.block.relu, x, op);
  const GradientTensors t = check_gradient_tensors(
      {call.grad, call.factors, call.sums, call.z, call.norm, batch_stats, call.out, call.base}, in,
      x, s.out_channels, s.out_height, s.out_width, op);
  const bool with_norm = call.norm.numel() > 0, batch_norm = with_norm && batch_stats;
  const bool chained = call.in_norm.has_value();
  check_in_norm(call.in_norm, s.in_channels, x, op);
  const bool sums_wanted = call.out && chained;
  Tensor in_sums = empty_matrix(x, sums_wanted ? 2 : 0, s.in_channels, ScalarType::Double);
  std::vector<Tensor> grad_products;
  Tensor grad_depthwise = empty_vector(x, 0, x.scalar_type());
  if (call.need_weights) {
    for (const Tensor& w : weights.products) grad_products.push_back(torch::stable::empty_like(w));
    if (s.depthwise) grad_depthwise = torch::stable::empty_like(*weights.depthwise);
  }
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const BlockLoops<T>& loops = block_loops<T>();
    const int64_t lanes = loops.lanes, in_pad = round_up(s.in_channels, lanes);
    const int64_t part_pad = round_up(s.part_channels(), lanes), packed = s.parts * part_pad;
    const auto rows =
        behind_norm_rows<T>(with_norm ? data_of<T>(call.norm) : nullptr, data_of<double>(call.sums),
                            batch_stats, in.count * s.out_pixels(), s.out_channels, s.parts, lanes);
    const auto taps = pack_depthwise<T>(s, weights, lanes, false);
    const auto flipped = pack_depthwise<T>(s, weights, lanes, true);
    const auto matrix = pack_backward<T>(s, weights, lanes);
    const PaddedNorm<T> before =
        chained ? PaddedNorm<T>(data_of<T>(*call.in_norm), s.in_channels, 1, lanes)
                : PaddedNorm<T>();
    const int64_t chunks = image_chunks(in.count);
    const int64_t taps_size = call.need_weights ? static_cast<int64_t>(taps.size()) : 0;
    const int64_t matrix_size =
        call.need_weights ? s.parts * product_taps(s) * s.in_channels * part_pad : 0;
    std::vector<T> grad_taps(static_cast<size_t>(chunks * taps_size), T(0));
    std::vector<T> grad_matrix(static_cast<size_t>(chunks * matrix_size), T(0));
    std::vector<double> image_sums(static_cast<size_t>(sums_wanted ? in.count * 2 * in_pad : 0));
    const BlockedScratch<T> inside(s.reach_h(), s.reach_w(), in_pad, lanes);
    const BlockedScratch<T> spread(spread_height(s), spread_width(s), in_pad, lanes);
    const T* const factor = call.factors ? data_of<T>(*call.factors) : nullptr;
    for_image_chunks(in.count, [&](int64_t chunk, int64_t first, int64_t last) {
      const int64_t group = backward_scratch(s, lanes);
      Scratch scratch(Scratch::bytes<T>(group) + Scratch::bytes<T>(inside.size) +
                      Scratch::bytes<T>(spread.size) + Scratch::bytes<T>(packed));
      BackwardImage<T> b{};
      b.scratch = scratch.take<T>(group);
      T* const scaled = scratch.take<T>(packed);
      const Blocked<T> input =
          call.need_weights && !s.is_pointwise() ? inside.zeroed(scratch) : Blocked<T>{};
      if (!s.is_pointwise()) b.spread = spread.zeroed(scratch);
      b.input = readable(input);
      b.in = before.affine();
      b.in_mean = before.row(kMean);
      b.in_rstd = before.row(kRstd);
      b.flipped = flipped.data();
      b.depthwise = taps.data();
      b.pointwise = matrix.data();
      if (call.need_weights) {
        b.grad_depthwise = s.depthwise ? grad_taps.data() + chunk * taps_size : nullptr;
        b.grad_pointwise = grad_matrix.data() + chunk * matrix_size;
      }
      for (int64_t n = first; n < last; ++n) {
        b.grad = Pixels<const T>{data_of<T>(call.grad), t.grad.pitch}.image(n, s.out_pixels());
        if (batch_norm)
          b.z = Pixels<const T>{data_of<T>(call.z), t.z.pitch}.image(n, s.out_pixels());
        b.x = Pixels<const T>{data_of<T>(x), in.pitch}.image(n, in.pixels());
        if (call.out)
          b.grad_x = Pixels<T>{mutable_data_of<T>(*call.out), t.out.pitch}.image(n, in.pixels());
        if (call.base)
          b.base = Pixels<const T>{data_of<T>(*call.base), t.base.pitch}.image(n, in.pixels());
        if (sums_wanted) {
          b.in_sum = image_sums.data() + n * 2 * in_pad;
          b.in_dot = b.in_sum + in_pad;
        }
        b.norm = norm_of_image(rows, packed, factor ? factor + n : nullptr, scaled);
        if (input.data) loops.pad_image(s, b.x, b.in, input);
        loops.backward_image(s, b);
      }
    });
    if (call.need_weights) {
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

}  // namespace

template <>
std::vector<BlockOutput> blocks_forward<OnCpu>(const std::vector<BlockForwardCall>& calls) {
  std::vector<BlockOutput> found;
  for (const BlockForwardCall& call : calls) found.push_back(block_forward(call));
  return found;
}

template <>
std::vector<BlockGradients> blocks_backward<OnCpu>(const std::vector<BlockBackwardCall>& calls) {
  std::vector<BlockGradients> found;
  for (const BlockBackwardCall& call : calls) found.push_back(block_backward(call));
  return found;
}

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("block_forward", NASP_BOX(&nasp_ext::block_forward));
  m.impl("block_backward", NASP_BOX(&nasp_ext::block_backward));
}
