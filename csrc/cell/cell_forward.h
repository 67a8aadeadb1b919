// SPDX-License-Identifier: MIT
// One pass through a cell: the options that run, node sums written into the output.
#pragma once

#include "cell_shapes.h"

namespace nasp_ext {

template <class Device>
class CellForward {
 public:
  CellForward(const CellProgram& cell, const CellForwardCall& call) : cell_(cell), a_(call) {}

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
  static constexpr const char* kOp = "cell_forward";

  struct Moved {
    const ProgramNorm* norm;
    Tensor rows;
    int64_t count;
  };

  // Adds a few edges to the sum of their node; returns their end. Mixed ones are gone when they are
  // added: while what they gave is in the cache of a CPU.
  size_t add_edges(size_t first, MaybeTensor& sum) {
    const size_t end = group_end(cell_, first, kEdgesAtOnce<Device>);
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
    node_sum_<Device>(*sum, terms, norms, factor_rows(a_.factors, first, end), base);
    return end;
  }

  void preprocess() {
    std::vector<RunningOption> chains;
    for (size_t i = 0; i < a_.inputs.size(); ++i)
      if (cell_.preprocess[i]) chains.push_back(started(*cell_.preprocess[i], a_.inputs[i]));
    OptionRuns<Device>::run(chains);
    auto chain = chains.begin();
    for (size_t i = 0; i < a_.inputs.size(); ++i) {
      states_.push_back(a_.inputs[i]);
      if (!cell_.preprocess[i]) continue;
      keep(*chain, false);
      Tensor& state = states_.back();
      state = chain->x;
      if (chain->norm.numel()) {
        state = new_images_like<Device>(state);
        node_sum_<Device>(state, {chain->x}, {chain->norm}, std::nullopt, std::nullopt);
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
    const int64_t channels = some ? terms[0].size(1) : a_.size[0],
                  height = some ? terms[0].size(2) : a_.size[1],
                  width = some ? terms[0].size(3) : a_.size[2];
    const Tensor& like = states_[0];
    if (!has_output_)
      kept_[0] = new_images<Device>(
          like, like.size(0), channels * static_cast<int64_t>(cell_.concat.size()), height, width);
    has_output_ = true;
    const int64_t state = cell_.inputs + node;
    if (cell_.position(state) >= 0) return state_slice(kept_[0], cell_, state);
    return new_images<Device>(like, like.size(0), channels, height, width);
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
    if (!means.empty())
      update_statistics_<Device>(means, variances, batches, rows, counts, momenta);
  }

  const CellProgram& cell_;
  const CellForwardCall& a_;
  bool has_output_ = false;
  Tensors kept_, states_;
  std::vector<Moved> moved_;
};

template <class Device>
Tensors cell_forward(const CellForwardCall& call) {
  const char* op = "cell_forward";
  CellProgram cell = read_cell(op, call.inputs.size(), call.lists, Statistics::kRead);
  forward_shapes(cell, call.inputs, call.size, op);
  check_factors(call.factors, cell, call.inputs[0], op);
  return CellForward<Device>(cell, call).run();
}

}  // namespace nasp_ext
