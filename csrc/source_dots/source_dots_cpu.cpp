// SPDX-License-Identifier: MIT
// source_dots on the CPU: the gradient of all options of all edges that leave one node.
//
// <G, BN(z)> = sum_c scale_c (sum g z - mean_c sum g): the last block of an option is computed row
// by row, multiplied with G and forgotten. Only what lies between two blocks is stored, because a
// BN needs the whole batch: the options of an edge run in one sweep over the images, their second
// blocks in the sweep of the next edge, so that two edges' worth of memory serves all.
#include <array>
#include <map>

#include "../core/boxed.h"
#include "source_dots.h"
#include "source_parts.h"

namespace nasp_ext {
namespace {

template <class T>
class SourceDots {
 public:
  SourceDots(const Tensor& x, const Tensors& grads, std::vector<SourceOption>& options, T* out)
      : blocks_(block_loops<T>()),
        loops_(source_loops<T>()),
        lanes_(blocks_.lanes),
        in_(as_images(x, "source_dots", "x")),
        x_{data_of<T>(x), in_.pitch},
        options_(options),
        out_(out) {
    for (const Tensor& grad : grads) {
      const Images images = as_images(grad, "source_dots", "grads");
      const int64_t stride = round_up(images.channels, lanes_);
      grads_.push_back({{data_of<T>(grad), images.pitch},
                        images.pixels(),
                        images.channels,
                        std::vector<double>(static_cast<size_t>(in_.count * stride)),
                        stride});
    }
    for (size_t i = 0; i < options_.size(); ++i) plan(i);
    for (auto& [key, pool] : pools_)
      pool.sums = BatchSums<T>(in_.count, round_up(pool.shape.channels, lanes_),
                               static_cast<int64_t>(grads_.size()));
  }

  void run() {
    const auto edges = static_cast<int64_t>(grads_.size());
    const int64_t sweeps = chains_.empty() ? 1 : edges + depth_ - 1;
    SharedScratch shared(slots_ * slot_bytes_);
    for (int64_t i = 0; i < slots_; ++i) slot_.push_back(shared.take<T>(slot_size_));
    for (int64_t sweep = 0; sweep < sweeps; ++sweep) {
      std::vector<Stage> stages;
      for (Chain& chain : chains_) {
        const int64_t depth = sweep - chain.grad;
        if (depth >= 0 && depth < static_cast<int64_t>(chain.option->blocks().size()))
          stages.push_back(stage(chain, depth));
      }
      for_image_chunks(in_.count, [&](int64_t, int64_t first, int64_t last) {
        if (sweep == 0) sweep_free_options(first, last);
        sweep_stages(stages, first, last);
      });
      for (Stage& s : stages) finish(s);
      if (sweep == 0)
        for (auto& [key, pool] : pools_) finish_pool(pool);
    }
  }

 private:
  struct Chain {
    SourceOption* option;
    int64_t number, grad, index;  // index: among the chains of its edge
    PaddedNorm<T> before;         // the BN of the block that ran last
    std::vector<T> rows;          // the same, not padded
  };
  // One block of one chain, for all images.
  struct Stage {
    Chain* chain;
    int64_t depth;
    const BlockShape* shape;
    bool last;
    const T* from;  // null: x
    T* to;          // null: not stored
    std::vector<T> taps, matrix;
    BatchSums<T> sums;
  };

  ProgramBlock& block_of(const Stage& s) const {
    return s.chain->option->blocks()[static_cast<size_t>(s.depth)];
  }

  void plan(size_t i) {
    SourceOption& o = options_[i];
    if (o.kind() != OptionKind::kChain) {
      SourcePool<T>& pool = pools_[{o.pool.max, o.pool.kernel, o.pool.stride, o.norm().exists}];
      pool.shape = o.pool;
      pool.options.push_back(i);
      return;
    }
    int64_t index = 0;
    for (const Chain& other : chains_) index += other.grad == o.grad;
    chains_.push_back({&o, static_cast<int64_t>(i), o.grad, index, {}, {}});
    depth_ = std::max(depth_, static_cast<int64_t>(o.blocks().size()));
    chains_of_edge_ = std::max(chains_of_edge_, index + 1);
    for (size_t d = 0; d + 1 < o.blocks().size(); ++d)
      slot_size_ = std::max(slot_size_, in_.count * o.blocks()[d].shape.out_pixels() *
                                            o.blocks()[d].shape.out_channels);
    // A sweep reads what the sweep before wrote: slots for each edge under way, and two in turn.
    slots_ = depth_ > 1 ? depth_ * chains_of_edge_ * 2 : 0;
    slot_bytes_ = Scratch::bytes<T>(slot_size_);
    for (const ProgramBlock& b : o.blocks())
      group_size_ = std::max(group_size_, forward_scratch(b.shape, lanes_));
  }

  T* slot(const Chain& chain, int64_t depth) {
    const int64_t edge = chain.grad % depth_;
    return slot_[static_cast<size_t>((edge * chains_of_edge_ + chain.index) * 2 + depth % 2)];
  }

  Stage stage(Chain& chain, int64_t depth) {
    const ProgramBlock& b = chain.option->blocks()[static_cast<size_t>(depth)];
    const BlockShape& s = b.shape;
    const bool last = depth + 1 == static_cast<int64_t>(chain.option->blocks().size());
    return {&chain,
            depth,
            &s,
            last,
            depth ? slot(chain, depth - 1) : nullptr,
            last ? nullptr : slot(chain, depth),
            pack_depthwise<T>(s, b.weights, lanes_, false),
            pack_forward<T>(s, b.weights, lanes_),
            BatchSums<T>(in_.count, s.parts * round_up(s.part_channels(), lanes_), last)};
  }

  // Pools and skips, once for all edges; and the sums of the gradients.
  void sweep_free_options(int64_t first, int64_t last) {
    std::vector<SourcePool<T>*> pools;
    for (auto& [key, pool] : pools_) pools.push_back(&pool);
    for (size_t begin = 0; begin < pools.size(); begin += kMaxPools)
      source_pool_dots<T>(loops_, x_, in_,
                          {pools.begin() + static_cast<std::ptrdiff_t>(begin),
                           pools.begin() + static_cast<std::ptrdiff_t>(
                                               std::min<size_t>(pools.size(), begin + kMaxPools))},
                          grads_, first, last, begin == 0);
    if (!pools.empty()) return;
    for (SourceGrad<T>& g : grads_)
      for (int64_t n = first; n < last; ++n)
        loops_.channel_sums_image(g.data.image(n, g.pixels), g.pixels, g.channels, g.of_image(n));
  }

  static std::vector<const BlockShape*> first_shapes(const std::vector<Stage>& stages) {
    std::vector<const BlockShape*> shapes;
    for (const Stage& s : stages)
      if (s.depth == 0 && !s.shape->is_pointwise()) shapes.push_back(s.shape);
    return shapes;
  }

  void sweep_stages(std::vector<Stage>& stages, int64_t first, int64_t last) {
    if (stages.empty()) return;
    const auto inputs = shared_inputs<T>(first_shapes(stages));
    int64_t bytes = Scratch::bytes<T>(group_size_);
    for (const SharedInput<T>& in : inputs) bytes += Scratch::bytes<T>(in.layout(lanes_).size);
    for (const Stage& s : stages) bytes += Scratch::bytes<T>(own_layout(s).size);
    Scratch scratch(bytes);
    T* const group = scratch.take<T>(group_size_);
    std::array<Blocked<T>, 2> shared;
    for (size_t i = 0; i < 2; ++i) shared[i] = inputs[i].layout(lanes_).zeroed(scratch);
    std::vector<Blocked<T>> own;
    for (const Stage& s : stages) own.push_back(own_layout(s).zeroed(scratch));
    for (int64_t n = first; n < last; ++n) {
      for (size_t i = 0; i < 2; ++i)
        if (inputs[i].height)
          blocks_.pad_image(inputs[i].shape, x_.image(n, in_.pixels()), Affine<T>{}, shared[i]);
      for (size_t i = 0; i < stages.size(); ++i) {
        Stage& s = stages[i];
        const BlockShape& shape = *s.shape;
        const size_t relu = shape.relu;
        if (s.depth && own[i].row)
          blocks_.pad_image(shape, stage_input(s, n), s.chain->before.affine(), own[i]);
        run_stage(s, n, s.depth ? readable(own[i]) : inputs[relu].of(shape, shared[relu], lanes_),
                  group);
      }
    }
  }

  // Memory for the padded input of a block that does not read x, or nothing.
  BlockedScratch<T> own_layout(const Stage& s) const {
    if (s.depth == 0 || s.shape->is_pointwise()) return {0, 0, 0, lanes_};
    return {s.shape->reach_h(), s.shape->reach_w(), round_up(s.shape->in_channels, lanes_), lanes_};
  }

  Pixels<const T> stage_input(const Stage& s, int64_t n) const {
    const int64_t pixels = s.shape->height * s.shape->width;
    return s.from ? Pixels<const T>{s.from, s.shape->in_channels}.image(n, pixels)
                  : x_.image(n, pixels);
  }

  void run_stage(Stage& s, int64_t n, const Blocked<const T>& input, T* group) {
    const BlockShape& shape = *s.shape;
    const SourceGrad<T>& grad = grads_[static_cast<size_t>(s.chain->grad)];
    ForwardImage<T> f{};
    f.in = s.chain->before.affine();
    f.depthwise = s.taps.data();
    f.pointwise = s.matrix.data();
    f.scratch = group;
    f.input = input;
    f.x = stage_input(s, n);
    if (s.to) f.z = Pixels<T>{s.to, shape.out_channels}.image(n, shape.out_pixels());
    if (s.last) f.grad = grad.data.image(n, shape.out_pixels());
    f.sums = s.sums.of_image(n);
    blocks_.forward_image(shape, f);
  }

  // The norm of what was summed up: (5, channels), and its running statistics moved.
  std::vector<T> finish_norm(const ProgramNorm& norm, const BatchSums<T>& sums, int64_t pixels,
                             int64_t channels, int64_t parts) {
    if (!norm.exists) return {};
    std::vector<T> rows(static_cast<size_t>(kNormRows * channels));
    if (norm.arguments.mean)
      write_running_norm(norm.arguments, channels, rows.data());
    else
      write_batch_norm(norm.arguments, sums, pixels, channels, parts, lanes_, rows.data());
    if (norm.updates)
      update_running<T>({mutable_data_of<T>(*norm.mean), mutable_data_of<T>(*norm.var),
                         mutable_data_of<int64_t>(*norm.batches)},
                        rows.data(), channels, in_.count * pixels, norm.momentum);
    return rows;
  }

  void finish(Stage& s) {
    const ProgramBlock& b = block_of(s);
    Chain& chain = *s.chain;
    chain.rows =
        finish_norm(b.norm, s.sums, s.shape->out_pixels(), s.shape->out_channels, s.shape->parts);
    if (s.last)
      out_[chain.number] = source_dot(grads_[static_cast<size_t>(chain.grad)], s.sums, 0,
                                      chain.rows, b.norm.arguments.bias, s.shape->out_channels,
                                      s.shape->parts, in_.count, lanes_);
    else
      chain.before = chain.rows.empty()
                         ? PaddedNorm<T>()
                         : PaddedNorm<T>(chain.rows.data(), s.shape->out_channels, 1, lanes_);
  }

  void finish_pool(SourcePool<T>& pool) {
    for (size_t i = 0; i < pool.options.size(); ++i) {
      const SourceOption& o = options_[pool.options[i]];
      const auto rows =
          finish_norm(o.norm(), pool.sums, pool.shape.out_pixels(), pool.shape.channels, 1);
      out_[pool.options[i]] =
          source_dot(grads_[static_cast<size_t>(o.grad)], pool.sums, o.grad, rows,
                     o.norm().arguments.bias, pool.shape.channels, 1, in_.count, lanes_);
    }
  }

  const BlockLoops<T>& blocks_;
  const SourceLoops<T>& loops_;
  int64_t lanes_;
  Images in_;
  Pixels<const T> x_;
  std::vector<SourceOption>& options_;
  T* out_;
  std::vector<SourceGrad<T>> grads_;
  std::map<std::array<int64_t, 4>, SourcePool<T>> pools_;
  std::vector<Chain> chains_;
  std::vector<T*> slot_;
  int64_t depth_ = 1, chains_of_edge_ = 0, slots_ = 0, slot_size_ = 0, slot_bytes_ = 0;
  int64_t group_size_ = 0;
};

}  // namespace

template <>
Tensor option_dots<OnCpu>(const Tensor& x, const Tensors& grads,
                          std::vector<SourceOption>& options) {
  Tensor dots = empty_vector(x, static_cast<int64_t>(options.size()), x.scalar_type());
  if (options.empty()) return dots;
  dispatch_single_double(x.scalar_type(), "source_dots", [&](auto zero) {
    using T = decltype(zero);
    SourceDots<T>(x, grads, options, mutable_data_of<T>(dots)).run();
  });
  return dots;
}

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("source_dots", NASP_BOX(&nasp_ext::source_dots<nasp_ext::OnCpu>));
}
