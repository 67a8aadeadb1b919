// SPDX-License-Identifier: MIT
// What source_dots runs: the options of all edges that leave one node, read from the flat lists
// that an operator call can carry.
//
// program, for each option: its gradient (the edge's node), its kind, then
//   kIdentity: nothing
//   kPool:     max, kernel, stride, NORM
//   kChain:    number of blocks, for each: depthwise, parts, geometry (8 numbers), relu, NORM
// NORM: exists, affine, batch statistics, updates running ones. In the order in which they are
// named, `weights` holds the depthwise and product weights, then weight and bias if affine;
// `statistics` holds running mean and variance if they are read or updated, then the number of
// batches if updated; `numbers` holds eps and momentum of each norm that exists.
#pragma once

#include "../block/weights.h"
#include "../pool/pool_shape.h"

namespace nasp_ext {

enum class OptionKind : int64_t { kIdentity = 0, kPool = 1, kChain = 2 };

struct ProgramNorm {
  bool exists = false, updates = false;
  NormArguments arguments{};  // mean and var only where they replace those of the batch
  std::optional<Tensor> mean, var, batches;
  double momentum = 0;
};

struct ProgramBlock {
  BlockShape shape;
  BlockWeights weights;
  ProgramNorm norm;
};

struct ProgramOption {
  int64_t grad;
  OptionKind kind;
  PoolShape pool{};
  ProgramNorm norm;                  // of the pool
  std::vector<ProgramBlock> blocks;  // of the chain
};

class ProgramReader {
 public:
  ProgramReader(const char* op, const Tensor& x, const std::vector<Tensor>& grads,
                const std::vector<int64_t>& program, const std::vector<Tensor>& weights,
                const std::vector<Tensor>& statistics, const std::vector<double>& numbers)
      : op_(op),
        x_(x),
        grads_(grads),
        program_(program),
        weights_(weights),
        statistics_(statistics),
        numbers_(numbers) {}

  std::vector<ProgramOption> read() {
    check_grads();
    std::vector<ProgramOption> options;
    while (next_ < program_.size()) options.push_back(option());
    if (next_weight_ != weights_.size() || next_statistic_ != statistics_.size() ||
        next_number_ != numbers_.size())
      fail(op_, ": expected every weight, statistic and number to be used by the program, found ",
           weights_.size() - next_weight_, ", ", statistics_.size() - next_statistic_, " and ",
           numbers_.size() - next_number_, " left over");
    return options;
  }

 private:
  // One sweep over x multiplies each pool with all gradients.
  void check_grads() const {
    for (const Tensor& grad : grads_) {
      check_like(grad, x_, op_, "grads");
      const Images first = as_images(grads_[0], op_, "grads");
      check_images(as_images(grad, op_, "grads"), x_.size(0), first.channels, first.height,
                   first.width, op_, "grads");
    }
  }

  template <class List>
  const auto& take(const List& list, size_t& next, const char* what) {
    if (next >= list.size())
      fail(op_, ": expected more ", what, " than ", list.size(), ", as the program says");
    return list[next++];
  }
  int64_t number() { return take(program_, next_, "entries in the program"); }
  bool flag() { return number() != 0; }
  const Tensor& weight() { return take(weights_, next_weight_, "weights"); }
  const Tensor& statistic() { return take(statistics_, next_statistic_, "statistics"); }

  // Behind images of `channels`, `values` of each.
  ProgramNorm norm(int64_t channels, int64_t values) {
    ProgramNorm n;
    n.exists = flag();
    const bool affine = flag(), batch = flag();
    n.updates = flag();
    if (!n.exists) return n;
    if (batch && values < 2)
      fail(op_, ": expected more than 1 value per channel when training, found ", values);
    if (affine) {
      n.arguments.weight = weight();
      n.arguments.bias = weight();
    }
    if (n.updates || !batch) {
      n.mean = statistic();
      n.var = statistic();
      check_vector(*n.mean, channels, x_, op_, "running means");
      check_vector(*n.var, channels, x_, op_, "running variances");
    }
    if (n.updates) {
      n.batches = statistic();
      if (n.batches->numel() != 1 || n.batches->scalar_type() != ScalarType::Long)
        fail(op_, ": expected the number of batches as one int64, found ", shape_text(*n.batches));
    }
    if (!batch) {
      n.arguments.mean = n.mean;
      n.arguments.var = n.var;
    }
    n.arguments.eps = take(numbers_, next_number_, "numbers");
    n.momentum = take(numbers_, next_number_, "numbers");
    check_norm_arguments(n.arguments, channels, x_, op_);
    return n;
  }

  ProgramBlock block(const Images& in) {
    ProgramBlock b;
    const bool depthwise = flag();
    const int64_t parts = number();
    if (next_ + kGeometry > program_.size()) fail(op_, ": expected the geometry of a block");
    const int64_t* const geometry = program_.data() + next_;
    next_ += kGeometry;
    const bool relu = flag();
    if (depthwise) b.weights.depthwise = weight();
    for (int64_t i = 0; i < parts; ++i) b.weights.products.push_back(weight());
    b.shape = block_shape(in, b.weights, geometry, relu, x_, op_);
    b.norm = norm(b.shape.out_channels, in.count * b.shape.out_pixels());
    return b;
  }

  ProgramOption option() {
    const Images in = as_images(x_, op_, "x");
    ProgramOption o{};
    o.grad = number();
    const int64_t kind = number();
    if (o.grad < 0 || o.grad >= static_cast<int64_t>(grads_.size()) || kind < 0 || kind > 2)
      fail(op_, ": expected a gradient in 0..", static_cast<int64_t>(grads_.size()) - 1,
           " and a kind in 0..2, found ", o.grad, " and ", kind);
    o.kind = static_cast<OptionKind>(kind);
    Images out = in;
    if (o.kind == OptionKind::kPool) {
      const bool max = flag();
      const int64_t kernel = number(), stride = number();
      o.pool = pool_shape(in, max, kernel, stride, op_);
      out.height = o.pool.out_height;
      out.width = o.pool.out_width;
      o.norm = norm(in.channels, out.count * out.pixels());
    } else if (o.kind == OptionKind::kChain) {
      const int64_t blocks = number();
      if (blocks < 1) fail(op_, ": expected at least one block in a chain, found ", blocks);
      for (int64_t i = 0; i < blocks; ++i) {
        o.blocks.push_back(block(out));
        const BlockShape& s = o.blocks.back().shape;
        out.channels = s.out_channels;
        out.height = s.out_height;
        out.width = s.out_width;
      }
    } else {
      o.pool = pool_shape(in, true, 1, 1, op_);
    }
    const Tensor& grad = grads_[static_cast<size_t>(o.grad)];
    check_like(grad, x_, op_, "grads");
    check_images(as_images(grad, op_, "grads"), in.count, out.channels, out.height, out.width, op_,
                 "grads");
    return o;
  }

  const char* op_;
  const Tensor& x_;
  const std::vector<Tensor>& grads_;
  const std::vector<int64_t>& program_;
  const std::vector<Tensor>& weights_;
  const std::vector<Tensor>& statistics_;
  const std::vector<double>& numbers_;
  size_t next_ = 0, next_weight_ = 0, next_statistic_ = 0, next_number_ = 0;
};

}  // namespace nasp_ext
