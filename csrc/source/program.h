// SPDX-License-Identifier: MIT
// What source_dots runs: for each option the number of its gradient (the edge's node), then the
// option as csrc/cell/option.h describes it.
#pragma once

#include "../cell/option.h"

namespace nasp_ext {

struct SourceOption {
  int64_t grad;
  ProgramOption program;
  PoolShape pool;  // also of an identity, as a pool of one pixel

  OptionKind kind() const { return program.kind; }
  const ProgramNorm& norm() const { return program.norm; }
  std::vector<ProgramBlock>& blocks() { return program.blocks; }
  const std::vector<ProgramBlock>& blocks() const { return program.blocks; }
};

class SourceReader {
 public:
  SourceReader(const Tensor& x, const std::vector<Tensor>& grads,
               const std::vector<int64_t>& program, const std::vector<Tensor>& weights,
               const std::vector<Tensor>& statistics, const std::vector<double>& numbers)
      : x_(x), grads_(grads), reader_(kOp, program, weights, &statistics, numbers) {}

  std::vector<SourceOption> read() {
    check_grads();
    std::vector<SourceOption> options;
    const auto edges = static_cast<int64_t>(grads_.size());
    while (!reader_.at_end()) {
      const int64_t grad = reader_.number(), kind = reader_.number();
      if (grad < 0 || grad >= edges || kind < 0 || kind >= kOptionKinds)
        fail(kOp, ": expected a gradient in 0..", edges - 1, " and a kind in 0..", kOptionKinds - 1,
             ", found ", grad, " and ", kind);
      options.push_back({grad, reader_.option(kind), {}});
    }
    reader_.check_all_used();
    for (SourceOption& o : options) fit(o);
    return options;
  }

 private:
  static constexpr const char* kOp = "source_dots";

  // One sweep over x multiplies each pool with all gradients.
  void check_grads() const {
    for (const Tensor& grad : grads_) {
      check_like(grad, x_, kOp, "grads");
      const Images first = as_images(grads_[0], kOp, "grads");
      check_images(as_images(grad, kOp, "grads"), x_.size(0), first.channels, first.height,
                   first.width, kOp, "grads");
    }
  }

  // Behind images of `channels`, `values` of each.
  void check_norm(const ProgramNorm& n, int64_t channels, int64_t values) const {
    if (!n.exists) return;
    if (n.batch && values < 2)
      fail(kOp, ": expected more than 1 value per channel when training, found ", values);
    if (n.mean) {
      check_vector(*n.mean, channels, x_, kOp, "running means");
      check_vector(*n.var, channels, x_, kOp, "running variances");
    }
    if (n.batches && (n.batches->numel() != 1 || n.batches->scalar_type() != ScalarType::Long))
      fail(kOp, ": expected the number of batches as one int64, found ", shape_text(*n.batches));
    check_norm_arguments(n.arguments, channels, x_, kOp);
  }

  // The shapes of an option on x; its output is compared with the gradient.
  void fit(SourceOption& o) const {
    Images out = as_images(x_, kOp, "x");
    for (ProgramBlock& b : o.blocks()) {
      b.shape = block_shape(out, b.weights, b.geometry.data(), b.relu, x_, kOp);
      out.channels = b.shape.out_channels;
      out.height = b.shape.out_height;
      out.width = b.shape.out_width;
      check_norm(b.norm, out.channels, out.count * out.pixels());
    }
    if (o.kind() != OptionKind::kChain) {
      o.pool = o.kind() == OptionKind::kPool
                   ? pool_shape(out, o.program.max, o.program.kernel, o.program.stride, kOp)
                   : pool_shape(out, true, 1, 1, kOp);
      out.height = o.pool.out_height;
      out.width = o.pool.out_width;
      check_norm(o.norm(), out.channels, out.count * out.pixels());
    }
    check_images(as_images(grads_[static_cast<size_t>(o.grad)], kOp, "grads"), out.count,
                 out.channels, out.height, out.width, kOp, "grads");
  }

  const Tensor& x_;
  const std::vector<Tensor>& grads_;
  OptionReader reader_;
};

}  // namespace nasp_ext
