// SPDX-License-Identifier: MIT
// One number on its way through a recurrent cell and back, for host and device. A term is
// s + sigmoid(c) (f(h) - s), where s is a state and [c; h] its product with the weight of a node;
// the entry of a time step is the term of h_{t-1} with f = tanh.
#pragma once

#include <math.h>

#include "../core/host_device.h"

namespace nasp_ext {

// The functions f by their numbers in a program.
enum Nonlinearity : int { kTanh = 0, kRelu, kSigmoid, kIdentity, kNonlinearities };

NASP_HOST_DEVICE float exponential(float x) { return expf(x); }
NASP_HOST_DEVICE double exponential(double x) { return exp(x); }
NASP_HOST_DEVICE float hyperbolic_tangent(float x) { return tanhf(x); }
NASP_HOST_DEVICE double hyperbolic_tangent(double x) { return tanh(x); }

template <class T>
NASP_HOST_DEVICE T sigmoid(T x) {
  return T(1) / (T(1) + exponential(-x));
}

// f(h); a NaN stays one.
template <class T>
NASP_HOST_DEVICE T nonlinear(int f, T h) {
  if (f == kTanh) return hyperbolic_tangent(h);
  if (f == kRelu) return h < T(0) ? T(0) : h;
  if (f == kSigmoid) return sigmoid(h);
  return h;
}

// f'(h) where y = f(h); that of relu is 0 at 0 and 1 at a NaN, as PyTorch has it.
template <class T>
NASP_HOST_DEVICE T nonlinear_slope(int f, T h, T y) {
  if (f == kTanh) return T(1) - y * y;
  if (f == kRelu) return h <= T(0) ? T(0) : T(1);
  if (f == kSigmoid) return y * (T(1) - y);
  return T(1);
}

// The term whose gate = sigmoid(c) and y = f(h).
template <class T>
NASP_HOST_DEVICE T gated(T state, T gate, T y) {
  return state + gate * (y - state);
}

template <class T>
NASP_HOST_DEVICE T term_forward(T state, T c, T h, int f) {
  return gated(state, sigmoid(c), nonlinear(f, h));
}

template <class T>
struct TermGradient {
  T state, c, h;  // `state`: past the product, whose own gradient is added to it
};

// grad: of the term, its factor included.
template <class T>
NASP_HOST_DEVICE TermGradient<T> term_backward(T grad, T state, T c, T h, int f) {
  const T gate = sigmoid(c), y = nonlinear(f, h);
  return {grad * (T(1) - gate), grad * (y - state) * gate * (T(1) - gate),
          grad * gate * nonlinear_slope(f, h, y)};
}

// The terms of one state and product under every function, in their order.
template <class T>
NASP_HOST_DEVICE void every_term(T state, T c, T h, T (&terms)[kNonlinearities]) {
  const T gate = sigmoid(c);
  terms[kTanh] = gated(state, gate, nonlinear(kTanh, h));
  terms[kRelu] = gated(state, gate, nonlinear(kRelu, h));
  terms[kSigmoid] = gated(state, gate, nonlinear(kSigmoid, h));
  terms[kIdentity] = gated(state, gate, h);
}

// A BN without weight and bias, of one channel.
template <class T>
struct BareNorm {
  T mean = T(0), rstd = T(1);

  BareNorm() = default;
  NASP_HOST_DEVICE BareNorm(T mean_, T var, double eps)
      : mean(mean_), rstd(T(1) / sqrt(var + static_cast<T>(eps))) {}
  NASP_HOST_DEVICE T forward(T z) const { return (z - mean) * rstd; }
  // With statistics of the batch: normalised = forward(z), and the means over the batch of the
  // gradient and of the gradient times that.
  NASP_HOST_DEVICE T backward(T grad, T normalised, T mean_grad, T mean_product) const {
    return rstd * (grad - mean_grad - normalised * mean_product);
  }
};

}  // namespace nasp_ext
