// SPDX-License-Identifier: MIT
// The loops of a recurrent cell. A row of a node is worked on while it is in L1; the sums of a BN
// over the rows are kept beside it.
#pragma once

#include "recurrent_dots_simd.h"

namespace nasp_ext {
namespace NASP_ISA {

constexpr int64_t kRunRows = 32;  // summed up in T before they are added in double

// call(Count<f>) of the function f.
template <class Call>
NASP_INLINE void with_nonlinearity(int f, const Call& call) {
  if (f == kTanh)
    call(Count<kTanh>{});
  else if (f == kRelu)
    call(Count<kRelu>{});
  else if (f == kSigmoid)
    call(Count<kSigmoid>{});
  else
    call(Count<kIdentity>{});
}

template <class T, int kF>
void term_forward_row(const T* c, const T* h, const T* s, T factor, bool first, int64_t columns,
                      T* z) {
  for_columns<T>(columns, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    const Vec<T> state = load_upto(s + i, n);
    const Vec<T> gate = sigmoid_of<T>(load_upto(c + i, n));
    const Vec<T> y = nonlinear_of<T, kF>(load_upto(h + i, n));
    Vec<T> sum = splat(factor) * fma(gate, y - state, state);
    if (!first) sum = sum + load_upto(z + i, n);
    store_upto(z + i, sum, n);
  });
}

// Adds rows to two sums for each column, runs of them in T.
template <class T>
struct RunSums {
  const ColumnPairs<T>& at;
  int64_t rows = 0;

  NASP_INLINE void start() const {
    for (int64_t i = 0; i < 2 * at.pad; ++i) at.sums[i] = 0, at.values[i] = 0;
  }
  NASP_INLINE void add(int64_t i, Vec<T> one, Vec<T> other) const {
    store(at.values + i, load(at.values + i) + one);
    store(at.values + at.pad + i, load(at.values + at.pad + i) + other);
  }
  NASP_INLINE void end_row(bool last) {
    if (++rows % kRunRows && !last) return;
    for (int64_t i = 0; i < 2 * at.pad; i += kLanes<T>) {
      add_to<T>(at.sums + i, load(at.values + i));
      store(at.values + i, Vec<T>{});
    }
  }
};

// values = mean and 1 / std of each column.
template <class T>
NASP_INLINE void mean_and_rstd(const T* mean, const T* var, double eps, int64_t columns,
                               const ColumnPairs<T>& at) {
  for (int64_t i = 0; i < columns; ++i) {
    at.values[i] = mean[i];
    at.values[at.pad + i] = static_cast<T>(1.0 / __builtin_sqrt(static_cast<double>(var[i]) + eps));
  }
}

// z -> BN(z), and times the mask.
template <class T>
NASP_INLINE void finish_row(const NodeForward<T>& node, int64_t offset, int64_t columns,
                            const ColumnPairs<T>& at) {
  if (!node.norm.exists && !node.mask) return;
  T* const state = node.state + offset;
  for_columns<T>(columns, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    Vec<T> s = load_upto(state + i, n);
    if (node.norm.exists) {
      s = (s - load(at.values + i)) * load(at.values + at.pad + i);
      store_upto(state + i, s, n);
    }
    if (node.mask)
      store_upto(node.masked + offset + i, s * load_upto(node.mask + offset + i, n), n);
  });
}

template <class T>
void recurrent_node_forward(const NodeForward<T>& node, const Part& part,
                            const ColumnPairs<T>& at) {
  const int64_t columns = part.columns(), size = node.size;
  const T* const shift = node.state + part.first_row * size + part.first_column;
  RunSums<T> sums{at};
  if (node.norm.of_batch())
    sums.start();
  else if (node.norm.exists)
    mean_and_rstd(node.norm.mean + part.first_column, node.norm.var + part.first_column,
                  node.norm.eps, columns, at);
  for (int64_t row = part.first_row; row < part.end_row; ++row) {
    const int64_t offset = row * size + part.first_column;
    T* const z = node.state + offset;
    if (node.count == 0)
      for (int64_t i = 0; i < columns; ++i) z[i] = 0;
    for (int k = 0; k < node.count; ++k) {
      const TermForward<T>& term = node.terms[k];
      const T* const c = term.products + 2 * row * size + part.first_column;
      with_nonlinearity(term.f, [&](auto f) __attribute__((always_inline)) {
        term_forward_row<T, f.value>(c, c + size, term.source + offset,
                                     term.coefficient ? *term.coefficient : T(1), k == 0, columns,
                                     z);
      });
    }
    if (!node.norm.of_batch()) {
      finish_row(node, offset, columns, at);
      continue;
    }
    for_columns<T>(columns, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      const Vec<T> apart = load_upto(z + i, n) - load_upto(shift + i, n);
      sums.add(i, apart, apart * apart);
    });
    sums.end_row(row + 1 == part.end_row);
  }
  if (!node.norm.of_batch()) return;
  T* const mean = node.norm.batch + part.first_column;
  T* const var = mean + size;
  const double rows = static_cast<double>(part.end_row - part.first_row);
  for (int64_t i = 0; i < columns; ++i) {
    const double apart = at.sums[i] / rows;
    const double square = at.sums[at.pad + i] / rows - apart * apart;
    mean[i] = static_cast<T>(static_cast<double>(shift[i]) + apart);
    var[i] = static_cast<T>(square < 0 ? 0 : square);
  }
  mean_and_rstd(mean, var, node.norm.eps, columns, at);
  for (int64_t row = part.first_row; row < part.end_row; ++row)
    finish_row(node, row * size + part.first_column, columns, at);
}

template <class T>
void recurrent_output_forward(const OutputForward<T>& output, const Part& part) {
  const Vec<T> count = splat(static_cast<T>(output.count));
  for (int64_t row = part.first_row; row < part.end_row; ++row) {
    const int64_t offset = row * output.size + part.first_column;
    for_columns<T>(part.columns(), [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      Vec<T> sum = load_upto(output.states[0] + offset + i, n);
      for (int k = 1; k < output.count; ++k)
        sum = sum + load_upto(output.states[k] + offset + i, n);
      const Vec<T> mean = sum / count;
      if (output.out) store_upto(output.out + offset + i, mean, n);
      if (output.entered)
        store_upto(output.entered + offset + i, mean * load_upto(output.mask + offset + i, n), n);
    });
  }
}

// share + direct + through * mask, of what there is.
template <class T>
NASP_INLINE Vec<T> gradient_at(const T* share, const T* direct, const T* through, const T* mask,
                               int64_t at, int64_t n) {
  Vec<T> sum = share ? load_upto(share + at, n) : Vec<T>{};
  if (direct) sum = sum + load_upto(direct + at, n);
  if (through) {
    const Vec<T> g = load_upto(through + at, n);
    sum = sum + (mask ? g * load_upto(mask + at, n) : g);
  }
  return sum;
}

template <class T>
void recurrent_output_backward(const OutputBackward<T>& output, const Part& part) {
  const Vec<T> scale = splat(output.scale);
  for (int64_t row = part.first_row; row < part.end_row; ++row) {
    const int64_t offset = row * output.size + part.first_column;
    for_columns<T>(part.columns(), [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      const Vec<T> sum =
          gradient_at(output.grad, output.direct, output.through, output.mask, offset + i, n);
      store_upto(output.share + offset + i, scale * sum, n);
    });
  }
}

template <class T, int kF>
void term_backward_row(const TermBackward<T>& term, const T* dz, int64_t row, int64_t size,
                       int64_t first, int64_t columns) {
  const int64_t offset = row * size + first;
  const T* const c = term.products + 2 * row * size + first;
  const T* const s = term.source + offset;
  T* const grad_c = term.grad_products + 2 * row * size + first;
  T* const direct = term.direct ? term.direct + offset : nullptr;
  const Vec<T> factor = splat(term.coefficient ? *term.coefficient : T(1));
  const Vec<T> one = splat(T(1));
  for_columns<T>(columns, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    const Vec<T> grad = factor * load_upto(dz + i, n);
    const Vec<T> state = load_upto(s + i, n), h = load_upto(c + size + i, n);
    const Vec<T> gate = sigmoid_of<T>(load_upto(c + i, n));
    const Vec<T> y = nonlinear_of<T, kF>(h);
    const Vec<T> taken = grad * gate, past = grad * (one - gate);
    store_upto(grad_c + i, taken * (one - gate) * (y - state), n);
    store_upto(grad_c + size + i, nonlinear_gradient<T, kF>(h, y, taken), n);
    if (direct) store_upto(direct + i, term.first ? past : past + load_upto(direct + i, n), n);
  });
}

template <class T>
NASP_INLINE void terms_backward(const NodeBackward<T>& node, int64_t row, const Part& part) {
  const T* const dz = node.grad_z + row * node.size + part.first_column;
  for (int k = 0; k < node.count; ++k)
    with_nonlinearity(node.terms[k].f, [&](auto f) __attribute__((always_inline)) {
      term_backward_row<T, f.value>(node.terms[k], dz, row, node.size, part.first_column,
                                    part.columns());
    });
}

template <class T>
void recurrent_node_backward(const NodeBackward<T>& node, const Part& part,
                             const ColumnPairs<T>& at) {
  const int64_t columns = part.columns(), size = node.size;
  const bool of_batch = node.norm.of_batch();
  RunSums<T> sums{at};
  if (of_batch)
    sums.start();
  else if (node.norm.exists)
    mean_and_rstd(node.norm.mean + part.first_column, node.norm.var + part.first_column,
                  node.norm.eps, columns, at);
  for (int64_t row = part.first_row; row < part.end_row; ++row) {
    const int64_t offset = row * size + part.first_column;
    for_columns<T>(columns, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      Vec<T> grad = gradient_at(node.share, node.direct, node.through, node.mask, offset + i, n);
      if (of_batch)
        sums.add(i, grad, grad * load_upto(node.state + offset + i, n));
      else if (node.norm.exists)
        grad = grad * load(at.values + at.pad + i);
      store_upto(node.grad_z + offset + i, grad, n);
    });
    if (of_batch)
      sums.end_row(row + 1 == part.end_row);
    else
      terms_backward(node, row, part);
  }
  if (!of_batch) return;
  // dz = rstd (ds - mean(ds) - x mean(ds x)) with x the state. The sums become the means, in T.
  const double rows = static_cast<double>(part.end_row - part.first_row);
  T* const means = reinterpret_cast<T*>(at.sums);
  for (int64_t i = 0; i < 2 * at.pad; ++i) at.sums[i] /= rows;
  for (int64_t i = 0; i < 2 * at.pad; ++i) {
    const T mean = static_cast<T>(at.sums[i]);
    __builtin_memcpy(means + i, &mean, sizeof mean);
  }
  const T* const var = node.norm.batch + size + part.first_column;
  mean_and_rstd(var, var, node.norm.eps, columns, at);
  for (int64_t row = part.first_row; row < part.end_row; ++row) {
    const int64_t offset = row * size + part.first_column;
    for_columns<T>(columns, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      const Vec<T> x = load_upto(node.state + offset + i, n);
      const Vec<T> grad = load_upto(node.grad_z + offset + i, n) - load(means + i);
      const Vec<T> dz = load(at.values + at.pad + i) * (grad - x * load(means + at.pad + i));
      store_upto(node.grad_z + offset + i, dz, n);
    });
    terms_backward(node, row, part);
  }
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
