// SPDX-License-Identifier: MIT
// One pass through a cell: the chosen option of each edge, node sums written into the output.
#pragma once

#include "cell.h"

namespace nasp_ext {

template <class Device>
class CellForward {
 public:
  // size: channels, height, width of a node, for cells in which no edge runs.
  CellForward(const CellProgram& cell, const Tensors& inputs, const MaybeTensor& factors,
              const std::vector<int64_t>& size)
      : cell_(cell), inputs_(inputs), factors_(factors), size_(size) {
    if (size.size() != 3)
      fail(kOp, ": expected size as channels, height, width, found ", size.size(), " numbers");
    check_factors(factors, cell, inputs[0], kOp);
  }

  // The output, then what is kept.
  Tensors run() {
    kept_.emplace_back();  // the output, when its size is known
    for (size_t i = 0; i < inputs_.size(); ++i)
      states_.push_back(cell_.preprocess[i] ? preprocess(*cell_.preprocess[i], inputs_[i])
                                            : inputs_[i]);
    size_t next = 0;
    for (int64_t node = 0; node < cell_.nodes; ++node) {
      const size_t first = next;
      Tensors terms, norms;
      for (; next < cell_.edges.size() && cell_.edges[next].node == node; ++next) {
        const CellEdge& edge = cell_.edges[next];
        auto [z, norm] = option(edge.option, states_[static_cast<size_t>(edge.source)]);
        terms.push_back(z);
        norms.push_back(norm);
      }
      Tensor target = node_images(node, terms);
      if (terms.empty())
        torch::stable::zero_(target);
      else
        Op::node_sum_(
            target, terms, norms,
            factor_rows(factors_, static_cast<int64_t>(first), static_cast<int64_t>(terms.size())));
      states_.push_back(target);
    }
    move_statistics();
    return std::move(kept_);
  }

 private:
  using Op = Operators<Device>;
  static constexpr const char* kOp = "cell_forward";

  struct Moved {
    const ProgramNorm* norm;
    Tensor rows;
    int64_t count;
  };

  Tensor preprocess(const ProgramOption& chain, const Tensor& x) {
    auto [z, norm] = option(chain, x);
    if (norm.numel() == 0) return z;
    Tensor state = Op::new_images(z, z.size(0), z.size(1), z.size(2), z.size(3));
    Op::node_sum_(state, {z}, {norm}, std::nullopt);
    kept_.push_back(state);
    return state;
  }

  // z and norm: the option gives norm(z).
  std::tuple<Tensor, Tensor> option(const ProgramOption& o, const Tensor& input) {
    Tensor x = input, norm = empty_matrix(input, 0, 0, input.scalar_type());
    if (o.kind == OptionKind::kPool) {
      const NormArguments& bn = o.norm.arguments;
      std::tie(x, norm) = Op::pool_forward(input, o.max, o.kernel, o.stride, o.norm.exists,
                                           bn.weight, bn.bias, bn.mean, bn.var, bn.eps);
      keep(o.norm, x, norm);
    }
    MaybeTensor before;
    for (const ProgramBlock& b : o.blocks) {
      const NormArguments& bn = b.norm.arguments;
      std::tie(x, norm) =
          Op::block_forward(x, before, b.weights.depthwise, b.weights.products, b.geometry, b.relu,
                            b.norm.exists, bn.weight, bn.bias, bn.mean, bn.var, bn.eps);
      keep(b.norm, x, norm);
      before = b.norm.exists ? MaybeTensor(norm) : std::nullopt;
    }
    return {x, norm};
  }

  void keep(const ProgramNorm& norm, const Tensor& z, const Tensor& rows) {
    const int64_t count = z.numel() / std::max<int64_t>(z.size(1), 1);
    if (norm.exists && norm.batch && count < 2)
      fail("expected more than 1 value per channel when training, got ", shape_text(z));
    if (norm.exists && norm.updates) moved_.push_back({&norm, rows, count});
    kept_.push_back(z);
    kept_.push_back(rows);
  }

  // Where a node is written: a slice of the output, or memory of its own.
  Tensor node_images(int64_t node, const Tensors& terms) {
    const bool some = !terms.empty();
    const int64_t channels = some ? terms[0].size(1) : size_[0],
                  height = some ? terms[0].size(2) : size_[1],
                  width = some ? terms[0].size(3) : size_[2];
    const Tensor& like = states_[0];
    if (!has_output_)
      kept_[0] = Op::new_images(
          like, like.size(0), channels * static_cast<int64_t>(cell_.concat.size()), height, width);
    has_output_ = true;
    const int64_t state = cell_.inputs + node;
    if (cell_.position(state) >= 0) return state_slice(kept_[0], cell_, state);
    kept_.push_back(Op::new_images(like, like.size(0), channels, height, width));
    return kept_.back();
  }

  void move_statistics() {
    Tensors means, variances, batches, rows;
    std::vector<int64_t> counts;
    std::vector<double> momenta;
    for (const Moved& m : moved_) {
      means.push_back(*m.norm->mean);
      variances.push_back(*m.norm->var);
      batches.push_back(*m.norm->batches);
      rows.push_back(m.rows);
      counts.push_back(m.count);
      momenta.push_back(m.norm->momentum);
    }
    if (!means.empty()) Op::update_statistics_(means, variances, batches, rows, counts, momenta);
  }

  const CellProgram& cell_;
  const Tensors& inputs_;
  const MaybeTensor& factors_;
  const std::vector<int64_t>& size_;
  bool has_output_ = false;
  Tensors kept_, states_;
  std::vector<Moved> moved_;
};

template <class Device>
Tensors cell_forward(const Tensors& inputs,  // (N, C_i, H_i, W_i), channels_last
                     const std::vector<int64_t>& program, const Tensors& weights,
                     const Tensors& statistics, const std::vector<double>& numbers,
                     const MaybeTensor& factors,  // (edges, N)
                     const std::vector<int64_t>& size) {
  const CellProgram cell =
      read_cell("cell_forward", inputs.size(), program, weights, &statistics, numbers);
  return CellForward<Device>(cell, inputs, factors, size).run();
}

}  // namespace nasp_ext
