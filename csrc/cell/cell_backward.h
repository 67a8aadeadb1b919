// SPDX-License-Identifier: MIT
// Backwards through a cell, from the last node to the first. When the gradients of all nodes behind
// a state are known, source_dots gives the gradients of all options of the edges out of it: G_j =
// dL/dx_j is that of every edge into node j, so that the architecture gradient <G_j, O_k(x_i)>
// takes no graph, no gradient of the weights and the memory of one path.
#pragma once

#include "cell_shapes.h"
#include "cell_sources.h"
#include "cell_sums.h"
#include "cell_tape.h"

namespace nasp_ext {

template <class Device>
class CellBackward {
 public:
  CellBackward(const CellProgram& cell, const CellBackwardCall& call, const CellTape& tape,
               std::vector<StateSource> sources)
      : cell_(cell),
        a_(call),
        sources_(std::move(sources)),
        none_(empty_vector(call.grad, 0, call.grad.scalar_type())),
        tape_(tape),
        states_(tape_.states),
        grads_(static_cast<size_t>(cell.states())),
        owned_(grads_.size(), false),
        dots_(grads_.size(), none_),
        sums_(static_cast<size_t>(cell.nodes), none_),
        weight_grads_(call.lists.weights.size(), none_) {
    for (int64_t state = cell.inputs; state < cell.states(); ++state)
      if (cell.position(state) >= 0)
        grads_[static_cast<size_t>(state)] = state_slice(a_.grad, cell, state);
  }

  // Of each state the dots of its options, of each node the sums of its edges (E, 2, C), the
  // gradients of the inputs and of the weights; empty where there is none.
  Tensors run() {
    for (int64_t node = cell_.nodes - 1; node >= 0; --node) {
      dots(cell_.inputs + node);
      through_node(node);
    }
    for (int64_t source = cell_.inputs - 1; source >= 0; --source) dots(source);
    Tensors result = std::move(dots_);
    result.insert(result.end(), sums_.begin(), sums_.end());
    const Tensors of_inputs = through_preprocess();
    result.insert(result.end(), of_inputs.begin(), of_inputs.end());
    result.insert(result.end(), weight_grads_.begin(), weight_grads_.end());
    return result;
  }

 private:
  static constexpr const char* kOp = "cell_backward";

  // A chain under way: the gradient behind the block that comes next.
  struct Chain {
    const ProgramOption* option;
    const std::vector<Kept>* kept;
    int64_t state;  // that it leaves; kNoState: an input of the cell
    Tensor x, grad;
    MaybeTensor factor;
    Tensor sums;
    MaybeTensor input = std::nullopt;  // gets the gradient of the input
  };
  static constexpr int64_t kNoState = -1;

  bool wanted(int64_t state) const {
    const auto i = static_cast<size_t>(state);
    return state >= cell_.inputs || a_.need_inputs[i] || (a_.need_weights && cell_.preprocess[i]);
  }

  void dots(int64_t state) {
    if (sources_.empty()) return;
    const auto i = static_cast<size_t>(state);
    dots_[i] = dots_of<Device>(sources_[i], states_[i], grads_, cell_.inputs).value_or(none_);
  }

  void through_node(int64_t node) {
    const MaybeTensor grad = grads_[static_cast<size_t>(cell_.inputs + node)];
    if (!grad) return;
    size_t next = 0;
    while (next < cell_.edges.size() && cell_.edges[next].node < node) ++next;
    Tensors sums;
    while (next < cell_.edges.size() && cell_.edges[next].node == node) {
      const size_t end = group_end(cell_, next, kEdgesAtOnce<Device>);
      sums.push_back(through_edges(next, end, *grad));
      next = end;
    }
    if (!sums.empty()) sums_[static_cast<size_t>(node)] = joined(sums);
  }

  // The sums of the edges from first to end, in front of the factors if these are gates.
  Tensor through_edges(size_t first, size_t end, const Tensor& grad) {
    std::vector<RunningOption> again;
    if (cell_.edges[first].mixed)
      for (size_t i = first; i < end; ++i)
        again.push_back(started_again(cell_.edges[i].option, state_of(i), tape_.of_edge[i]));
    OptionRuns<Device>::run(again);
    const auto kept_of = [&](size_t i) -> const std::vector<Kept>& {
      return again.empty() ? tape_.of_edge[i] : again[i - first].kept;
    };
    Tensors terms, norms;
    for (size_t i = first; i < end; ++i) {
      const std::vector<Kept>& kept = kept_of(i);
      terms.push_back(kept.empty() ? state_of(i) : kept.back().z);
      norms.push_back(kept.empty() ? empty_matrix(grad, 0, 0, grad.scalar_type())
                                   : kept.back().norm);
    }
    const MaybeTensor factors = factor_rows(a_.factors, first, end);
    const bool gates = factors && a_.weighted;  // a row holds one number
    const Tensor found =
        node_gradient_sums<Device>(grad, terms, norms, gates ? std::nullopt : factors);
    const Tensor sums = gates ? times_gates(found, *factors) : found;
    std::vector<Chain> chains;
    for (size_t i = first; i < end; ++i) {
      const CellEdge& edge = cell_.edges[i];
      MaybeTensor factor;
      if (factors) factor = torch::stable::select(*a_.factors, 0, static_cast<int64_t>(i));
      const Tensor of_edge = torch::stable::select(sums, 0, static_cast<int64_t>(i - first));
      if (edge.option.kind != OptionKind::kChain)
        through_free_edge(edge, kept_of(i), grad, factor, of_edge);
      else if (wanted(edge.source) || a_.need_weights)
        chains.push_back(
            {&edge.option, &kept_of(i), edge.source, state_of(i), grad, factor, of_edge});
      if (chains.size() == kEdgesAtOnce<Device>) through_chains(chains);
    }
    through_chains(chains);
    return found;
  }

  const Tensor& state_of(size_t edge) const {
    return states_[static_cast<size_t>(cell_.edges[edge].source)];
  }

  void through_free_edge(const CellEdge& edge, const std::vector<Kept>& kept, const Tensor& grad,
                         const MaybeTensor& factor, const Tensor& sums) {
    const ProgramOption& o = edge.option;
    if (o.kind == OptionKind::kPool) norm_grads(o.norm, sums);
    if (!wanted(edge.source)) return;
    if (o.kind == OptionKind::kIdentity) {
      add_identity(edge.source, grad, factor);
      return;
    }
    const auto [out, base] = target(edge.source);
    pool_backward_<Device>({grad, factor, sums, kept[0].z, kept[0].norm, o.norm.batch,
                            states_[static_cast<size_t>(edge.source)], o.max, o.kernel, o.stride,
                            out, base});
  }

  // Where a gradient of a state goes, and what is added to it there.
  std::tuple<Tensor, MaybeTensor> target(int64_t state) {
    const auto i = static_cast<size_t>(state);
    const MaybeTensor base = grads_[i];
    if (!owned_[i]) grads_[i] = new_images_like<Device>(states_[i]);
    owned_[i] = true;
    return {*grads_[i], base};
  }

  void add_identity(int64_t state, const Tensor& grad, const MaybeTensor& factor) {
    MaybeTensor& known = grads_[static_cast<size_t>(state)];
    if (!known && !factor) {
      known = grad;  // read only: it may be the gradient of the node
      return;
    }
    MaybeTensor row = factor;
    if (row) row = torch::stable::unsqueeze(*row, 0);
    const auto [out, base] = target(state);
    node_sum_<Device>(out, {grad}, {empty_matrix(grad, 0, 0, grad.scalar_type())}, row, base);
  }

  // Backwards through the blocks of chains, the last ones of all first; then there are none left.
  void through_chains(std::vector<Chain>& chains) {
    for (size_t level = 0; !chains.empty(); ++level) {
      std::vector<BlockBackwardCall> calls;
      std::vector<Chain*> of_call;
      std::vector<int64_t> written;  // the states that calls write to
      const auto number = [level](const Chain& c) { return c.option->blocks.size() - 1 - level; };
      const auto run = [&] {
        const std::vector<BlockGradients> found = blocks_backward<Device>(calls);
        for (size_t i = 0; i < calls.size(); ++i)
          finish(number(*of_call[i]), calls[i], found[i], *of_call[i]);
        calls.clear();
        of_call.clear();
        written.clear();
      };
      for (Chain& c : chains) {
        const size_t i = number(c);
        if (i == 0 && std::count(written.begin(), written.end(), c.state)) run();
        calls.push_back(call(c, i));
        of_call.push_back(&c);
        if (i == 0 && c.state != kNoState) written.push_back(c.state);
      }
      run();
      const auto done = [&](const Chain& c) { return number(c) == 0; };
      chains.erase(std::remove_if(chains.begin(), chains.end(), done), chains.end());
    }
  }

  // Of block i of a chain; the first one's gradient goes to the state.
  BlockBackwardCall call(const Chain& c, size_t i) {
    const bool normed = i && c.option->blocks[i - 1].norm.exists;
    BlockBackwardCall call{};
    call.block = c.option->blocks[i];
    call.grad = c.grad;
    call.factors = c.factor;
    call.sums = c.sums;
    call.z = (*c.kept)[i].z;
    call.norm = (*c.kept)[i].norm;
    call.x = i ? (*c.kept)[i - 1].z : c.x;
    if (normed) call.in_norm = (*c.kept)[i - 1].norm;
    call.need_weights = a_.need_weights;
    if (i)
      call.out = new_images_like<Device>(call.x);
    else if (c.input)
      call.out = *c.input;
    else if (c.state >= 0 && wanted(c.state))
      std::tie(call.out, call.base) = target(c.state);
    return call;
  }

  void finish(size_t i, const BlockBackwardCall& call, const BlockGradients& found, Chain& c) {
    const ProgramBlock& b = call.block;
    const auto& [in_sums, grad_depthwise, grad_products] = found;
    if (a_.need_weights) {
      size_t place = b.place;
      if (b.weights.depthwise) weight_grads_[place++] = grad_depthwise;
      for (const Tensor& product : grad_products) weight_grads_[place++] = product;
      norm_grads(b.norm, c.sums);
    }
    if (i == 0) return;
    c.grad = *call.out;
    c.factor = std::nullopt;
    c.sums = in_sums;
  }

  void norm_grads(const ProgramNorm& norm, const Tensor& sums) {
    if (!a_.need_weights || !norm.arguments.weight) return;
    std::tie(weight_grads_[norm.place], weight_grads_[norm.place + 1]) =
        norm_gradients<Device>(sums, *norm.arguments.weight);
  }

  Tensors through_preprocess() {
    Tensors found(a_.inputs.size(), none_);
    std::vector<Chain> chains;
    for (size_t i = 0; i < found.size(); ++i) {
      const MaybeTensor grad = std::move(grads_[i]);
      grads_[i].reset();
      if (!grad || !wanted(static_cast<int64_t>(i))) continue;
      if (!cell_.preprocess[i]) {
        found[i] = *grad;
        continue;
      }
      const std::vector<Kept>& kept = tape_.of_input[i];
      const Tensor sums =
          node_gradient_sums<Device>(*grad, {kept.back().z}, {kept.back().norm}, std::nullopt);
      chains.push_back({&*cell_.preprocess[i], &kept, kNoState, a_.inputs[i], *grad, std::nullopt,
                        torch::stable::select(sums, 0, 0)});
      if (a_.need_inputs[i]) chains.back().input = found[i] = new_images_like<Device>(a_.inputs[i]);
      if (chains.size() == kEdgesAtOnce<Device>) through_chains(chains);
    }
    through_chains(chains);
    return found;
  }

  const CellProgram& cell_;
  const CellBackwardCall& a_;
  std::vector<StateSource> sources_;
  const Tensor none_;
  const CellTape& tape_;
  const Tensors& states_;
  std::vector<MaybeTensor> grads_;
  std::vector<bool> owned_;  // gradients that may be written to
  Tensors dots_, sums_, weight_grads_;
};

template <class Device>
Tensors cell_backward(const CellBackwardCall& call) {
  const char* op = "cell_backward";
  const Tensors& inputs = call.inputs;
  CellProgram cell = read_cell(op, inputs.size(), call.lists, Statistics::kNone);
  if (call.need_inputs.size() != inputs.size())
    fail(op, ": expected a flag for each input, found ", call.need_inputs.size());
  const CellTape tape(cell, inputs, call.kept, op);
  const std::vector<Images> shapes = backward_shapes(cell, call, tape, op);
  check_factors(call.factors, cell, inputs[0], op);
  std::vector<StateSource> of_states = read_sources(cell, shapes, inputs[0], call.sources, op);
  return CellBackward<Device>(cell, call, tape, std::move(of_states)).run();
}

}  // namespace nasp_ext
