// SPDX-License-Identifier: MIT
// One pass through a cell: the options that run, node sums written into the output.
#pragma once

#include "cell_shapes.h"

namespace nasp_ext {

template <class Device>
class CellForward {
 public:
  // size: channels, height, width of a node, for cells in which no edge runs.
  CellForward(const CellProgram& cell, const Tensors& inputs, const MaybeTensor& factors,
              const std::vector<int64_t>& size)
      : cell_(cell), inputs_(inputs), factors_(factors), size_(size) {}

  // The output, then what is kept.
  Tensors run() {
    kept_.emplace_back();  // the output, when its size is known
    preprocess();
    size_t next = 0;
    for (int64_t node = 0; node < cell_.nodes; ++node) {
      MaybeTensor sum;
      while (next < cell_.edges.size() && cell_.edges[next].node == node)
        next = add_edges(next, sum);
      if (!sum) {
        sum = node_images(node, {});
        torch::stable::zero_(*sum);
      }
      if (cell_.position(cell_.inputs + node) < 0) kept_.push_back(*sum);
      states_.push_back(*sum);
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

  // Adds a few edges to the sum of their node; returns their end. Mixed ones are gone when they are
  // added: while what they gave is in the cache of a CPU.
  size_t add_edges(size_t first, MaybeTensor& sum) {
    const size_t end = group_end(cell_, first, Device::kEdgesAtOnce);
    std::vector<RunningOption> edges;
    for (size_t i = first; i < end; ++i)
      edges.push_back(
          started(cell_.edges[i].option, states_[static_cast<size_t>(cell_.edges[i].source)]));
    OptionRuns<Device>::run(edges);
    Tensors terms, norms;
    for (const RunningOption& edge : edges) {
      keep(edge, cell_.edges[first].mixed);
      terms.push_back(edge.x);
      norms.push_back(edge.norm);
    }
    const MaybeTensor base = sum;
    if (!sum) sum = node_images(cell_.edges[first].node, terms);
    Op::node_sum_(*sum, terms, norms, factor_rows(factors_, first, end), base);
    return end;
  }

  void preprocess() {
    std::vector<RunningOption> chains;
    for (size_t i = 0; i < inputs_.size(); ++i)
      if (cell_.preprocess[i]) chains.push_back(started(*cell_.preprocess[i], inputs_[i]));
    OptionRuns<Device>::run(chains);
    auto chain = chains.begin();
    for (size_t i = 0; i < inputs_.size(); ++i) {
      states_.push_back(inputs_[i]);
      if (!cell_.preprocess[i]) continue;
      keep(*chain, false);
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

  void keep(const RunningOption& r, bool norms_alone) {
    const ProgramOption& o = *r.option;
    for (size_t i = 0; i < r.kept.size(); ++i) {
      const Kept& k = r.kept[i];
      const ProgramNorm& norm = o.kind == OptionKind::kPool ? o.norm : o.blocks[i].norm;
      const int64_t count = k.z.numel() / k.z.size(1);
      if (norm.exists && norm.updates) moved_.push_back({&norm, k.norm, count});
      if (!norms_alone) kept_.push_back(k.z);
      kept_.push_back(k.norm);
    }
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
    return Op::new_images(like, like.size(0), channels, height, width);
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
  const char* op = "cell_forward";
  CellProgram cell = read_cell(op, inputs.size(), program, weights, &statistics, numbers);
  forward_shapes(cell, inputs, size, op);
  check_factors(factors, cell, inputs[0], op);
  return CellForward<Device>(cell, inputs, factors, size).run();
}

}  // namespace nasp_ext
