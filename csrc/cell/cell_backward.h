// SPDX-License-Identifier: MIT
// Backwards through a cell, from the last node to the first. When the gradients of all nodes behind
// a state are known, source_dots gives the gradients of all options of the edges out of it: G_j =
// dL/dx_j is that of every edge into node j, so that the architecture gradient <G_j, O_k(x_i)>
// takes no graph, no gradient of the weights and the memory of one path.
#pragma once

#include "cell_sources.h"

namespace nasp_ext {

struct CellBackwardArguments {
  const Tensor& grad;  // of the output
  const Tensors& inputs;
  const Tensors& kept;         // the output, then what cell_forward kept
  const MaybeTensor& factors;  // (edges, N)
  bool weighted;               // the factors are gates, whose gradient is in front of them
  bool need_weights;
  const std::vector<int64_t>& need_inputs;
};

template <class Device>
class CellBackward {
 public:
  CellBackward(const CellProgram& cell, const CellBackwardArguments& arguments, size_t weights,
               std::vector<StateSource> sources)
      : cell_(cell),
        a_(arguments),
        sources_(std::move(sources)),
        none_(empty_vector(arguments.grad, 0, arguments.grad.scalar_type())),
        states_(arguments.inputs),
        grads_(static_cast<size_t>(cell.states())),
        owned_(grads_.size(), false),
        dots_(grads_.size(), none_),
        sums_(static_cast<size_t>(cell.nodes), none_),
        weight_grads_(weights, none_) {
    if (a_.need_inputs.size() != a_.inputs.size() || a_.kept.empty())
      fail(kOp, ": expected a flag for each input and what the forward kept");
    check_factors(a_.factors, cell, a_.inputs[0], kOp);
    read_kept();
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
    for (size_t i = 0; i < a_.inputs.size(); ++i) result.push_back(through_preprocess(i));
    result.insert(result.end(), weight_grads_.begin(), weight_grads_.end());
    return result;
  }

 private:
  using Op = Operators<Device>;
  static constexpr const char* kOp = "cell_backward";

  struct Kept {
    Tensor z, norm;
  };

  const Tensor& next_kept(size_t& next) const {
    if (next >= a_.kept.size())
      fail(kOp, ": expected more tensors of the forward than ", a_.kept.size());
    return a_.kept[next++];
  }
  std::vector<Kept> kept_of(const ProgramOption& o, size_t& next) const {
    std::vector<Kept> found(o.kind == OptionKind::kPool ? 1 : o.blocks.size());
    for (Kept& k : found) {
      k.z = next_kept(next);
      k.norm = next_kept(next);
    }
    return found;
  }
  void read_kept() {
    size_t next = 1;
    for (size_t i = 0; i < states_.size(); ++i) {
      of_input_.emplace_back();
      if (!cell_.preprocess[i]) continue;
      of_input_[i] = kept_of(*cell_.preprocess[i], next);
      states_[i] = of_input_[i].back().norm.numel() ? next_kept(next) : of_input_[i].back().z;
    }
    size_t edge = 0;
    for (int64_t node = 0; node < cell_.nodes; ++node) {
      for (; edge < cell_.edges.size() && cell_.edges[edge].node == node; ++edge)
        of_edge_.push_back(kept_of(cell_.edges[edge].option, next));
      const int64_t state = cell_.inputs + node;
      states_.push_back(cell_.position(state) >= 0 ? state_slice(a_.kept[0], cell_, state)
                                                   : next_kept(next));
    }
    if (next != a_.kept.size())
      fail(kOp, ": expected ", next, " tensors of the forward, found ", a_.kept.size());
  }

  bool wanted(int64_t state) const {
    const auto i = static_cast<size_t>(state);
    return state >= cell_.inputs || a_.need_inputs[i] || (a_.need_weights && cell_.preprocess[i]);
  }

  void dots(int64_t state) {
    if (sources_.empty()) return;
    const StateSource& s = sources_[static_cast<size_t>(state)];
    const auto grad_of = [&](int64_t node) -> const MaybeTensor& {
      return grads_[static_cast<size_t>(cell_.inputs + node)];
    };
    const auto some = std::find_if(s.nodes.begin(), s.nodes.end(),
                                   [&](int64_t node) { return grad_of(node).has_value(); });
    if (some == s.nodes.end()) return;
    Tensors grads;
    for (const int64_t node : s.nodes) {
      grads.push_back(grad_of(node) ? *grad_of(node) : new_like(*grad_of(*some)));
      if (!grad_of(node)) torch::stable::zero_(grads.back());
    }
    dots_[static_cast<size_t>(state)] = Op::source_dots(
        states_[static_cast<size_t>(state)], grads, s.program, s.weights, s.statistics, s.numbers);
  }

  void through_node(int64_t node) {
    const MaybeTensor grad = grads_[static_cast<size_t>(cell_.inputs + node)];
    const auto is_of_node = [node](const CellEdge& edge) { return edge.node == node; };
    const auto begin = std::find_if(cell_.edges.begin(), cell_.edges.end(), is_of_node);
    const auto end = std::find_if_not(begin, cell_.edges.end(), is_of_node);
    if (!grad || begin == end) return;
    const int64_t first = begin - cell_.edges.begin();
    Tensors terms, norms;
    for (auto edge = begin; edge != end; ++edge) {
      const auto& kept = of_edge_[static_cast<size_t>(edge - cell_.edges.begin())];
      terms.push_back(kept.empty() ? states_[static_cast<size_t>(edge->source)] : kept.back().z);
      norms.push_back(kept.empty() ? empty_matrix(*grad, 0, 0, grad->scalar_type())
                                   : kept.back().norm);
    }
    const MaybeTensor factors = factor_rows(a_.factors, first, end - begin);
    const Tensor sums = Op::node_gradient_sums(*grad, terms, norms, factors);
    sums_[static_cast<size_t>(node)] =
        factors && a_.weighted ? Op::node_gradient_sums(*grad, terms, norms, std::nullopt) : sums;
    for (auto edge = begin; edge != end; ++edge) {
      MaybeTensor factor;
      if (factors) factor = torch::stable::select(*a_.factors, 0, edge - cell_.edges.begin());
      through_edge(*edge, of_edge_[static_cast<size_t>(edge - cell_.edges.begin())], *grad, factor,
                   torch::stable::select(sums, 0, edge - begin));
    }
  }

  void through_edge(const CellEdge& edge, const std::vector<Kept>& kept, const Tensor& grad,
                    const MaybeTensor& factor, const Tensor& sums) {
    const ProgramOption& o = edge.option;
    if (o.kind == OptionKind::kPool) norm_grads(o.norm, sums);
    if (o.kind == OptionKind::kChain) {
      MaybeTensor out, base;
      if (wanted(edge.source)) std::tie(out, base) = target(edge.source);
      through_chain(o, kept, states_[static_cast<size_t>(edge.source)], grad, factor, sums, out,
                    base);
    } else if (!wanted(edge.source)) {
      return;
    } else if (o.kind == OptionKind::kPool) {
      const auto [out, base] = target(edge.source);
      Op::pool_backward_(grad, factor, sums, kept[0].z, kept[0].norm, o.norm.batch,
                         states_[static_cast<size_t>(edge.source)], o.max, o.kernel, o.stride, out,
                         base);
    } else {
      add_identity(edge.source, grad, factor);
    }
  }

  Tensor new_like(const Tensor& t) const {
    return Op::new_images(t, t.size(0), t.size(1), t.size(2), t.size(3));
  }

  // Where a gradient of a state goes, and what is added to it there.
  std::tuple<Tensor, MaybeTensor> target(int64_t state) {
    const auto i = static_cast<size_t>(state);
    const MaybeTensor base = grads_[i];
    if (!owned_[i]) grads_[i] = new_like(states_[i]);
    owned_[i] = true;
    return {*grads_[i], base};
  }

  void add_identity(int64_t state, const Tensor& grad, const MaybeTensor& factor) {
    const Tensor no_norm = empty_matrix(grad, 0, 0, grad.scalar_type());
    Tensor term = grad;
    if (factor) {
      term = new_like(grad);
      Tensor row = *factor;
      Op::node_sum_(term, {grad}, {no_norm}, torch::stable::unsqueeze(row, 0));
    }
    MaybeTensor& known = grads_[static_cast<size_t>(state)];
    if (!known) {
      known = term;  // read only: it may be the gradient of the node
      return;
    }
    const auto [out, base] = target(state);
    Op::node_sum_(out, {*base, term}, {no_norm, no_norm}, std::nullopt);
  }

  // Backwards through the blocks; the first one's gradient goes to `out`.
  void through_chain(const ProgramOption& o, const std::vector<Kept>& kept, const Tensor& x,
                     Tensor grad, MaybeTensor factor, Tensor sums, const MaybeTensor& out,
                     const MaybeTensor& base) {
    if (!out && !a_.need_weights) return;
    for (size_t i = o.blocks.size(); i-- > 0;) {
      const ProgramBlock& b = o.blocks[i];
      const Tensor& input = i ? kept[i - 1].z : x;
      const bool normed = i && o.blocks[i - 1].norm.exists;
      const MaybeTensor to = i ? MaybeTensor(new_like(input)) : out;
      auto [in_sums, depthwise, products] = Op::block_backward(
          grad, factor, sums, kept[i].z, kept[i].norm, b.norm.batch, input,
          normed ? MaybeTensor(kept[i - 1].norm) : std::nullopt, b.weights.depthwise,
          b.weights.products, b.geometry, b.relu, a_.need_weights, to, i ? std::nullopt : base);
      if (a_.need_weights) {
        size_t place = b.place;
        if (b.weights.depthwise) weight_grads_[place++] = depthwise;
        for (const Tensor& product : products) weight_grads_[place++] = product;
        norm_grads(b.norm, sums);
      }
      if (i == 0) return;
      grad = *to;
      factor = std::nullopt;
      sums = in_sums;
    }
  }

  void norm_grads(const ProgramNorm& norm, const Tensor& sums) {
    if (!a_.need_weights || !norm.arguments.weight) return;
    std::tie(weight_grads_[norm.place], weight_grads_[norm.place + 1]) =
        Op::norm_gradients(sums, *norm.arguments.weight);
  }

  // The gradient of an input.
  Tensor through_preprocess(size_t i) {
    const MaybeTensor grad = std::move(grads_[i]);
    grads_[i].reset();
    if (!grad || !wanted(static_cast<int64_t>(i))) return none_;
    if (!cell_.preprocess[i]) return *grad;
    const std::vector<Kept>& kept = of_input_[i];
    const Tensor sums = torch::stable::select(
        Op::node_gradient_sums(*grad, {kept.back().z}, {kept.back().norm}, std::nullopt), 0, 0);
    MaybeTensor out;
    if (a_.need_inputs[i]) out = new_like(a_.inputs[i]);
    through_chain(*cell_.preprocess[i], kept, a_.inputs[i], *grad, std::nullopt, sums, out,
                  std::nullopt);
    return out ? *out : none_;
  }

  const CellProgram& cell_;
  const CellBackwardArguments& a_;
  const std::vector<StateSource> sources_;
  const Tensor none_;
  Tensors states_;
  std::vector<MaybeTensor> grads_;
  std::vector<bool> owned_;  // gradients that may be written to
  Tensors dots_, sums_, weight_grads_;
  std::vector<std::vector<Kept>> of_input_, of_edge_;
};

template <class Device>
Tensors cell_backward(const Tensor& grad, const Tensors& inputs, const Tensors& kept,
                      const std::vector<int64_t>& program, const Tensors& weights,
                      const std::vector<double>& numbers, const MaybeTensor& factors, bool weighted,
                      bool need_weights, const std::vector<int64_t>& need_inputs,
                      const std::vector<int64_t>& sources, const Tensors& source_weights,
                      const Tensors& source_statistics, const std::vector<double>& source_numbers) {
  const char* op = "cell_backward";
  const CellProgram cell = read_cell(op, inputs.size(), program, weights, nullptr, numbers);
  const CellBackwardArguments arguments = {grad,     inputs,       kept,       factors,
                                           weighted, need_weights, need_inputs};
  return CellBackward<Device>(
             cell, arguments, weights.size(),
             read_sources(cell, sources, source_weights, source_statistics, source_numbers, op))
      .run();
}

}  // namespace nasp_ext
