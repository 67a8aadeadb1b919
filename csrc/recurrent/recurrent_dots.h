// SPDX-License-Identifier: MIT
// The inner products of the gradient of each node with what every activation of every source would
// have given it: one product for each pair, over many time steps at once.
#pragma once

#include "recurrent_checks.h"

namespace nasp_ext {

constexpr int64_t kLeastRows = 256;  // of a product; those of fewer are slow

template <class Device, class T>
class RecurrentDots {
 public:
  // Checked.
  RecurrentDots(const RecurrentShape& shape, const Tensor& grads, const Tensor& states,
                const Tensor& masked, const Tensor& products, const Tensors& weights)
      : s_(shape),
        grads_(grads),
        states_(states),
        read_(masked.numel() ? masked : states),
        products_(products),
        weights_(weights),
        passes_(grads),
        rows_(s_.steps * s_.batch),
        chunk_(std::min(rows_, std::max(kLeastRows, ChunkBytes<Device>::kDots / row_bytes()))) {}

  Tensor run() {
    const int64_t pairs = s_.nodes * (s_.nodes + 1) / 2;
    Tensor sums = empty_matrix(grads_, pairs, kNonlinearities, ScalarType::Double);
    torch::stable::zero_(sums);
    std::vector<size_t> number(static_cast<size_t>(pairs), 0);  // of its product; 0: it did not run
    for (size_t p = 0; p < s_.terms.size(); ++p)
      number[static_cast<size_t>(pair(s_.terms[p].node, s_.terms[p].source))] = p + 1;
    Tensor scratch;
    for (int64_t node = 1; node <= s_.nodes; ++node)
      for (int64_t source = 0; source < node; ++source) {
        const int64_t row = pair(node, source);
        double* const to = mutable_data_of<double>(sums) + row * kNonlinearities;
        const size_t p = number[static_cast<size_t>(row)];
        if (p) {
          add(node, source, 0, rows_,
              data_of<T>(products_) + static_cast<int64_t>(p) * rows_ * 2 * s_.size, to);
          continue;
        }
        if (!scratch.defined()) scratch = new_tensor<Device>(grads_, {chunk_, 2 * s_.size});
        for (int64_t first = 0; first < rows_; first += chunk_) {
          const int64_t rows = std::min(chunk_, rows_ - first);
          passes_.product(
              matrix_in(scratch, 0, rows, 2 * s_.size), nullptr,
              matrix_in(read_, (source * rows_ + first) * s_.size, rows, s_.size),
              matrix_in(weights_[static_cast<size_t>(node) - 1], 0, s_.size, 2 * s_.size));
          add(node, source, first, rows, data_of<T>(scratch), to);
        }
      }
    return torch::stable::to(sums, grads_.scalar_type());
  }

 private:
  static int64_t pair(int64_t node, int64_t source) { return (node - 1) * node / 2 + source; }
  int64_t row_bytes() const { return 2 * s_.size * static_cast<int64_t>(sizeof(T)); }

  void add(int64_t node, int64_t source, int64_t first, int64_t rows, const T* products,
           double* sums) const {
    RowDots<T> pass{};
    pass.rows = rows;
    pass.size = s_.size;
    pass.grad = data_of<T>(grads_) + ((node - 1) * rows_ + first) * s_.size;
    pass.source = data_of<T>(states_) + (source * rows_ + first) * s_.size;
    pass.products = products;
    pass.sums = sums;
    passes_.row_dots(pass);
  }

  const RecurrentShape& s_;
  const Tensor &grads_, &states_, &read_, &products_;
  const Tensors& weights_;
  const Passes<Device> passes_;
  const int64_t rows_, chunk_;  // of all time steps, and at once
};

template <class Device>
Tensor recurrent_dots(Tensor grad_nodes, Tensor states, Tensor masked, Tensor products,
                      Tensors weights, std::vector<int64_t> terms) {
  const char* op = "recurrent_dots";
  check_nodes(weights, op);
  check_device(grad_nodes, grad_nodes, op, "grad_nodes");
  if (grad_nodes.dim() != 4 || grad_nodes.numel() == 0 ||
      grad_nodes.size(0) != static_cast<int64_t>(weights.size()))
    fail(op, ": expected grad_nodes of shape (N, T, B, H), N = ", weights.size(),
         ", none of them 0, found ", shape_text(grad_nodes));
  const Tensor& like = grad_nodes;
  RecurrentShape s{like.size(1), like.size(2), like.size(3), like.size(0), {}, {}};
  read_terms(s, terms, op);
  grad_nodes = as_contiguous(grad_nodes);
  check_device(masked, like, op, "masked");
  check_states(states, masked, masked.numel() > 0, products, s, like, op);
  for (Tensor& weight : weights)
    weight = checked_dense(weight, like, op, "weights", s.size, 2 * s.size);
  return dispatch_single_double(like.scalar_type(), op, [&](auto zero) {
    return RecurrentDots<Device, decltype(zero)>(s, grad_nodes, states, masked, products, weights)
        .run();
  });
}

}  // namespace nasp_ext
