// SPDX-License-Identifier: MIT
// What a recurrent cell asks of its arguments, before it allocates or touches memory.
#pragma once

#include "recurrent.h"

namespace nasp_ext {

struct RecurrentTerm {
  int64_t node, source;
  int f;
};

struct RecurrentShape {
  int64_t steps, batch, size, nodes;  // T, B, H, N
  std::vector<RecurrentTerm> terms;
  std::vector<size_t> first;  // of the terms of each node; N + 2 numbers, of s_0 none

  int64_t state() const { return batch * size; }
  int64_t row() const { return 2 * batch * size; }  // of products
};

template <class... Sizes>
Tensor checked_dense(const Tensor& t, const Tensor& like, const char* op, const char* name,
                     Sizes... sizes) {
  check_like(t, like, op, name);
  constexpr int64_t kDim = sizeof...(Sizes);
  const int64_t expected[] = {sizes...};
  bool fits = t.dim() == kDim;
  std::string text;
  for (int64_t i = 0; i < kDim; ++i) {
    fits = fits && t.size(i) == expected[i];
    text += (i ? ", " : "(") + std::to_string(expected[i]);
  }
  if (!fits)
    fail(op, ": expected ", name, " of shape ", text, kDim == 1 ? ",)" : ")", ", found ",
         shape_text(t));
  return as_contiguous(t);
}

inline void check_empty(const Tensor& t, const Tensor& like, const char* op, const char* name) {
  check_device(t, like, op, name);
  if (t.numel() > 0)
    fail(op, ": expected ", name,
         " without elements, as the forward gives it for this cell, found ", shape_text(t));
}

// Sets terms and first of a shape.
inline void read_terms(RecurrentShape& shape, const std::vector<int64_t>& numbers, const char* op) {
  if (numbers.size() % 3)
    fail(op, ": expected terms as node, source and activation each, found ", numbers.size(),
         " numbers");
  std::vector<bool> seen(static_cast<size_t>(shape.nodes * shape.nodes), false);
  shape.first.assign(static_cast<size_t>(shape.nodes) + 2, 0);
  for (size_t i = 0; i < numbers.size(); i += 3) {
    const int64_t node = numbers[i], source = numbers[i + 1], f = numbers[i + 2];
    if (node < 1 || node > shape.nodes || source < 0 || source >= node || f < 0 ||
        f >= kNonlinearities)
      fail(op, ": expected terms of a node 1 to ", shape.nodes,
           ", a source 0 to node - 1 and an activation 0 to ", kNonlinearities - 1, ", found ",
           node, ", ", source, ", ", f);
    if (!shape.terms.empty() && node < shape.terms.back().node)
      fail(op, ": expected terms sorted by their node, found node ", node, " behind node ",
           shape.terms.back().node);
    const auto pair = static_cast<size_t>((node - 1) * shape.nodes + source);
    if (seen[pair])
      fail(op, ": expected one term of each node and source, found two of node ", node,
           " and source ", source);
    seen[pair] = true;
    shape.terms.push_back({node, source, static_cast<int>(f)});
    ++shape.first[static_cast<size_t>(node) + 1];
  }
  for (size_t i = 1; i < shape.first.size(); ++i) shape.first[i] += shape.first[i - 1];
}

inline void check_nodes(const Tensors& weights, const char* op) {
  if (weights.empty() || weights.size() > kMostNodes)
    fail(op, ": expected weights of 1 to ", kMostNodes, " nodes, found ", weights.size());
}

// `steps` (T, B, ...) sets T; the cell becomes dense.
inline RecurrentShape check_cell(RecurrentCell& cell, const Tensor& steps, const char* steps_name,
                                 const char* op) {
  check_device(cell.hidden, cell.hidden, op, "hidden");
  if (cell.hidden.dim() != 2 || cell.hidden.numel() == 0)
    fail(op, ": expected hidden of shape (B, H), B and H at least 1, found ",
         shape_text(cell.hidden));
  const Tensor& like = cell.hidden;
  check_device(steps, like, op, steps_name);
  if (steps.dim() != 3 || steps.size(0) == 0)
    fail(op, ": expected ", steps_name, " of at least one time step, (T, B, ...), found ",
         shape_text(steps));
  check_nodes(cell.weights, op);
  RecurrentShape shape{steps.size(0),
                       cell.hidden.size(0),
                       like.size(1),
                       static_cast<int64_t>(cell.weights.size()),
                       {},
                       {}};
  const int64_t size = shape.size, nodes = shape.nodes;
  cell.hidden = as_contiguous(cell.hidden);
  cell.entry = checked_dense(cell.entry, like, op, "entry", size, 2 * size);
  for (Tensor& weight : cell.weights)
    weight = checked_dense(weight, like, op, "weights", size, 2 * size);
  if (cell.mask) cell.mask = checked_dense(*cell.mask, like, op, "mask", shape.batch, size);
  read_terms(shape, cell.terms, op);
  if (cell.coefficients)
    cell.coefficients = checked_dense(*cell.coefficients, like, op, "coefficients",
                                      static_cast<int64_t>(shape.terms.size()));
  if (cell.outputs.empty()) fail(op, ": expected at least one state in outputs, found none");
  for (size_t i = 0; i < cell.outputs.size(); ++i)
    if (cell.outputs[i] < 0 || cell.outputs[i] > nodes ||
        (i && cell.outputs[i] <= cell.outputs[i - 1]))
      fail(op, ": expected states 0 to ", nodes, " in outputs, ascending, found ", cell.outputs[i]);
  if (cell.mean.has_value() != cell.var.has_value())
    fail(op, ": expected mean and var, or none of them, found one without the other");
  if (cell.mean) {
    if (!cell.norm) fail(op, ": expected no mean and var without norm, found them");
    cell.mean = checked_dense(*cell.mean, like, op, "mean", nodes + 1, size);
    cell.var = checked_dense(*cell.var, like, op, "var", nodes + 1, size);
  }
  if (!(cell.eps >= 0)) fail(op, ": expected eps >= 0, found ", cell.eps);
  if (cell.norm && !cell.mean && shape.batch == 1)
    fail(op, ": expected more than one row for the statistics of the batch, found B = 1; ",
         "give mean and var, or a larger batch");
  const auto element = static_cast<int64_t>(like.element_size());
  check_sizes({nodes + 1, shape.steps, shape.batch, size}, element, op);
  check_sizes({static_cast<int64_t>(shape.terms.size()) + 1, shape.steps, shape.batch, 2, size},
              element, op);
  return shape;
}

inline RecurrentShape check_recurrent_forward(RecurrentForwardCall& call, const char* op) {
  const RecurrentShape shape = check_cell(call.cell, call.projected, "projected", op);
  call.projected = checked_dense(call.projected, call.cell.hidden, op, "projected", shape.steps,
                                 shape.batch, 2 * shape.size);
  return shape;
}

// The part of a tape that the inner products read as well.
inline void check_states(Tensor& states, Tensor& masked, bool has_mask, Tensor& products,
                         const RecurrentShape& s, const Tensor& like, const char* op) {
  states = checked_dense(states, like, op, "states", s.nodes + 1, s.steps, s.batch, s.size);
  if (has_mask)
    masked = checked_dense(masked, like, op, "masked", s.nodes + 1, s.steps, s.batch, s.size);
  else
    check_empty(masked, like, op, "masked");
  products = checked_dense(products, like, op, "products", static_cast<int64_t>(s.terms.size()) + 1,
                           s.steps, s.batch, 2 * s.size);
}

inline RecurrentShape check_recurrent_backward(RecurrentBackwardCall& call, const char* op) {
  const RecurrentShape s = check_cell(call.cell, call.grad, "grad", op);
  const Tensor& like = call.cell.hidden;
  RecurrentTape& tape = call.tape;
  call.grad = checked_dense(call.grad, like, op, "grad", s.steps, s.batch, s.size);
  tape.out = checked_dense(tape.out, like, op, "out", s.steps, s.batch, s.size);
  const bool masked = call.cell.mask.has_value();
  check_states(tape.states, tape.masked, masked, tape.products, s, like, op);
  if (masked)
    tape.entered = checked_dense(tape.entered, like, op, "entered", s.steps, s.batch, s.size);
  else
    check_empty(tape.entered, like, op, "entered");
  if (call.cell.norm && !call.cell.mean)
    tape.norms =
        checked_dense(tape.norms, like, op, "norms", s.steps, s.nodes + 1, int64_t(2), s.size);
  else
    check_empty(tape.norms, like, op, "norms");
  return s;
}

}  // namespace nasp_ext
