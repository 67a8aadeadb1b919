// SPDX-License-Identifier: MIT
// The time steps of a recurrent cell, one after the other.
#pragma once

#include "recurrent_checks.h"

namespace nasp_ext {

// Whether `projected` is copied to the products of the entry of all time steps at once, for each to
// be added to: one launch instead of one for each. A CPU copies it while it is in its cache.
template <class Device>
constexpr bool kCopiesAhead = false;
template <>
constexpr bool kCopiesAhead<OnCuda> = true;

using RecurrentResults = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class Device, class T>
class RecurrentForward {
 public:
  // call: checked.
  RecurrentForward(const RecurrentShape& shape, const RecurrentForwardCall& call)
      : s_(shape),
        a_(call),
        cell_(call.cell),
        passes_(call.projected),
        kept_(call.keep ? s_.steps : 1) {
    const Tensor& like = a_.projected;
    const bool norms = cell_.norm && !cell_.mean;
    tape_.out = new_result(like, {s_.steps, s_.batch, s_.size});
    tape_.states = new_tensor<Device>(like, {s_.nodes + 1, kept_, s_.batch, s_.size}, kept_);
    if (cell_.mask) {
      tape_.masked = new_tensor<Device>(like, {s_.nodes + 1, kept_, s_.batch, s_.size}, kept_);
      tape_.entered = new_tensor<Device>(like, {kept_, s_.batch, s_.size}, kept_);
    } else {
      tape_.masked = no_elements(like);
      tape_.entered = no_elements(like);
    }
    tape_.products =
        new_tensor<Device>(like, {products_kept(), kept_, s_.batch, 2 * s_.size}, kept_);
    tape_.norms =
        norms ? new_result(like, {s_.steps, s_.nodes + 1, 2, s_.size}) : no_elements(like);
    entry_ = matrix_in(cell_.entry, 0, s_.size, 2 * s_.size);
    for (const Tensor& weight : cell_.weights)
      weights_.push_back(matrix_in(weight, 0, s_.size, 2 * s_.size));
  }

  RecurrentResults run() {
    if (cell_.mask) enter();
    if (copies_ahead()) {
      Tensor ahead = matrix_in(tape_.products, 0, s_.steps * s_.batch, 2 * s_.size);
      torch::stable::copy_(ahead, matrix_in(a_.projected, 0, s_.steps * s_.batch, 2 * s_.size));
    }
    for (int64_t t = 0; t < s_.steps; ++t) {
      entry(t);
      for (int64_t node = 1; node <= s_.nodes; ++node) this->node(node, t);
    }
    if (!a_.keep)
      for (Tensor* t : {&tape_.states, &tape_.masked, &tape_.entered, &tape_.products})
        *t = no_elements(a_.projected);
    return {tape_.out, tape_.states, tape_.masked, tape_.entered, tape_.products, tape_.norms};
  }

 private:
  bool copies_ahead() const { return kCopiesAhead<Device> && a_.keep; }

  // Without a tape, those of a node make way for those of the next one.
  int64_t products_kept() const {
    if (a_.keep) return static_cast<int64_t>(s_.terms.size()) + 1;
    size_t most = 1;
    for (size_t node = 1; node < s_.first.size(); ++node)
      most = std::max(most, s_.first[node] - s_.first[node - 1]);
    return static_cast<int64_t>(most);
  }

  int64_t state_at(int64_t state, int64_t t) const {
    return (state * kept_ + (a_.keep ? t : 0)) * s_.state();
  }
  int64_t product_at(size_t kept, size_t of_node, int64_t t) const {
    const auto number = static_cast<int64_t>(a_.keep ? kept : of_node);
    return (number * kept_ + (a_.keep ? t : 0)) * s_.row();
  }
  int64_t entered_at(int64_t t) const { return (a_.keep ? t : 0) * s_.state(); }

  NodeForward<T> node_pass(int64_t state, int64_t t) const {
    NodeForward<T> pass{};
    pass.batch = s_.batch;
    pass.size = s_.size;
    pass.norm = {cell_.norm, data_or_none<T>(cell_.mean, state * s_.size),
                 data_or_none<T>(cell_.var, state * s_.size), nullptr, cell_.eps};
    if (pass.norm.of_batch())
      pass.norm.batch =
          mutable_data_of<T>(tape_.norms) + (t * (s_.nodes + 1) + state) * 2 * s_.size;
    pass.mask = data_or_none<T>(cell_.mask);
    pass.state = mutable_data_of<T>(tape_.states) + state_at(state, t);
    if (pass.mask) pass.masked = mutable_data_of<T>(tape_.masked) + state_at(state, t);
    return pass;
  }

  void run_pass(const NodeForward<T>& pass, const OutputForward<T>* output) const {
    passes_.node_forward(pass, output);
  }

  void entry(int64_t t) {
    const bool first = t == 0;
    const int64_t offset = product_at(0, 0, t);
    const Tensor entered = cell_.mask ? matrix_in(tape_.entered, entered_at(t), s_.batch, s_.size)
                           : first ? matrix_in(cell_.hidden, 0, s_.batch, s_.size)
                                   : matrix_in(tape_.out, (t - 1) * s_.state(), s_.batch, s_.size);
    const Tensor projected = matrix_in(a_.projected, t * s_.row(), s_.batch, 2 * s_.size);
    const Tensor product = matrix_in(tape_.products, offset, s_.batch, 2 * s_.size);
    passes_.product(product, copies_ahead() ? &product : &projected, entered, entry_);
    NodeForward<T> pass = node_pass(0, t);
    const T* const before =
        first ? data_of<T>(cell_.hidden) : data_of<T>(tape_.out) + (t - 1) * s_.state();
    pass.terms[0] = {data_of<T>(tape_.products) + offset, before, nullptr, kTanh};
    pass.count = 1;
    run_pass(pass, nullptr);
  }

  void node(int64_t node, int64_t t) {
    NodeForward<T> pass = node_pass(node, t);
    const size_t first = s_.first[static_cast<size_t>(node)],
                 end = s_.first[static_cast<size_t>(node) + 1];
    const Tensor& read = cell_.mask ? tape_.masked : tape_.states;
    for (size_t p = first; p < end; ++p) {
      const RecurrentTerm& term = s_.terms[p];
      const int64_t offset = product_at(p + 1, p - first, t);
      const int64_t source = state_at(term.source, t);
      passes_.product(matrix_in(tape_.products, offset, s_.batch, 2 * s_.size), nullptr,
                      matrix_in(read, source, s_.batch, s_.size),
                      weights_[static_cast<size_t>(node) - 1]);
      pass.terms[pass.count++] = {
          data_of<T>(tape_.products) + offset, data_of<T>(tape_.states) + source,
          cell_.coefficients ? data_of<T>(*cell_.coefficients) + p : nullptr, term.f};
    }
    if (node < s_.nodes) return run_pass(pass, nullptr);
    const OutputForward<T> output = output_pass(t);
    run_pass(pass, &output);
  }

  OutputForward<T> output_pass(int64_t t) const {
    OutputForward<T> pass{};
    pass.batch = s_.batch;
    pass.size = s_.size;
    for (const int64_t state : cell_.outputs)
      pass.states[pass.count++] = data_of<T>(tape_.states) + state_at(state, t);
    pass.out = mutable_data_of<T>(tape_.out) + t * s_.state();
    if (cell_.mask && t + 1 < s_.steps) {
      pass.mask = data_of<T>(*cell_.mask);
      pass.entered = mutable_data_of<T>(tape_.entered) + entered_at(t + 1);
    }
    return pass;
  }

  // hidden * mask in front of the first time step.
  void enter() {
    OutputForward<T> pass{};
    pass.batch = s_.batch;
    pass.size = s_.size;
    pass.states[pass.count++] = data_of<T>(cell_.hidden);
    pass.mask = data_of<T>(*cell_.mask);
    pass.entered = mutable_data_of<T>(tape_.entered);
    passes_.output_forward(pass);
  }

  const RecurrentShape& s_;
  const RecurrentForwardCall& a_;
  const RecurrentCell& cell_;
  const Passes<Device> passes_;
  const int64_t kept_;  // time steps
  RecurrentTape tape_;
  Tensor entry_;
  Tensors weights_;
};

template <class Device>
RecurrentResults recurrent_forward(const RecurrentForwardCall& arguments) {
  const char* op = "recurrent_forward";
  RecurrentForwardCall call = arguments;
  const RecurrentShape shape = check_recurrent_forward(call, op);
  return dispatch_single_double(call.projected.scalar_type(), op, [&](auto zero) {
    return RecurrentForward<Device, decltype(zero)>(shape, call).run();
  });
}

}  // namespace nasp_ext
