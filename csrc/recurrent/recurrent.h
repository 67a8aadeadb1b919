// SPDX-License-Identifier: MIT
// A recurrent cell over all its time steps. csrc/ops.cpp and nasp_ext/ops/recurrent.py say what the
// operators do; passes.h what runs between the matrix products.
#pragma once

#include <tuple>

#include "passes.h"
#include "recurrent_memory.h"

namespace nasp_ext {

// The cell, as forward and backward take it.
struct RecurrentCell {
  Tensor hidden;                 // (B, H)
  Tensor entry;                  // (H, 2H)
  Tensors weights;               // N of (H, 2H)
  MaybeTensor mask;              // (B, H)
  std::vector<int64_t> terms;    // (node, source, activation) each
  MaybeTensor coefficients;      // (P,)
  std::vector<int64_t> outputs;  // ascending
  bool norm;
  MaybeTensor mean, var;  // (N + 1, H)
  double eps;
};

struct RecurrentForwardCall {
  Tensor projected;  // (T, B, 2H)
  RecurrentCell cell;
  bool keep;

  auto fields() {
    return std::tie(projected, cell.hidden, cell.entry, cell.weights, cell.mask, cell.terms,
                    cell.coefficients, cell.outputs, cell.norm, cell.mean, cell.var, cell.eps,
                    keep);
  }
};

// What the forward gives.
struct RecurrentTape {
  Tensor out;       // (T, B, H)
  Tensor states;    // (N + 1, T, B, H)
  Tensor masked;    // (N + 1, T, B, H), or no elements
  Tensor entered;   // (T, B, H), or no elements
  Tensor products;  // (P + 1, T, B, 2H)
  Tensor norms;     // (T, N + 1, 2, H), or no elements
};

struct RecurrentBackwardCall {
  Tensor grad;  // (T, B, H)
  RecurrentCell cell;
  RecurrentTape tape;
  bool need_inputs, need_weights, need_nodes;

  auto fields() {
    return std::tie(grad, cell.hidden, cell.entry, cell.weights, cell.mask, cell.terms,
                    cell.coefficients, cell.outputs, cell.norm, cell.mean, cell.var, cell.eps,
                    tape.out, tape.states, tape.masked, tape.entered, tape.products, tape.norms,
                    need_inputs, need_weights, need_nodes);
  }
};

// What runs on a device: a class with
//   explicit Passes(const Tensor& like);
//   // out = a b, or base + a b where base is not null; base may be &out. Each (rows, columns) with
//   // a stride of 1 in one dimension. The dispatcher of the stable ABI passes no Scalar, so
//   // addmm.out is called by the shim of the device (aoti_torch_cpu_addmm_out).
//   void product(const Tensor& out, const Tensor* base, const Tensor& a, const Tensor& b) const;
// and, for T float and double, of passes.h:
//   // output: null, or what follows the last node of a time step: one launch for both.
//   void node_forward(const NodeForward<T>&, const OutputForward<T>* output) const;
//   void output_forward(const OutputForward<T>&) const;
//   // output: null, or what precedes the last node of a time step.
//   void node_backward(const NodeBackward<T>&, const OutputBackward<T>* output) const;
//   void output_backward(const OutputBackward<T>&) const;
//   void row_dots(const RowDots<T>&) const;
template <class Device>
class Passes;

// The products of so many bytes are worked on at a time where those of all time steps need not be
// kept: for the gradients of the weights, and for the terms that did not run.
template <class Device>
struct ChunkBytes;
template <>
struct ChunkBytes<OnCpu> {
  static constexpr int64_t kGradients = int64_t(64) << 20, kDots = int64_t(2) << 20;
};
template <>
struct ChunkBytes<OnCuda> {
  static constexpr int64_t kGradients = int64_t(256) << 20, kDots = int64_t(64) << 20;
};

template <class T>
const T* data_or_none(const MaybeTensor& t, int64_t offset = 0) {
  return t ? data_of<T>(*t) + offset : nullptr;
}

}  // namespace nasp_ext
