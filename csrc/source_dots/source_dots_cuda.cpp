// SPDX-License-Identifier: MIT
// source_dots on CUDA: the options of all edges out of one node in one set of launches.
//
// First the pools and skips, each once for all edges, and the first blocks of all chains, then
// their norms, the second blocks of all chains, and so on: two launches for each depth of the
// chains, one for the pools, one for the totals, more only where a launch's parameters are full. As
// on the CPU, the last block of an option is multiplied with the gradient tile by tile and
// forgotten.
#include <array>
#include <map>

#include "../block/on_device.h"
#include "../core/boxed.h"
#include "../core/device.h"
#include "../norm/norm.h"
#include "../norm/on_device.h"
#include "../pool/on_device.h"
#include "source_dots.h"

namespace nasp_ext {
namespace {

template <class T>
class SourceDots {
 public:
  SourceDots(const Tensor& x, const Tensors& grads, const std::vector<SourceOption>& options,
             stream_t stream)
      : x_(x), in_(as_images(x, kOp, "x")), grads_(grads), options_(options), stream_(stream) {
    for (const Tensor& grad : grads) width_ = std::max(width_, grad.size(1));
    for (const SourceOption& o : options) depth_ = std::max(depth_, o.blocks().size());
    const auto count = static_cast<int64_t>(options.size());
    contributions_ = empty_matrix(x, count, width_, ScalarType::Double);
    before_.resize(options.size());
  }

  void run(T* out) {
    pools();
    for (size_t depth = 0; depth < std::max<size_t>(depth_, 1); ++depth) {
      blocks(depth);
      finish();
    }
    totals(out);
  }

 private:
  static constexpr const char* kOp = "source_dots";

  // What the block of a chain that ran last gave.
  struct Before {
    Tensor z, norm;  // norm: empty without a BN
  };

  Tensor room(int64_t size) const { return empty_vector(x_, size, x_.scalar_type()); }

  void pools() {
    std::map<std::array<int64_t, 3>, std::vector<size_t>> kinds;
    for (size_t i = 0; i < options_.size(); ++i) {
      const PoolShape& s = options_[i].pool;
      if (options_[i].kind() != OptionKind::kChain) kinds[{s.max, s.kernel, s.stride}].push_back(i);
    }
    std::vector<PoolForward<T>> forwards;
    for (const auto& [kind, options] : kinds)
      for (size_t first = 0; first < options.size(); first += kGradsOfPool)
        forwards.push_back(pool(options, first));
    launch_in_chunks<PoolForwards<T>, kPoolsPerLaunch>(
        forwards, [](PoolForwards<T>& p) { return p.pool; }, launch_pool_forward<T>, stream_);
  }

  // One pool for up to kGradsOfPool options from `first` on.
  PoolForward<T> pool(const std::vector<size_t>& options, size_t first) {
    const size_t count = std::min<size_t>(options.size() - first, kGradsOfPool);
    const PoolShape& s = options_[options[first]].pool;
    PoolForward<T> f{};
    f.shape = geometry_of(s, in_.count, kOp);
    f.x_pitch = narrow(in_.pitch, kOp);
    f.x = data_of<T>(x_);
    const int64_t rows = tiles_of(f.shape.out_pixels(), kTilePixels) * s.channels;
    rooms_.push_back(room((kMomentRows + 2 * static_cast<int64_t>(count)) * rows));
    f.sums = mutable_data_of<T>(rooms_.back());
    f.dots = f.sums + kMomentRows * rows;
    f.grad_count = static_cast<int>(count);
    for (size_t g = 0; g < count; ++g) {
      const size_t number = options[first + g];
      const Tensor& grad = grads_[static_cast<size_t>(options_[number].grad)];
      f.grads[g] = data_of<T>(grad);
      f.grad_pitches[g] = narrow(as_images(grad, kOp, "grads").pitch, kOp);
      finish_option(number, options_[number].norm(), f.sums,
                    f.dots + 2 * static_cast<int64_t>(g) * rows, f.shape.out_pixels(), s.channels);
    }
    return f;
  }

  // The blocks at one depth of all chains that reach it.
  void blocks(size_t depth) {
    std::vector<BlockForward<T>> forwards;
    std::vector<Before> read;  // lives until the launch
    for (size_t i = 0; i < options_.size(); ++i)
      if (depth < options_[i].blocks().size()) {
        read.push_back(before_[i]);
        forwards.push_back(block(i, depth));
      }
    launch_in_chunks<BlockForwards<T>, kForwardsPerLaunch>(
        forwards, [](BlockForwards<T>& b) { return b.block; }, launch_block_forward<T>, stream_);
  }

  BlockForward<T> block(size_t number, size_t depth) {
    const SourceOption& o = options_[number];
    const ProgramBlock& b = o.blocks()[depth];
    const bool last = depth + 1 == o.blocks().size();
    const Before before = before_[number];
    BlockForward<T> f{};
    f.shape = geometry_of(b.shape, in_.count, kOp);
    f.weights = weights_on_device<T>(b.weights);
    f.x = depth ? data_of<T>(before.z) : data_of<T>(x_);
    f.x_pitch = narrow(depth ? b.shape.in_channels : in_.pitch, kOp);
    f.in_norm = depth && before.norm.numel() ? data_of<T>(before.norm) : nullptr;
    const int64_t pixels = f.shape.out_pixels(), channels = b.shape.out_channels;
    if (last || b.norm.exists) {
      const int64_t rows = tiles_of(pixels, kTilePixels) * channels;
      rooms_.push_back(room((last ? kSumRows : kMomentRows) * rows));
      f.sums = mutable_data_of<T>(rooms_.back());
      const T* const dots = last ? f.sums + kMomentRows * rows : nullptr;
      before_[number].norm = finish_option(number, b.norm, f.sums, dots, pixels, channels);
    } else {
      before_[number].norm = room(0);
    }
    if (last) {
      const Tensor& grad = grads_[static_cast<size_t>(o.grad)];
      f.grad = data_of<T>(grad);
      f.grad_pitch = narrow(as_images(grad, kOp, "grads").pitch, kOp);
    } else {
      before_[number].z = room(pixels * channels);
      f.z = mutable_data_of<T>(before_[number].z);
    }
    return f;
  }

  // Queues the end of a block or pool: its norm, which is returned, and with dots its
  // contributions.
  Tensor finish_option(size_t number, const ProgramNorm& norm, const T* sums, const T* dots,
                       int64_t pixels, int64_t channels) {
    Tensor rows = room(norm.exists ? kNormRows * channels : 0);
    FinishNorm<T> f = finish_of(norm.arguments, sums, pixels, kTilePixels, channels,
                                norm.exists ? mutable_data_of<T>(rows) : nullptr, kOp);
    if (norm.updates) {
      f.running = {mutable_data_of<T>(*norm.mean), mutable_data_of<T>(*norm.var),
                   mutable_data_of<int64_t>(*norm.batches), norm.momentum};
    }
    f.dots = dots;
    if (dots)
      f.contributions =
          mutable_data_of<double>(contributions_) + static_cast<int64_t>(number) * width_;
    rooms_.push_back(rows);
    finishes_.push_back(f);
    return rows;
  }

  void finish() {
    launch_in_chunks<FinishNorms<T>, kFinishesPerLaunch>(
        finishes_, [](FinishNorms<T>& n) { return n.norm; }, launch_finish_norms<T>, stream_);
    finishes_.clear();
    rooms_.clear();
  }

  void totals(T* out) {
    const double* const terms = data_of<double>(contributions_);
    for (size_t first = 0; first < options_.size(); first += kTotalsPerLaunch) {
      const size_t count = std::min<size_t>(options_.size() - first, kTotalsPerLaunch);
      TotalChannels channels{};
      for (size_t i = 0; i < count; ++i)
        channels.channels[i] =
            narrow(grads_[static_cast<size_t>(options_[first + i].grad)].size(1), kOp);
      launch_totals(terms + static_cast<int64_t>(first) * width_, width_, channels,
                    static_cast<int>(count), out + first, stream_);
    }
  }

  const Tensor& x_;
  Images in_;
  const Tensors& grads_;
  const std::vector<SourceOption>& options_;
  stream_t stream_;
  int64_t width_ = 1;
  size_t depth_ = 0;
  Tensor contributions_;        // (options, width), of every channel of an option to its dot
  std::vector<Before> before_;  // of each option
  Tensors rooms_;               // of the launches since the last finish
  std::vector<FinishNorm<T>> finishes_;
};

}  // namespace

template <>
Tensor option_dots<OnCuda>(const Tensor& x, const Tensors& grads,
                           std::vector<SourceOption>& options) {
  const DeviceScope device(x);
  Tensor dots = empty_vector(x, static_cast<int64_t>(options.size()), x.scalar_type());
  if (options.empty()) return dots;
  dispatch_single_double(x.scalar_type(), "source_dots", [&](auto zero) {
    using T = decltype(zero);
    SourceDots<T>(x, grads, options, device.stream()).run(mutable_data_of<T>(dots));
  });
  return dots;
}

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("source_dots", NASP_BOX(&nasp_ext::source_dots<nasp_ext::OnCuda>));
}
