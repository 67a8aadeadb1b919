// SPDX-License-Identifier: MIT
// The arithmetic of a recurrent cell against difference quotients and numbers by hand.
#include <cmath>
#include <limits>

#include "../recurrent/recurrent_math.h"
#include "testing.h"

namespace {

using namespace nasp_ext;

bool near(double a, double b, double tolerance) {
  return std::fabs(a - b) <= tolerance * (1 + std::fabs(b));
}

// body(state, c, h, f) for every function.
template <class Body>
void for_terms(const Body& body) {
  for (const double state : {-1.5, 0.25})
    for (const double c : {-2.0, 0.5})
      for (const double h : {-1.25, 0.75})
        for (int f = 0; f < kNonlinearities; ++f) body(state, c, h, f);
}

}  // namespace

TEST(a_term_lies_between_its_state_and_its_function) {
  // sigmoid(ln 3) = 3/4, tanh(ln 2) = 3/5, sigmoid(ln 2) = 2/3.
  const double c = std::log(3.0), h = std::log(2.0);
  const double values[] = {3.0 / 5, h, 2.0 / 3, h};
  for (int f = 0; f < kNonlinearities; ++f)
    CHECK(near(term_forward(8.0, c, h, f), 2 + 0.75 * values[f], 1e-15));
  CHECK(term_forward(8.0, c, -h, kRelu) == 8 - sigmoid(c) * 8);
}

TEST(gradients_of_a_term_are_its_difference_quotients) {
  for_terms([](double state, double c, double h, int f) {
    constexpr double kStep = 1e-6, kGrad = 1.75;
    const auto quotient = [&](double ds, double dc, double dh) {
      const double after = term_forward(state + ds, c + dc, h + dh, f);
      const double before = term_forward(state - ds, c - dc, h - dh, f);
      return kGrad * (after - before) / (2 * kStep);
    };
    const auto grad = term_backward(kGrad, state, c, h, f);
    CHECK(near(grad.state, quotient(kStep, 0, 0), 1e-8));
    CHECK(near(grad.c, quotient(0, kStep, 0), 1e-8));
    CHECK(near(grad.h, quotient(0, 0, kStep), 1e-8));
  });
}

TEST(every_term_has_the_bits_of_the_single_ones) {
  for_terms([](double state, double c, double h, int f) {
    double terms[kNonlinearities];
    every_term(state, c, h, terms);
    CHECK(terms[f] == term_forward(state, c, h, f));
  });
}

TEST(a_nan_in_a_term_is_not_hidden) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int f = 0; f < kNonlinearities; ++f) {
    CHECK(is_nan(term_forward(1.0f, 0.0f, nan, f)) && is_nan(term_forward(1.0f, nan, 0.0f, f)));
    CHECK(is_nan(term_backward(1.0f, 1.0f, 0.0f, nan, f).c));
    CHECK(is_nan(term_backward(nan, 1.0f, 0.0f, 1.0f, f).h));
  }
  CHECK(nonlinear_slope(kRelu, nan, nan) == 1 && nonlinear_slope(kRelu, 0.0f, 0.0f) == 0);
}

TEST(large_products_saturate) {
  for (const float far : {90.0f, 1e4f, 3e38f}) {
    CHECK(sigmoid(far) == 1 && sigmoid(-far) < 1e-38f && sigmoid(-far) >= 0);
    CHECK(nonlinear(kTanh, far) == 1 && nonlinear(kTanh, -far) == -1);
    const auto grad = term_backward(1.0f, 2.0f, far, -far, kTanh);
    CHECK(grad.state == 0 && grad.c == 0 && grad.h == 0);
  }
}

TEST(a_bare_norm_and_its_gradient_keep_the_batch_centred) {
  const double z[] = {1, 2, 4, 9}, grad[] = {0.5, -1, 2, 3};  // mean 4, biased variance 9.5
  const BareNorm<double> norm(4.0, 9.5, 0.5);
  CHECK(near(norm.forward(9.0), 5 / std::sqrt(10.0), 1e-15));
  double mean_grad = 0, mean_product = 0, sum = 0, dot = 0;
  for (int i = 0; i < 4; ++i) {
    mean_grad += grad[i] / 4;
    mean_product += grad[i] * norm.forward(z[i]) / 4;
  }
  // Those of L = sum grad * norm(z): shifts of z change nothing, so they add up to 0.
  for (int i = 0; i < 4; ++i) {
    const double dz = norm.backward(grad[i], norm.forward(z[i]), mean_grad, mean_product);
    sum += dz;
    dot += dz * (z[i] - 4);
  }
  CHECK(near(sum, 0, 1e-14));
  // Stretching z by (1 + t) changes L at t = 0 by dL = sum dz (z - mean) = 4 mean_product eps /
  // (var + eps).
  CHECK(near(dot, 4 * mean_product * 0.5 / 10, 1e-14));
}
