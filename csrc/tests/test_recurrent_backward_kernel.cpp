// SPDX-License-Identifier: MIT
// The gradients of a node of a recurrent cell on the device against plain loops in double, the same
// bits in every order of threads.
#include "recurrent_testing.h"

namespace {

using namespace nasp_ext;
using namespace nasp_ext::testing;

// What arrives at the node, and what leaves it. Of its terms the first overwrites what its source
// has got, the second adds to it, the third wants nothing.
template <class T>
struct Backward {
  const Node<T>& node;
  bool with_output, with_direct;
  Array<T> outside, direct, through, before;
  Numbers share, dz;

  Backward(const Node<T>& n, bool output, bool arrives)
      : node(n),
        with_output(output),
        with_direct(arrives),
        outside(normal_numbers<T>(n.batch * n.size, 6)),
        direct(normal_numbers<T>(n.batch * n.size, 7)),
        through(normal_numbers<T>(n.batch * n.size, 8)),
        before(normal_numbers<T>(n.batch * n.size, 9)) {
    context += " output " + std::to_string(output) + " direct " + std::to_string(arrives);
    share = numbers_of(outside);
    if (with_output)
      for (size_t i = 0; i < share.size(); ++i) share[i] = 0.5 * (share[i] + arriving(i));
    Numbers ds = share;
    for (size_t i = 0; i < ds.size(); ++i) ds[i] += with_direct ? arriving(i) : 0;
    dz = behind_norm(ds);
  }
  double arriving(size_t i) const {
    const auto at = static_cast<int64_t>(i);
    const double factor = node.with_mask ? static_cast<double>(node.mask[at]) : 1;
    return static_cast<double>(direct[at]) + static_cast<double>(through[at]) * factor;
  }
  Numbers behind_norm(Numbers ds) const {
    const Numbers used = node.used(), state = node.state();
    const Numbers of_grad = node.moments(ds), of_product = node.moments(times(ds, state));
    node.for_all([&](int64_t i, int64_t, int64_t c) {
      const auto at = static_cast<size_t>(i), channel = static_cast<size_t>(c);
      if (node.statistics == Statistics::kBatch)
        ds[at] -= of_grad[channel] + state[at] * of_product[channel];
      ds[at] *= node.rstd(used, c);
    });
    return ds;
  }
  Numbers grad_products(size_t k) const {
    Numbers grads(static_cast<size_t>(2 * node.batch * node.size));
    node.for_all([&](int64_t i, int64_t row, int64_t) {
      const double grad = node.coefficient(k) * dz[static_cast<size_t>(i)];
      const double gate = node.gate(k, i), h = node.h(k, i), s = node.sources[k][i];
      const int f = node.functions[k];
      const auto at = static_cast<size_t>(i + row * node.size);
      grads[at] = grad * (value_of(f, h) - s) * gate * (1 - gate);
      grads[at + static_cast<size_t>(node.size)] = grad * gate * slope_of(f, h);
    });
    return grads;
  }
  Numbers of_source(size_t k) const {
    Numbers grads(dz.size());
    node.for_all([&](int64_t i, int64_t, int64_t) {
      const double grad = node.coefficient(k) * dz[static_cast<size_t>(i)];
      grads[static_cast<size_t>(i)] =
          grad * (1 - node.gate(k, i)) + (k % 3 == 1 ? static_cast<double>(before[i]) : 0);
    });
    return grads;
  }

  void check() const {
    const int64_t count = node.batch * node.size;
    const bool of_batch = node.statistics == Statistics::kBatch;
    const Array<T> state = array_of<T>(node.state()), norms = array_of<T>(node.used());
    SameBits<T> same;
    in_every_order([&] {
      const Array<T> shared = with_output ? Array<T>(count) : outside.copy();
      T* const to = with_output ? shared.output("share") : nullptr;
      const T* const direct_input = direct.input("direct");
      const T* const through_input = through.input("through");
      NodeBackward<T> n{};
      n.batch = node.batch;
      n.size = node.size;
      n.share = with_output ? to : shared.input("share");
      n.direct = with_direct ? direct_input : nullptr;
      n.through = with_direct ? through_input : nullptr;
      n.mask = node.with_mask ? node.mask.input("mask") : nullptr;
      n.norm = node.norm(of_batch ? const_cast<T*>(norms.input("norms")) : nullptr);
      n.state = state.input("state");
      const bool wants_z = of_batch || node.with_mask;
      const Array<T> grad_z(wants_z ? count : 0);
      n.grad_z = wants_z ? grad_z.output("grad_z") : nullptr;
      std::vector<Array<T>> products, sources;
      for (size_t k = 0; k < node.count(); ++k) {
        products.emplace_back(2 * count);
        sources.push_back(before.copy());
        const bool adds = k % 3 == 1;
        T* const source = k % 3 == 2 ? nullptr
                          : adds     ? sources[k].in_place("direct of a source")
                                     : sources[k].output("direct of a source");
        n.terms[n.count++] = {node.products[k].input("products"),
                              node.sources[k].input("source"),
                              node.coefficient_input(k),
                              node.functions[k],
                              products[k].output("grad_products"),
                              source,
                              !adds};
      }
      OutputBackward<T> o{
          node.batch, node.size, outside.input("grad"), direct_input, through_input, n.mask,
          T(0.5),     to};
      launch_node_backward(n, with_output ? &o : nullptr, nullptr);
      same.again();
      if (with_output) CHECK(close(shared, share, kClose<T>));
      if (wants_z) CHECK(close(grad_z, dz, 4 * kClose<T>));
      if (wants_z) same.check(grad_z);
      for (size_t k = 0; k < node.count(); ++k) {
        CHECK(close(products[k], grad_products(k), 4 * kClose<T>));
        same.check(products[k]);
        if (k % 3 == 2) continue;
        CHECK(close(sources[k], of_source(k), 4 * kClose<T>));
        same.check(sources[k]);
      }
    });
  }
};

}  // namespace

TEST(the_gradients_of_a_node_of_a_recurrent_cell_are_those_of_its_formulas_on_the_device) {
  for_every_node<float>(
      [](const Node<float>& node) { Backward<float>(node, false, true).check(); });
  for_every_node<double>([](const Node<double>& node) {
    Backward<double>(node, false, true).check();
    Backward<double>(node, false, false).check();
  });
}

TEST(the_gradient_of_the_output_may_precede_in_the_launch_of_the_last_node) {
  for_every_node<float>(
      [](const Node<float>& node) { Backward<float>(node, true, false).check(); });
  for_every_node<double>(
      [](const Node<double>& node) { Backward<double>(node, true, true).check(); });
}

TEST(a_gradient_that_nothing_arrives_at_is_zero) {
  const Node<float> node(3, 5, {kTanh}, Statistics::kNone, false);
  in_every_order([&] {
    const Array<float> grads(30), grad_z(15);
    NodeBackward<float> n{};
    n.batch = 3;
    n.size = 5;
    n.grad_z = grad_z.output("grad_z");
    n.terms[n.count++] = {node.products[0].input("products"),
                          node.sources[0].input("source"),
                          nullptr,
                          kTanh,
                          grads.output("grad_products"),
                          nullptr,
                          true};
    launch_node_backward<float>(n, nullptr, nullptr);
    CHECK(close(grads, Numbers(30, 0.0), 0));
    CHECK(close(grad_z, Numbers(15, 0.0), 0));
  });
}
