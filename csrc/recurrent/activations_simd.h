// SPDX-License-Identifier: MIT
// sigmoid and tanh of vectors, both made of e^x - 1, which keeps its digits near 0.
//
// x = n ln 2 + r with |r| <= ln 2 / 2, and e^x - 1 = 2^n (e^r - 1) + (2^n - 1), where e^r - 1 is
// r + r^2 q(r): for float q has the least relative error (1.3e-8), for double it is Taylor's.
#pragma once

#include "../core/vector.h"
#include "recurrent_math.h"

namespace nasp_ext {
namespace NASP_ISA {

template <class T>
struct Exponential;
template <>
struct Exponential<float> {
  typedef int32_t bits __attribute__((vector_size(NASP_VECTOR_BYTES)));
  static constexpr int kFraction = 23, kBias = 127;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: added, it leaves the nearest integer
  static constexpr float kLn2 = 0.693359375f, kLn2Rest = -2.12194440e-4f;
  static constexpr float kLeast = -87.0f, kMost = 89.0f;  // there e^x is 0 beside 1, and infinite
  static constexpr float kSaturated = 20.0f;              // there tanh is 1
  static constexpr int kTerms = 5;
  static constexpr float kSeries[kTerms] = {0.49999997f, 0.16666543f, 0.0416672f, 0.0083665475f,
                                            0.0013882517f};
};
template <>
struct Exponential<double> {
  typedef int64_t bits __attribute__((vector_size(NASP_VECTOR_BYTES)));
  static constexpr int kFraction = 52, kBias = 1023;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2 = 6.93147180369123816490e-01, kLn2Rest = 1.90821492927058770002e-10;
  static constexpr double kLeast = -708.0, kMost = 710.0;
  static constexpr double kSaturated = 40.0;
  static constexpr int kTerms = 12;
  static constexpr double kSeries[kTerms] = {
      1.0 / 2,     1.0 / 6,      1.0 / 24,      1.0 / 120,      1.0 / 720,       1.0 / 5040,
      1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
};

// x between least and most; a NaN stays one.
template <class T>
NASP_INLINE Vec<T> clamped(Vec<T> x, T least, T most) {
  x = x < splat(least) ? splat(least) : x;
  return x > splat(most) ? splat(most) : x;
}

template <class T>
NASP_INLINE Vec<T> exponential_less_1(Vec<T> x) {
  using E = Exponential<T>;
  x = clamped(x, E::kLeast, E::kMost);
  const Vec<T> shifted = fma(x, splat(T(1.4426950408889634)), splat(E::kRound));
  const Vec<T> n = shifted - splat(E::kRound);
  const Vec<T> r = fma(n, splat(-E::kLn2Rest), fma(n, splat(-E::kLn2), x));
  Vec<T> q = splat(E::kSeries[E::kTerms - 1]);
  for (int i = E::kTerms - 2; i >= 0; --i) q = fma(q, r, splat(E::kSeries[i]));
  const Vec<T> p = fma(r * r, q, r);
  // 2^(n - 1), for 2^n may be infinite; n stands in the last bits of `shifted`.
  const auto power = ((typename E::bits)shifted + (E::kBias - 1)) << E::kFraction;
  const Vec<T> half = (Vec<T>)power;
  const Vec<T> sum = fma(half, p, half - splat(T(0.5)));
  return sum + sum;
}

// 1 / x for x >= 1. A division of 512 bits takes longer than an exponential, an estimate of 14 bits
// and a step of Newton's do not.
template <class T>
NASP_INLINE Vec<T> reciprocal(Vec<T> x) {
#if NASP_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == sizeof(float)) {
    const Vec<T> estimate = (Vec<T>)_mm512_maskz_rcp14_ps(static_cast<__mmask16>(-1), (__m512)x);
    const Vec<T> refined = fma(estimate, fma(-x, estimate, splat(T(1))), estimate);
    return estimate == 0 ? estimate : refined;  // of an infinite x
  }
#endif
  return splat(T(1)) / x;
}

template <class T>
NASP_INLINE Vec<T> sigmoid_of(Vec<T> x) {
  return reciprocal<T>(splat(T(2)) + exponential_less_1<T>(-x));
}

template <class T>
NASP_INLINE Vec<T> tanh_of(Vec<T> x) {
  constexpr T kSaturated = Exponential<T>::kSaturated;
  const Vec<T> e = exponential_less_1<T>(clamped(x + x, -kSaturated, kSaturated));
  return e * reciprocal<T>(e + splat(T(2)));
}

template <class T, int kF>
NASP_INLINE Vec<T> nonlinear_of(Vec<T> h) {
  if constexpr (kF == kTanh) return tanh_of<T>(h);
  if constexpr (kF == kRelu) return relu(h);
  if constexpr (kF == kSigmoid) return sigmoid_of<T>(h);
  return h;
}

// grad * f'(h) where y = f(h).
template <class T, int kF>
NASP_INLINE Vec<T> nonlinear_gradient(Vec<T> h, Vec<T> y, Vec<T> grad) {
  if constexpr (kF == kTanh) return grad * (splat(T(1)) - y * y);
  if constexpr (kF == kRelu) return relu_gradient(h, grad);
  if constexpr (kF == kSigmoid) return grad * (y * (splat(T(1)) - y));
  return grad;
}

// tanh and sigmoid of the same h from one exponential, u = e^h - 1. Beyond 29 both are rounded to
// what they are there, and their common denominator stays finite.
template <class T>
struct TanhSigmoid {
  Vec<T> tanh, sigmoid;
};
template <class T>
NASP_INLINE TanhSigmoid<T> tanh_and_sigmoid(Vec<T> h) {
  const Vec<T> u = exponential_less_1<T>(clamped(h, T(-29), T(29)));
  const Vec<T> two = splat(T(2)), odd = fma(u, u, u + u), even = u + two;
  const Vec<T> share = reciprocal<T>((odd + two) * even);
  return {odd * even * share, (u + splat(T(1))) * (odd + two) * share};
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
