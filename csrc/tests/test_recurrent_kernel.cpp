// SPDX-License-Identifier: MIT
// The passes of a recurrent cell on the device against plain loops in double, the same bits in
// every order of threads.
#include "recurrent_testing.h"

namespace {

using namespace nasp_ext;
using namespace nasp_ext::testing;

// with_output: the mean of another state, this one and the other once more follows.
template <class T>
void check_forward(const Node<T>& node, bool with_output) {
  const int64_t count = node.batch * node.size;
  const Numbers state = node.state(), moments = node.used(), mask = numbers_of(node.mask);
  const Array<T> other = normal_numbers<T>(count, 5);
  Numbers mean = state;
  for (int64_t i = 0; i < count; ++i) {
    double& m = mean[static_cast<size_t>(i)];
    m = (m + 2 * static_cast<double>(other[i])) / 3;
  }
  SameBits<T> same;
  in_every_order([&] {
    const bool of_batch = node.statistics == Statistics::kBatch;
    const Array<T> norms(of_batch ? 2 * node.size : 0), found(count);
    const Array<T> masked(node.with_mask ? count : 0), out(count), entered(count);
    T* const to = found.output("state");
    const auto pass = node.forward(of_batch ? norms.output("norms") : nullptr, to,
                                   node.with_mask ? masked.output("masked") : nullptr);
    OutputForward<T> o{};
    o.batch = node.batch;
    o.size = node.size;
    o.states[0] = o.states[2] = other.input("other state");
    o.states[1] = to;
    o.count = 3;
    o.out = out.output("out");
    o.mask = pass.mask;
    o.entered = node.with_mask ? entered.output("entered") : nullptr;
    launch_node_forward(pass, with_output ? &o : nullptr, nullptr);
    same.again();
    CHECK(close(found, state, kClose<T>));
    same.check(found);
    if (of_batch) CHECK(close(norms, moments, kClose<T>));
    if (of_batch) same.check(norms);
    if (node.with_mask) CHECK(close(masked, times(state, mask), kClose<T>));
    if (!with_output) return;
    CHECK(close(out, mean, kClose<T>));
    if (node.with_mask) CHECK(close(entered, times(mean, mask), kClose<T>));
    same.check(out);
  });
}

template <class T>
void check_dots(int64_t rows, int64_t size) {
  describe_case(type_name<T>(), "dots of", rows, size);
  const int64_t count = rows * size;
  const Array<T> grad = normal_numbers<T>(count, 1), source = normal_numbers<T>(count, 2);
  const Array<T> products = normal_numbers<T>(2 * count, 3);
  Numbers expected = {1, -2, 3, 4}, most = {1, 1, 1, 1};
  for (int64_t i = 0; i < count; ++i)
    for (int f = 0; f < kNonlinearities; ++f) {
      const int64_t c = i + i / size * size;
      const double s = source[i], h = products[c + size];
      const double term = s + logistic(products[c]) * (value_of(f, h) - s);
      expected[static_cast<size_t>(f)] += static_cast<double>(grad[i]) * term;
      most[static_cast<size_t>(f)] += std::fabs(static_cast<double>(grad[i]) * term);
    }
  SameBits<double> same;
  in_every_order([&] {
    const Array<double> parts(kDotParts * kNonlinearities), sums = array_of<double>({1, -2, 3, 4});
    RowDots<T> d{rows,
                 size,
                 grad.input("grad"),
                 source.input("source"),
                 products.input("products"),
                 sums.in_place("sums")};
    launch_row_dots(d, parts.output("parts"), nullptr);
    same.again();
    same.check(sums);
    for (size_t f = 0; f < most.size(); ++f)
      CHECK(std::fabs(sums[static_cast<int64_t>(f)] - expected[f]) <= kClose<T> * most[f]);
  });
}

}  // namespace

TEST(a_node_of_a_recurrent_cell_is_the_norm_of_the_sum_of_its_terms_on_the_device) {
  for_every_node<float>([](const Node<float>& node) { check_forward(node, false); });
  for_every_node<double>([](const Node<double>& node) { check_forward(node, false); });
}

TEST(the_output_of_a_time_step_may_follow_in_the_launch_of_its_last_node) {
  for_every_node<float>([](const Node<float>& node) { check_forward(node, true); });
  for_every_node<double>([](const Node<double>& node) { check_forward(node, true); });
}

TEST(a_node_without_terms_is_zero_whatever_the_statistics) {
  check_forward(Node<float>(6, 10, {}, Statistics::kBatch, true), true);
  check_forward(Node<double>(6, 10, {}, Statistics::kGiven, false), false);
}

TEST(the_hidden_state_enters_masked_and_its_gradient_leaves_alone) {
  describe_case("outputs of their own");
  const int64_t count = 37 * 11;
  const Array<double> hidden = normal_numbers<double>(count, 1);
  const Array<double> mask = normal_numbers<double>(count, 2);
  const Numbers product = times(numbers_of(hidden), numbers_of(mask));
  Numbers sum = product;
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += hidden[static_cast<int64_t>(i)];
  in_every_order([&] {
    const Array<double> entered(count), out(count), grad(count);
    OutputForward<double> o{};
    o.batch = 37;
    o.size = 11;
    o.states[o.count++] = hidden.input("hidden");
    o.mask = mask.input("mask");
    o.entered = entered.output("entered");
    launch_output_forward(o, nullptr);
    CHECK(close(entered, product, kClose<double>));
    o.states[o.count++] = o.mask;
    o.entered = nullptr;
    o.out = out.output("out");
    launch_output_forward(o, nullptr);
    for (int64_t i = 0; i < count; ++i) CHECK(out[i] == (hidden[i] + mask[i]) / 2);
    launch_output_backward<double>(
        {37, 11, nullptr, o.states[0], o.states[0], o.mask, 1, grad.output("share")}, nullptr);
    CHECK(close(grad, sum, kClose<double>));
  });
}

TEST(a_nan_goes_on_through_every_function_on_the_device) {
  const Node<float> node(3, 4, {kTanh, kRelu, kSigmoid, kIdentity}, Statistics::kNone, false);
  for (size_t k = 0; k < 4; ++k) node.products[k][static_cast<int64_t>(k) + 4] = NAN;  // h
  in_every_order([&] {
    const Array<float> state(12);
    launch_node_forward<float>(node.forward(nullptr, state.output("state"), nullptr), nullptr,
                               nullptr);
    for (int64_t i = 0; i < 12; ++i) CHECK(is_nan(state[i]) == (i < 4));
  });
}

// One number, less than a tile, tiles of rows that end within, more tiles than thread blocks.
TEST(dots_of_a_pair_are_added_in_one_order_on_the_device) {
  check_dots<float>(1, 1);
  check_dots<float>(3, 5);
  check_dots<double>(700, 13);
  check_dots<float>(2, 5000);
  check_dots<float>(256 * 2048 / 300 + 20, 300);
}
