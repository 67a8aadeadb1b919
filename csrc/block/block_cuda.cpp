// SPDX-License-Identifier: MIT
// Blocks on CUDA.
#include <tuple>

#include "../core/boxed.h"
#include "../core/device.h"
#include "../core/image_memory.h"
#include "../norm/behind_norm.h"
#include "../norm/on_device.h"
#include "block.h"
#include "on_device.h"

namespace nasp_ext {
namespace {

// What the kernels leave in pieces, and the launches that add it up.
template <class T>
class Pieces {
 public:
  // (rows, size), to be written by a kernel.
  T* room(const Tensor& like, int64_t rows, int64_t size) {
    rooms_.push_back(empty_vector(like, rows * size, like.scalar_type()));
    return mutable_data_of<T>(rooms_.back());
  }
  void add_to(T* out, const T* from, int64_t rows, int64_t size, int64_t stride) {
    if (size > 0) sums_.push_back({from, rows, size, stride, out, nullptr});
  }
  void add_to(double* out, const T* from, int64_t rows, int64_t size) {
    if (size > 0) sums_.push_back({from, rows, size, size, nullptr, out});
  }
  void launch(stream_t stream) const {
    launch_in_chunks<SumsOfRows<T>, kSumsPerLaunch>(
        sums_, [](SumsOfRows<T>& s) { return s.sum; }, launch_sums_of_rows<T>, stream);
  }

 private:
  std::vector<Tensor> rooms_;
  std::vector<SumOfRows<T>> sums_;
};

template <class T>
class ForwardLaunch {
 public:
  BlockOutput add(const BlockForwardCall& call) {
    const char* op = "block_forward";
    const Images in = as_first_images(call.x, op, "x");
    const ProgramBlock& block = call.block;
    BlockWeights weights = block.weights;
    const BlockShape s = block_shape(in, weights, block.geometry, block.relu, call.x, op);
    const NormArguments& bn = block.norm.arguments;
    check_norm_arguments(bn, s.out_channels, call.x, op);
    check_in_norm(call.in_norm, s.in_channels, call.x, op);
    const bool norm = block.norm.exists, batch = norm && !bn.mean;
    check_batch(norm, bn, in.count, op);
    Tensor z = new_images<OnCuda>(call.x, in.count, s.out_channels, s.out_height, s.out_width);
    Tensor rows = empty_matrix(call.x, norm ? kNormRows : 0, s.out_channels, call.x.scalar_type());
    BlockForward<T> f{};
    f.shape = geometry_of(s, in.count, op);
    const int64_t tiles = tiles_of(f.shape.out_pixels(), kTilePixels);
    sums_.push_back(empty_sums(call.x, batch, kMomentRows, tiles, s.out_channels));
    f.x_pitch = narrow(in.pitch, op);
    f.weights = weights_on_device<T>(weights);
    f.x = data_of<T>(call.x);
    f.in_norm = data_or_null<T>(call.in_norm);
    f.z = mutable_data_of<T>(z);
    f.sums = batch ? mutable_data_of<T>(sums_.back()) : nullptr;
    if (in.count > 0) forwards_.push_back(f);
    weights_.push_back(std::move(weights));
    if (norm)
      finishes_.push_back(finish_of(bn, data_of<T>(sums_.back()), f.shape.out_pixels(), kTilePixels,
                                    s.out_channels, mutable_data_of<T>(rows), op));
    return {z, rows};
  }
  void launch(stream_t stream) const {
    launch_in_chunks<BlockForwards<T>, kForwardsPerLaunch>(
        forwards_, [](BlockForwards<T>& b) { return b.block; }, launch_block_forward<T>, stream);
    launch_in_chunks<FinishNorms<T>, kFinishesPerLaunch>(
        finishes_, [](FinishNorms<T>& n) { return n.norm; }, launch_finish_norms<T>, stream);
  }

 private:
  std::vector<BlockForward<T>> forwards_;
  std::vector<FinishNorm<T>> finishes_;
  std::vector<Tensor> sums_;
  std::vector<BlockWeights> weights_;  // contiguous copies live until the launch
};

template <class T>
class BackwardLaunch {
 public:
  BlockGradients add(const BlockBackwardCall& call) {
    const char* op = "block_backward";
    const ProgramBlock& block = call.block;
    const Tensor& x = call.x;
    const Images in = as_first_images(x, op, "x");
    BlockWeights weights = block.weights;
    const BlockShape s = block_shape(in, weights, block.geometry, block.relu, x, op);
    const bool batch = block.norm.batch;
    const GradientTensors t = check_gradient_tensors(
        {call.grad, call.factors, call.sums, call.z, call.norm, batch, call.out, call.base}, in, x,
        s.out_channels, s.out_height, s.out_width, op);
    check_in_norm(call.in_norm, s.in_channels, x, op);
    const bool with_norm = call.norm.numel() > 0, sums_wanted = call.out && call.in_norm;
    Tensor in_sums = empty_matrix(x, sums_wanted ? 2 : 0, s.in_channels, ScalarType::Double);
    Tensor grad_depthwise = empty_vector(x, 0, x.scalar_type());
    Tensors grad_products;
    BlockBackward<T> b{};
    b.shape = geometry_of(s, in.count, op);
    const int64_t pixels = b.shape.out_pixels();
    const int64_t tiles = tiles_of(b.shape.in_pixels(), kTilePixels);
    b.x_pitch = narrow(in.pitch, op);
    b.grad_pitch = narrow(t.grad.pitch, op);
    b.z_pitch = narrow(t.z.pitch, op);
    b.weights = weights_on_device<T>(weights);
    b.grad = data_of<T>(call.grad);
    b.factors = data_or_null<T>(call.factors);
    b.sums = with_norm && batch ? data_of<double>(call.sums) : nullptr;
    b.per_count = 1.0 / static_cast<double>(pixels);
    b.z = data_of<T>(call.z);
    b.norm = with_norm ? data_of<T>(call.norm) : nullptr;
    b.x = data_of<T>(x);
    b.in_norm = data_or_null<T>(call.in_norm);
    if (s.depthwise && (call.need_weights || call.out))
      b.between = pieces_.room(x, pixels, s.in_channels);
    if (call.out) {
      b.out = mutable_data_of<T>(*call.out);
      b.out_pitch = narrow(t.out.pitch, op);
    }
    if (call.base) {
      b.base = data_of<T>(*call.base);
      b.base_pitch = narrow(t.base.pitch, op);
    }
    if (sums_wanted) {
      b.in_sums = pieces_.room(x, tiles, 2 * s.in_channels);
      pieces_.add_to(mutable_data_of<double>(in_sums), b.in_sums, tiles, 2 * s.in_channels);
    }
    if (call.need_weights) {
      grad_products = product_gradients(x, s, weights, b);
      if (s.depthwise) grad_depthwise = depthwise_gradient(x, s, weights, b);
    }
    if (pixels > 0 && (call.need_weights || call.out)) {
      products_.push_back(b);
      if (s.depthwise) depthwise_.push_back(b);
    }
    weights_.push_back(std::move(weights));
    return {in_sums, grad_depthwise, grad_products};
  }
  void launch(stream_t stream) const {
    const auto list = [](BlockBackwards<T>& b) { return b.block; };
    launch_in_chunks<BlockBackwards<T>, kBackwardsPerLaunch>(products_, list,
                                                             launch_product_backward<T>, stream);
    launch_in_chunks<BlockBackwards<T>, kBackwardsPerLaunch>(depthwise_, list,
                                                             launch_depthwise_backward<T>, stream);
    pieces_.launch(stream);
  }

 private:
  Tensors product_gradients(const Tensor& x, const BlockShape& s, const BlockWeights& weights,
                            BlockBackward<T>& b) {
    const BlockGeometry& g = b.shape;
    const int64_t part = s.part_channels() * s.in_channels * g.product_taps(), all = s.parts * part;
    b.product_splits = g.images > 0 ? product_splits<T>(g) : 0;
    b.grad_products = pieces_.room(x, b.product_splits, all);
    Tensors grads;
    for (int64_t i = 0; i < s.parts; ++i) {
      grads.push_back(torch::stable::empty_like(weights.products[static_cast<size_t>(i)]));
      pieces_.add_to(mutable_data_of<T>(grads.back()), b.grad_products + i * part, b.product_splits,
                     part, all);
    }
    return grads;
  }
  Tensor depthwise_gradient(const Tensor& x, const BlockShape& s, const BlockWeights& weights,
                            BlockBackward<T>& b) {
    const BlockGeometry& g = b.shape;
    const int64_t size = s.in_channels * s.taps();
    Tensor grad = torch::stable::empty_like(*weights.depthwise);
    b.depthwise_splits = g.images > 0 ? depthwise_splits<T>(g) : 0;
    b.grad_depthwise = pieces_.room(x, b.depthwise_splits, size);
    pieces_.add_to(mutable_data_of<T>(grad), b.grad_depthwise, b.depthwise_splits, size, size);
    return grad;
  }

  std::vector<BlockBackward<T>> products_, depthwise_;
  Pieces<T> pieces_;
  std::vector<BlockWeights> weights_;  // contiguous copies live until the launch
};

// All calls in one launch set; they are of one dtype, that of the first.
template <template <class> class Launch, class Result, class Call>
std::vector<Result> launch_calls(const std::vector<Call>& calls, const char* op) {
  std::vector<Result> found;
  if (calls.empty()) return found;
  const DeviceScope device(calls[0].x);
  dispatch_single_double(calls[0].x.scalar_type(), op, [&](auto zero) {
    Launch<decltype(zero)> launch;
    for (const Call& call : calls) {
      check_like(call.x, calls[0].x, op, "x");
      found.push_back(launch.add(call));
    }
    launch.launch(device.stream());
  });
  return found;
}

}  // namespace

template <>
std::vector<BlockOutput> blocks_forward<OnCuda>(const std::vector<BlockForwardCall>& calls) {
  return launch_calls<ForwardLaunch, BlockOutput>(calls, "block_forward");
}

template <>
std::vector<BlockGradients> blocks_backward<OnCuda>(const std::vector<BlockBackwardCall>& calls) {
  return launch_calls<BackwardLaunch, BlockGradients>(calls, "block_backward");
}

namespace {

BlockOutput block_forward(const BlockForwardCall& call) {
  return blocks_forward<OnCuda>({call})[0];
}

BlockGradients block_backward(const BlockBackwardCall& call) {
  return blocks_backward<OnCuda>({call})[0];
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("block_forward", NASP_BOX(&nasp_ext::block_forward));
  m.impl("block_backward", NASP_BOX(&nasp_ext::block_backward));
}
