// SPDX-License-Identifier: MIT
// A node of a recurrent cell with random inputs, and what it gives by plain loops in double.
#pragma once
#include "../recurrent/recurrent_kernel.h"
#include "block_testing.h"

namespace nasp_ext::testing {

using Numbers = std::vector<double>;

inline double logistic(double x) { return 1 / (1 + std::exp(-x)); }
inline double value_of(int f, double h) {
  const double values[] = {std::tanh(h), h > 0 ? h : 0, logistic(h), h};
  return values[f];
}
inline double slope_of(int f, double h) {
  const double slopes[] = {1 / (std::cosh(h) * std::cosh(h)), h > 0 ? 1.0 : 0.0,
                           logistic(h) * logistic(-h), 1};
  return slopes[f];
}

enum class Statistics { kNone, kGiven, kBatch };
constexpr Statistics kEveryStatistics[] = {Statistics::kNone, Statistics::kGiven,
                                           Statistics::kBatch};
constexpr double kEps = 1e-3;

// A node with a term for each of `functions`; odd terms have a coefficient.
template <class T>
struct Node {
  int64_t batch, size;
  std::vector<int> functions;
  Statistics statistics;
  bool with_mask;
  std::vector<Array<T>> products, sources;
  Array<T> coefficients, mask, mean, var;

  Node(int64_t batch_, int64_t size_, std::vector<int> functions_, Statistics statistics_,
       bool with_mask_)
      : batch(batch_),
        size(size_),
        functions(std::move(functions_)),
        statistics(statistics_),
        with_mask(with_mask_),
        coefficients(normal_numbers<T>(static_cast<int64_t>(functions.size()) + 1, 1)),
        mask(normal_numbers<T>(batch * size, 2)),
        mean(normal_numbers<T>(size, 3)),
        var(normal_numbers<T>(size, 4)) {
    describe_case(type_name<T>(), "node of", batch, size, functions.size(), "statistics",
                  static_cast<int>(statistics), "mask", with_mask);
    for (unsigned k = 0; k < functions.size(); ++k) {
      products.push_back(normal_numbers<T>(2 * batch * size, 10 + k));
      sources.push_back(normal_numbers<T>(batch * size, 50 + k));
    }
    for (int64_t c = 0; c < size; ++c) var[c] = std::fabs(var[c]);
  }

  size_t count() const { return functions.size(); }
  double gate(size_t k, int64_t i) const { return logistic(products[k][i + i / size * size]); }
  double h(size_t k, int64_t i) const { return products[k][i + i / size * size + size]; }
  double coefficient(size_t k) const {
    return k % 2 ? static_cast<double>(coefficients[static_cast<int64_t>(k)]) : 1;
  }
  const T* coefficient_input(size_t k) const {
    return k % 2 ? coefficients.input("coefficient") + k : nullptr;
  }
  NormPass<T> norm(T* of_batch) const {
    const bool given = statistics == Statistics::kGiven;
    return {statistics != Statistics::kNone, given ? mean.input("mean") : nullptr,
            given ? var.input("var") : nullptr, of_batch, kEps};
  }
  NodeForward<T> forward(T* of_batch, T* state, T* masked) const {
    NodeForward<T> n{};
    n.batch = batch;
    n.size = size;
    for (size_t k = 0; k < count(); ++k)
      n.terms[k] = {products[k].input("products"), sources[k].input("source"), coefficient_input(k),
                    functions[k]};
    n.count = static_cast<int>(count());
    n.norm = norm(of_batch);
    n.mask = with_mask ? mask.input("mask") : nullptr;
    n.state = state;
    n.masked = masked;
    return n;
  }

  // body(index, row, channel)
  template <class Body>
  void for_all(const Body& body) const {
    for (int64_t i = 0; i < batch * size; ++i) body(i, i / size, i % size);
  }
  Numbers z() const {
    Numbers z(static_cast<size_t>(batch * size), 0.0);
    for (size_t k = 0; k < count(); ++k)
      for_all([&](int64_t i, int64_t, int64_t) {
        const double s = sources[k][i];
        z[static_cast<size_t>(i)] +=
            coefficient(k) * (s + gate(k, i) * (value_of(functions[k], h(k, i)) - s));
      });
    return z;
  }
  // (2, H): means, then biased variances.
  Numbers moments(const Numbers& of) const {
    Numbers m(static_cast<size_t>(2 * size), 0.0);
    const auto at = [&](int64_t i) { return of[static_cast<size_t>(i)]; };
    for_all([&](int64_t i, int64_t, int64_t c) {
      m[static_cast<size_t>(c)] += at(i) / static_cast<double>(batch);
    });
    for_all([&](int64_t i, int64_t, int64_t c) {
      const double apart = at(i) - m[static_cast<size_t>(c)];
      m[static_cast<size_t>(size + c)] += apart * apart / static_cast<double>(batch);
    });
    return m;
  }
  // (2, H) of the BN, whatever they are; 0 and 1 - eps without one.
  Numbers used() const {
    if (statistics == Statistics::kBatch) return moments(z());
    Numbers m(static_cast<size_t>(2 * size), 0.0);
    for (int64_t c = 0; c < size; ++c) {
      const bool given = statistics == Statistics::kGiven;
      m[static_cast<size_t>(c)] = given ? static_cast<double>(mean[c]) : 0;
      m[static_cast<size_t>(size + c)] = given ? static_cast<double>(var[c]) : 1 - kEps;
    }
    return m;
  }
  double rstd(const Numbers& used, int64_t c) const {
    return 1 / std::sqrt(used[static_cast<size_t>(size + c)] + kEps);
  }
  Numbers state() const {
    Numbers state = z();
    const Numbers m = used();
    for_all([&](int64_t i, int64_t, int64_t c) {
      double& s = state[static_cast<size_t>(i)];
      s = (s - m[static_cast<size_t>(c)]) * rstd(m, c);
    });
    return state;
  }
};

template <class T>
Numbers numbers_of(const Array<T>& array) {
  return Numbers(array.data(), array.data() + array.size());
}
template <class T>
Array<T> array_of(const Numbers& numbers) {
  Array<T> array(static_cast<int64_t>(numbers.size()));
  for (int64_t i = 0; i < array.size(); ++i)
    array[i] = static_cast<T>(numbers[static_cast<size_t>(i)]);
  return array;
}
inline Numbers times(Numbers a, const Numbers& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] *= b[i];
  return a;
}

// The arrays of the first order of threads; those of all others have the same bits.
template <class T>
class SameBits {
 public:
  void check(const Array<T>& array) {
    if (next_ == first_.size()) first_.push_back(array.copy());
    CHECK(same_bits(array, first_[next_]));
    ++next_;
  }
  void again() { next_ = 0; }

 private:
  std::vector<Array<T>> first_;
  size_t next_ = 0;
};

// One row, fewer rows and channels than threads, more of both.
template <class T, class Body>
void for_every_node(const Body& body) {
  const std::vector<int> functions = {kSigmoid, kTanh, kRelu, kIdentity, kTanh};
  for (const Statistics statistics : kEveryStatistics)
    for (const bool mask : {false, true}) {
      if (statistics != Statistics::kBatch) body(Node<T>(1, 3, functions, statistics, mask));
      body(Node<T>(2, 1, {kTanh}, statistics, mask));
      body(Node<T>(5, 9, functions, statistics, mask));
      body(Node<T>(70, 17, {kRelu, kIdentity}, statistics, mask));
    }
  body(Node<T>(300, 3, {kTanh, kSigmoid, kRelu}, Statistics::kBatch, true));
  body(Node<T>(300, 3, {kTanh, kSigmoid}, Statistics::kGiven, false));
  body(Node<T>(4, 10, {}, Statistics::kNone, true));
}

}  // namespace nasp_ext::testing
