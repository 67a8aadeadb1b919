// SPDX-License-Identifier: MIT
// Blocks on CUDA.
#include <tuple>

#include "../cell/operators.h"
#include "../common/device.h"
#include "behind_norm.h"
#include "on_device.h"

namespace nasp_ext {
template <>
std::tuple<Tensor, Tensor> Operators<OnCuda>::block_forward(
    const Tensor& x,                       // (N, C, H, W), channels_last
    const std::optional<Tensor>& in_norm,  // (5, C)
    const std::optional<Tensor>& depthwise, std::vector<Tensor> products,
    const std::vector<int64_t>& geometry, bool relu, bool norm, const std::optional<Tensor>& weight,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& mean,
    const std::optional<Tensor>& var, double eps) {
  const char* op = "block_forward";
  const Images in = as_images(x, op, "x");
  BlockWeights weights{depthwise, std::move(products)};
  const BlockShape s = block_shape(in, weights, check_geometry(geometry, op), relu, x, op);
  const NormArguments bn{weight, bias, mean, var, eps};
  check_norm_arguments(bn, s.out_channels, x, op);
  check_in_norm(in_norm, s.in_channels, x, op);
  const DeviceScope device(x);
  Tensor z = empty_images(x, in.count, s.out_channels, s.out_height, s.out_width);
  Tensor rows = empty_matrix(x, norm ? kNormRows : 0, s.out_channels, x.scalar_type());
  if (in.count == 0 || s.out_channels == 0) return {z, rows};
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const BlockGeometry g = geometry_of(s, in.count, op);
    const int64_t tiles = tiles_of(g.out_pixels(), kTilePixels);
    const bool batch = norm && !bn.mean;
    const Tensor sums = empty_sums(x, batch, kMomentRows, tiles, s.out_channels);
    BlockForwards<T> forwards{};
    BlockForward<T>& f = forwards.block[0];
    f.shape = g;
    f.x_pitch = narrow(in.pitch, op);
    f.weights = weights_on_device<T>(weights);
    f.x = data_of<T>(x);
    f.in_norm = data_or_null<T>(in_norm);
    f.z = mutable_data_of<T>(z);
    f.sums = batch ? mutable_data_of<T>(sums) : nullptr;
    launch_block_forward(forwards, 1, device.stream());
    if (!norm) return;
    FinishNorms<T> finish{};
    finish.norm[0] = finish_of(bn, data_of<T>(sums), g.out_pixels(), kTilePixels, s.out_channels,
                               mutable_data_of<T>(rows), op);
    launch_finish_norms(finish, 1, device.stream());
  });
  return {z, rows};
}

namespace {

// What the kernels leave in pieces, and the launch that adds it up.
template <class T>
class Pieces {
 public:
  explicit Pieces(const Tensor& like) : like_(like) {}

  // (rows, size), to be written by a kernel.
  T* room(int64_t rows, int64_t size) {
    rooms_.push_back(empty_vector(like_, rows * size, like_.scalar_type()));
    return mutable_data_of<T>(rooms_.back());
  }
  void add_to(T* out, const T* from, int64_t rows, int64_t size, int64_t stride) {
    if (size > 0) sums_.sum[count_++] = {from, rows, size, stride, out, nullptr};
  }
  void add_to(double* out, const T* from, int64_t rows, int64_t size) {
    if (size > 0) sums_.sum[count_++] = {from, rows, size, size, nullptr, out};
  }
  void launch(stream_t stream) const {
    if (count_ > 0) launch_sums_of_rows(sums_, count_, stream);
  }

 private:
  const Tensor& like_;
  std::vector<Tensor> rooms_;
  SumsOfRows<T> sums_{};  // two parts of a product, a depthwise convolution, the BN before
  int count_ = 0;
};

}  // namespace

template <>
std::tuple<Tensor, Tensor, std::vector<Tensor>> Operators<OnCuda>::block_backward(
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
  const Images in = as_images(x, op, "x");
  BlockWeights weights{depthwise, std::move(products)};
  const BlockShape s = block_shape(in, weights, check_geometry(geometry, op), relu, x, op);
  const GradientTensors t =
      check_gradient_tensors({grad, factors, sums, z, norm, batch_stats, out, base}, in, x,
                             s.out_channels, s.out_height, s.out_width, op);
  check_in_norm(in_norm, s.in_channels, x, op);
  const bool with_norm = norm.numel() > 0, sums_wanted = out && in_norm;
  const DeviceScope device(x);
  Tensor in_sums = empty_matrix(x, sums_wanted ? 2 : 0, s.in_channels, ScalarType::Double);
  std::vector<Tensor> grad_products;
  Tensor grad_depthwise = empty_vector(x, 0, x.scalar_type());
  if (need_weights) {
    for (const Tensor& w : weights.products) grad_products.push_back(torch::stable::empty_like(w));
    if (s.depthwise) grad_depthwise = torch::stable::empty_like(*weights.depthwise);
  }
  dispatch_single_double(x.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const BlockGeometry g = geometry_of(s, in.count, op);
    const int64_t pixels = g.out_pixels(), tiles = tiles_of(g.in_pixels(), kTilePixels);
    const bool between = s.depthwise && (need_weights || out);
    Pieces<T> pieces(x);
    BlockBackward<T> b{};
    b.shape = g;
    b.x_pitch = narrow(in.pitch, op);
    b.grad_pitch = narrow(t.grad.pitch, op);
    b.z_pitch = narrow(t.z.pitch, op);
    b.weights = weights_on_device<T>(weights);
    b.grad = data_of<T>(grad);
    b.factors = data_or_null<T>(factors);
    b.sums = with_norm && batch_stats ? data_of<double>(sums) : nullptr;
    b.per_count = 1.0 / static_cast<double>(pixels);
    b.z = data_of<T>(z);
    b.norm = with_norm ? data_of<T>(norm) : nullptr;
    b.x = data_of<T>(x);
    b.in_norm = data_or_null<T>(in_norm);
    if (between) b.between = pieces.room(pixels, s.in_channels);
    if (out) {
      b.out = mutable_data_of<T>(*out);
      b.out_pitch = narrow(t.out.pitch, op);
    }
    if (base) {
      b.base = data_of<T>(*base);
      b.base_pitch = narrow(t.base.pitch, op);
    }
    if (sums_wanted) {
      b.in_sums = pieces.room(tiles, 2 * s.in_channels);
      pieces.add_to(mutable_data_of<double>(in_sums), b.in_sums, tiles, 2 * s.in_channels);
    }
    if (need_weights) {
      const int64_t part = s.part_channels() * s.in_channels * g.product_taps(),
                    all = s.parts * part;
      b.product_splits = product_splits<T>(g);
      b.grad_products = pieces.room(b.product_splits, all);
      for (int64_t i = 0; i < s.parts; ++i)
        pieces.add_to(mutable_data_of<T>(grad_products[static_cast<size_t>(i)]),
                      b.grad_products + i * part, b.product_splits, part, all);
      if (s.depthwise) {
        const int64_t size = s.in_channels * s.taps();
        b.depthwise_splits = depthwise_splits<T>(g);
        b.grad_depthwise = pieces.room(b.depthwise_splits, size);
        pieces.add_to(mutable_data_of<T>(grad_depthwise), b.grad_depthwise, b.depthwise_splits,
                      size, size);
      }
    }
    if (pixels > 0 && (need_weights || out)) {
      launch_product_backward(b, device.stream());
      if (s.depthwise) launch_depthwise_backward(b, device.stream());
    }
    pieces.launch(device.stream());
  });
  return {in_sums, grad_depthwise, grad_products};
}

namespace {

// PyTorch's allocator keeps memory by itself.
Tensor empty_images_like(const Tensor& like, const std::vector<int64_t>& size) {
  if (size.size() != 4)
    fail("empty_images: expected a size (N, C, H, W), found ", size.size(), " numbers");
  const DeviceScope device(like);
  return empty_images(like, size[0], size[1], size[2], size[3]);
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("empty_images", TORCH_BOX(&nasp_ext::empty_images_like));
  m.impl("block_forward", TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCuda>::block_forward));
  m.impl("block_backward", TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCuda>::block_backward));
}
