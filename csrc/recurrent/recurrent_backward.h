// SPDX-License-Identifier: MIT
// The time steps of a recurrent cell backwards, and the gradients of its weights: products over
// many time steps at once.
#pragma once

#include "recurrent_checks.h"

namespace nasp_ext {

using RecurrentGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// The gradient of a state, or of h_t, while the products that read it are gone through backwards:
// past them (`direct`), and of what they read, the masked state (`through`).
struct StateGradient {
  Tensor direct, through;  // (B, H)
  bool known = false;      // whether anything has been added yet
};

template <class Device, class T>
class RecurrentBackward {
 public:
  // call: checked.
  RecurrentBackward(const RecurrentShape& shape, const RecurrentBackwardCall& call)
      : s_(shape), a_(call), cell_(call.cell), passes_(call.grad) {
    const Tensor& like = a_.grad;
    const auto result = [&](bool needed, std::initializer_list<int64_t> sizes) {
      return needed ? new_result(like, sizes) : no_elements(like);
    };
    grad_projected_ = result(a_.need_inputs, {s_.steps, s_.batch, 2 * s_.size});
    grad_hidden_ = result(a_.need_inputs, {s_.batch, s_.size});
    grad_entry_ = result(a_.need_weights, {s_.size, 2 * s_.size});
    grad_weights_ = result(a_.need_weights, {s_.nodes, s_.size, 2 * s_.size});
    grad_nodes_ = no_elements(like);
    if (a_.need_nodes)
      grad_nodes_ = new_tensor<Device>(like, {s_.nodes, s_.steps, s_.batch, s_.size}, s_.steps);
    find_reached();
  }

  RecurrentGradients run() {
    if (a_.need_inputs || a_.need_weights || a_.need_nodes) {
      allocate();
      for (int64_t end = s_.steps; end > 0; end -= std::min(end, chunk_)) {
        first_ = std::max<int64_t>(0, end - chunk_);
        for (int64_t t = end - 1; t >= first_; --t) step(t);
        if (a_.need_weights) add_weights(end);
      }
      if (a_.need_inputs) finish_inputs();
    }
    return {grad_projected_, grad_hidden_, grad_entry_, grad_weights_, grad_nodes_};
  }

 private:
  // From which states a way leads to h_t; the others have a gradient of 0.
  void find_reached() {
    reached_.assign(static_cast<size_t>(s_.nodes) + 1, false);
    averaged_ = reached_;
    for (const int64_t state : cell_.outputs)
      reached_[static_cast<size_t>(state)] = averaged_[static_cast<size_t>(state)] = true;
    for (size_t p = s_.terms.size(); p-- > 0;)
      if (reached_[static_cast<size_t>(s_.terms[p].node)])
        reached_[static_cast<size_t>(s_.terms[p].source)] = true;
  }

  void allocate() {
    const Tensor& like = a_.grad;
    const auto products = static_cast<int64_t>(s_.terms.size()) + 1;
    const auto bytes = products * s_.row() * static_cast<int64_t>(sizeof(T));
    // Of the same size for every number of time steps: kept memory fits the next sequence too.
    const int64_t most =
        a_.need_weights ? std::max<int64_t>(1, ChunkBytes<Device>::kGradients / bytes) : 1;
    chunk_ = std::min(s_.steps, most);
    const int64_t room = StepMemory<Device>::kSteps > 1 ? most : chunk_;
    grad_products_ = new_tensor<Device>(like, {products * room, s_.batch, 2 * s_.size});
    share_ = new_tensor<Device>(like, {s_.batch, s_.size});
    grad_z_ = new_tensor<Device>(like, {s_.batch, s_.size});
    const int64_t states = s_.nodes + 2;  // the last one is h_{t-1}
    memory_ = new_tensor<Device>(like, {states, 2, s_.batch, s_.size});
    for (int64_t i = 0; i < states; ++i)
      gradients_.push_back({matrix_in(memory_, 2 * i * s_.state(), s_.batch, s_.size),
                            matrix_in(memory_, (2 * i + 1) * s_.state(), s_.batch, s_.size)});
    entry_ = matrix_in(cell_.entry, 0, s_.size, 2 * s_.size, true);
    for (const Tensor& weight : cell_.weights)
      weights_.push_back(matrix_in(weight, 0, s_.size, 2 * s_.size, true));
    for (int64_t node = 1; node <= s_.nodes; ++node) {
      if (a_.need_nodes && !reached(node))
        zero(grad_nodes_, (node - 1) * s_.steps, s_.steps, s_.state());
      if (a_.need_weights && !(reached(node) && has_terms(node)))
        zero(grad_weights_, node - 1, 1, 2 * s_.size * s_.size);
    }
    if (!reached(0)) {
      if (a_.need_inputs) torch::stable::zero_(grad_projected_);
      if (a_.need_weights) torch::stable::zero_(grad_entry_);
    }
  }

  // Blocks of so many elements of a tensor.
  static void zero(const Tensor& t, int64_t first, int64_t count, int64_t elements) {
    Tensor part = matrix_in(t, first * elements, count, elements);
    torch::stable::zero_(part);
  }

  bool reached(int64_t state) const { return reached_[static_cast<size_t>(state)]; }
  bool has_terms(int64_t node) const {
    return s_.first[static_cast<size_t>(node)] < s_.first[static_cast<size_t>(node) + 1];
  }
  StateGradient& hidden() { return gradients_.back(); }

  int64_t state_at(int64_t state, int64_t t) const { return (state * s_.steps + t) * s_.state(); }
  int64_t product_at(size_t number, int64_t t) const {
    return (static_cast<int64_t>(number) * s_.steps + t) * s_.row();
  }

  // [dc; dh] of a product, from time step t on; of the entry they are the gradient of `projected`.
  std::pair<Tensor, int64_t> grad_product(size_t number, int64_t t) const {
    if (number == 0 && a_.need_inputs) return {grad_projected_, t * s_.row()};
    return {grad_products_, (static_cast<int64_t>(number) * chunk_ + t - first_) * s_.row()};
  }

  OutputBackward<T> of_hidden(const T* grad, T scale, const Tensor& share) {
    OutputBackward<T> pass{};
    pass.batch = s_.batch;
    pass.size = s_.size;
    pass.grad = grad;
    if (hidden().known) {
      pass.direct = data_of<T>(hidden().direct);
      pass.through = data_of<T>(hidden().through);
    }
    pass.mask = data_or_none<T>(cell_.mask);
    pass.scale = scale;
    pass.share = mutable_data_of<T>(share);
    return pass;
  }

  void step(int64_t t) {
    output_ = of_hidden(data_of<T>(a_.grad) + t * s_.state(),
                        T(1) / static_cast<T>(cell_.outputs.size()), share_);
    for (StateGradient& gradient : gradients_) gradient.known = false;
    for (int64_t node = s_.nodes; node > 0; --node)
      if (reached(node)) this->node(node, t);
    if (reached(0) && entry_counts(t)) entry(t);
  }

  // Whether what is in front of the first time step is asked for, or another time step is.
  bool entry_counts(int64_t t) const { return t > 0 || a_.need_inputs || a_.need_weights; }

  NodeBackward<T> node_pass(int64_t state, int64_t t) {
    NodeBackward<T> pass{};
    pass.batch = s_.batch;
    pass.size = s_.size;
    if (averaged_[static_cast<size_t>(state)]) pass.share = data_of<T>(share_);
    const StateGradient& gradient = gradients_[static_cast<size_t>(state)];
    if (gradient.known) {
      pass.direct = data_of<T>(gradient.direct);
      pass.through = data_of<T>(gradient.through);
    }
    pass.mask = data_or_none<T>(cell_.mask);
    pass.norm = {cell_.norm, data_or_none<T>(cell_.mean, state * s_.size),
                 data_or_none<T>(cell_.var, state * s_.size), nullptr, cell_.eps};
    if (pass.norm.of_batch())  // read only backwards
      pass.norm.batch =
          const_cast<T*>(data_of<T>(a_.tape.norms)) + (t * (s_.nodes + 1) + state) * 2 * s_.size;
    pass.state = data_of<T>(a_.tape.states) + state_at(state, t);
    pass.grad_z = a_.need_nodes && state > 0
                      ? mutable_data_of<T>(grad_nodes_) + state_at(state - 1, t)
                      : mutable_data_of<T>(grad_z_);
    return pass;
  }

  // The first pass of a time step shares out the gradient of its output.
  void run_pass(const NodeBackward<T>& pass) {
    passes_.node_backward(pass, output_ ? &*output_ : nullptr);
    output_.reset();
  }

  // The gradient of what entered product `number` goes to `source`.
  TermBackward<T> term(size_t number, const T* source, const T* coefficient, int f, int64_t t,
                       StateGradient* to) {
    const auto [tensor, offset] = grad_product(number, t);
    return {data_of<T>(a_.tape.products) + product_at(number, t),
            source,
            coefficient,
            f,
            mutable_data_of<T>(tensor) + offset,
            to ? mutable_data_of<T>(to->direct) : nullptr,
            to && !to->known};
  }

  void pass_through(size_t number, int64_t t, const Tensor& weight, StateGradient* to) {
    if (!to) return;
    const auto [tensor, offset] = grad_product(number, t);
    passes_.product(to->through, to->known ? &to->through : nullptr,
                    matrix_in(tensor, offset, s_.batch, 2 * s_.size), weight);
    to->known = true;
  }

  void node(int64_t node, int64_t t) {
    NodeBackward<T> pass = node_pass(node, t);
    const size_t first = s_.first[static_cast<size_t>(node)],
                 end = s_.first[static_cast<size_t>(node) + 1];
    const auto to = [&](int64_t source) {
      return source > 0 || entry_counts(t) ? &gradients_[static_cast<size_t>(source)] : nullptr;
    };
    for (size_t p = first; p < end; ++p)
      pass.terms[pass.count++] =
          term(p + 1, data_of<T>(a_.tape.states) + state_at(s_.terms[p].source, t),
               cell_.coefficients ? data_of<T>(*cell_.coefficients) + p : nullptr, s_.terms[p].f, t,
               to(s_.terms[p].source));
    run_pass(pass);
    for (size_t p = first; p < end; ++p)
      pass_through(p + 1, t, weights_[static_cast<size_t>(node) - 1], to(s_.terms[p].source));
  }

  void entry(int64_t t) {
    NodeBackward<T> pass = node_pass(0, t);
    StateGradient* const to = t > 0 || a_.need_inputs ? &hidden() : nullptr;
    const T* const source =
        t > 0 ? data_of<T>(a_.tape.out) + (t - 1) * s_.state() : data_of<T>(cell_.hidden);
    pass.terms[pass.count++] = term(0, source, nullptr, kTanh, t, to);
    run_pass(pass);
    pass_through(0, t, entry_, to);
  }

  // Adds the products of the time steps first_ ... end - 1.
  void add_weights(int64_t end) {
    const Tensor& read = cell_.mask ? a_.tape.masked : a_.tape.states;
    std::vector<bool> known(static_cast<size_t>(s_.nodes), end < s_.steps);
    for (size_t p = 0; p < s_.terms.size(); ++p) {
      const RecurrentTerm& term = s_.terms[p];
      if (!reached(term.node)) continue;
      const auto row = static_cast<size_t>(term.node) - 1;
      const Tensor grad =
          matrix_in(grad_weights_, (term.node - 1) * 2 * s_.size * s_.size, s_.size, 2 * s_.size);
      add_weight(grad, known[row], read, state_at(term.source, first_), p + 1, first_, end);
      known[row] = true;
    }
    if (!reached(0)) return;
    const Tensor grad = matrix_in(grad_entry_, 0, s_.size, 2 * s_.size);
    const bool later = end < s_.steps;
    if (cell_.mask) {
      add_weight(grad, later, a_.tape.entered, first_ * s_.state(), 0, first_, end);
      return;
    }
    const int64_t second = std::max<int64_t>(first_, 1);
    if (second < end)
      add_weight(grad, later, a_.tape.out, (second - 1) * s_.state(), 0, second, end);
    if (first_ == 0) add_weight(grad, later || second < end, cell_.hidden, 0, 0, 0, 1);
  }

  void add_weight(const Tensor& grad, bool known, const Tensor& read, int64_t offset, size_t number,
                  int64_t first, int64_t end) {
    const int64_t rows = (end - first) * s_.batch;
    const auto [tensor, start] = grad_product(number, first);
    passes_.product(grad, known ? &grad : nullptr, matrix_in(read, offset, rows, s_.size, true),
                    matrix_in(tensor, start, rows, 2 * s_.size));
  }

  void finish_inputs() { passes_.output_backward(of_hidden(nullptr, T(1), grad_hidden_)); }

  const RecurrentShape& s_;
  const RecurrentBackwardCall& a_;
  const RecurrentCell& cell_;
  const Passes<Device> passes_;
  Tensor grad_projected_, grad_hidden_, grad_entry_, grad_weights_, grad_nodes_;
  Tensor grad_products_, share_, grad_z_, memory_, entry_;
  Tensors weights_;  // transposed
  std::vector<StateGradient> gradients_;
  std::optional<OutputBackward<T>> output_;  // until a pass has shared it out
  std::vector<bool> reached_, averaged_;
  int64_t chunk_ = 1, first_ = 0;  // time steps at once, and the first one of those
};

template <class Device>
RecurrentGradients recurrent_backward(const RecurrentBackwardCall& arguments) {
  const char* op = "recurrent_backward";
  RecurrentBackwardCall call = arguments;
  const RecurrentShape shape = check_recurrent_backward(call, op);
  return dispatch_single_double(call.grad.scalar_type(), op, [&](auto zero) {
    return RecurrentBackward<Device, decltype(zero)>(shape, call).run();
  });
}

}  // namespace nasp_ext
