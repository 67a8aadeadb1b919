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
    preprocess();
    size_t next = 0;
    for (int64_t node = 0; node < cell_.nodes; ++node) {
      const size_t first = next;
      std::vector<Running> edges;
      for (; next < cell_.edges.size() && cell_.edges[next].node == node; ++next) {
        const CellEdge& edge = cell_.edges[next];
        edges.push_back(started(edge.option, states_[static_cast<size_t>(edge.source)]));
      }
      run(edges);
      Tensors terms, norms;
      for (const Running& edge : edges) {
        kept_.insert(kept_.end(), edge.kept.begin(), edge.kept.end());
        terms.push_back(edge.x);
        norms.push_back(edge.norm);
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

  // An option under way: it gives norm(x) when it has run.
  struct Running {
    const ProgramOption* option;
    Tensor x, norm;
    Tensors kept;
  };
  struct Moved {
    const ProgramNorm* norm;
    Tensor rows;
    int64_t count;
  };

  static Running started(const ProgramOption& option, const Tensor& x) {
    return {&option, x, empty_matrix(x, 0, 0, x.scalar_type()), {}};
  }

  void preprocess() {
    std::vector<Running> chains;
    for (size_t i = 0; i < inputs_.size(); ++i)
      if (cell_.preprocess[i]) chains.push_back(started(*cell_.preprocess[i], inputs_[i]));
    run(chains);
    auto chain = chains.begin();
    for (size_t i = 0; i < inputs_.size(); ++i) {
      states_.push_back(inputs_[i]);
      if (!cell_.preprocess[i]) continue;
      kept_.insert(kept_.end(), chain->kept.begin(), chain->kept.end());
      Tensor& state = states_.back();
      state = chain->x;
      if (chain->norm.numel()) {
        state = Op::new_images(state, state.size(0), state.size(1), state.size(2), state.size(3));
        Op::node_sum_(state, {chain->x}, {chain->norm}, std::nullopt);
        kept_.push_back(state);
      }
      ++chain;
    }
  }

  void run(std::vector<Running>& all) {
    for (size_t first = 0; first < all.size(); first += Device::kEdgesAtOnce) {
      const size_t end = std::min(all.size(), first + Device::kEdgesAtOnce);
      for (size_t i = first; i < end; ++i) run_pool(all[i]);
      for (size_t depth = 0; run_blocks(all, first, end, depth); ++depth) {
      }
    }
  }

  void run_pool(Running& r) {
    const ProgramOption& o = *r.option;
    if (o.kind != OptionKind::kPool) return;
    const NormArguments& bn = o.norm.arguments;
    std::tie(r.x, r.norm) = Op::pool_forward(r.x, o.max, o.kernel, o.stride, o.norm.exists,
                                             bn.weight, bn.bias, bn.mean, bn.var, bn.eps);
    keep(o.norm, r);
  }

  // The blocks at one depth of the chains that reach it; whether there are any.
  bool run_blocks(std::vector<Running>& all, size_t first, size_t end, size_t depth) {
    std::vector<ForwardCall> calls;
    std::vector<Running*> of_call;
    for (size_t i = first; i < end; ++i) {
      Running& r = all[i];
      if (depth >= r.option->blocks.size()) continue;
      const bool normed = depth && r.option->blocks[depth - 1].norm.exists;
      calls.push_back({&r.option->blocks[depth], r.x, normed ? MaybeTensor(r.norm) : std::nullopt,
                       Tensor(), Tensor()});
      of_call.push_back(&r);
    }
    if (calls.empty()) return false;
    Op::blocks_forward(calls);
    for (size_t i = 0; i < calls.size(); ++i) {
      of_call[i]->x = calls[i].z;
      of_call[i]->norm = calls[i].norm;
      keep(calls[i].block->norm, *of_call[i]);
    }
    return true;
  }

  void keep(const ProgramNorm& norm, Running& r) {
    const int64_t count = r.x.numel() / std::max<int64_t>(r.x.size(1), 1);
    if (norm.exists && norm.batch && count < 2)
      fail("expected more than 1 value per channel when training, got ", shape_text(r.x));
    if (norm.exists && norm.updates) moved_.push_back({&norm, r.norm, count});
    r.kept.push_back(r.x);
    r.kept.push_back(r.norm);
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
