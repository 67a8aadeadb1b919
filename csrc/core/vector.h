// SPDX-License-Identifier: MIT
// The vectors of one instruction set. Included by csrc/isa/*_cpu.cpp, each of which compiles the
// same loops (the *_simd.h headers) once, after it has set
//   NASP_ISA           the namespace of this copy
//   NASP_VECTOR_BYTES  64, 32 or 16
// and the compiler's target. Inside, only builtins and what is declared here: an inline function of
// a standard header compiled for AVX-512 could replace the copy that other files share.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define NASP_INLINE inline __attribute__((always_inline))

namespace nasp_ext {
namespace NASP_ISA {

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(NASP_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(NASP_VECTOR_BYTES)));
};
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
constexpr int64_t kLanes = NASP_VECTOR_BYTES / static_cast<int64_t>(sizeof(T));

// Registers decide how large the tiles are: 32 of 64 bytes, or 16.
constexpr bool kManyRegisters = NASP_VECTOR_BYTES == 64;

template <class T>
NASP_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
NASP_INLINE void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

#if NASP_VECTOR_BYTES == 64
NASP_INLINE Vec<float> splat(float x) { return (Vec<float>)_mm512_set1_ps(x); }
NASP_INLINE Vec<double> splat(double x) { return (Vec<double>)_mm512_set1_pd(x); }
NASP_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
NASP_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
NASP_INLINE Vec<float> load_some(const float* p, int64_t n) {
  return (Vec<float>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
}
NASP_INLINE Vec<double> load_some(const double* p, int64_t n) {
  return (Vec<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1), p);
}
NASP_INLINE void store_some(float* p, Vec<float> v, int64_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
}
NASP_INLINE void store_some(double* p, Vec<double> v, int64_t n) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1), (__m512d)v);
}
#else
template <class T>
NASP_INLINE Vec<T> splat(T x) {
  Vec<T> v;
  for (int64_t i = 0; i < kLanes<T>; ++i) v[i] = x;
  return v;
}
#if NASP_VECTOR_BYTES == 32
NASP_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
NASP_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#else
template <class V>
NASP_INLINE V fma(V a, V b, V c) {
  return a * b + c;
}
#endif
// The first n lanes, the others 0; reads nothing behind them.
template <class T>
NASP_INLINE Vec<T> load_some(const T* p, int64_t n) {
  Vec<T> v = {};
  for (int64_t i = 0; i < kLanes<T>; ++i)
    if (i < n) v[i] = p[i];
  return v;
}
template <class T>
NASP_INLINE void store_some(T* p, Vec<T> v, int64_t n) {
  for (int64_t i = 0; i < kLanes<T>; ++i)
    if (i < n) p[i] = v[i];
}
#endif

template <class T>
NASP_INLINE Vec<T> load_upto(const T* p, int64_t n) {
  return n >= kLanes<T> ? load(p) : load_some(p, n);
}
template <class T>
NASP_INLINE void store_upto(T* p, Vec<T> v, int64_t n) {
  if (n >= kLanes<T>)
    store(p, v);
  else
    store_some(p, v, n);
}

// max(x, 0) that keeps a NaN.
template <class V>
NASP_INLINE V relu(V x) {
  return x < 0 ? V{} : x;
}
// grad where x is above 0 or NaN, else 0: the gradient of relu.
template <class V>
NASP_INLINE V relu_gradient(V x, V grad) {
  return x <= 0 ? V{} : grad;
}

// Adds the lanes to n sums in double.
template <class T>
NASP_INLINE void add_to(double* sums, Vec<T> v) {
  T lanes[kLanes<T>];  // in memory: a loop over it is vectorised, extracting lanes is not
  store(lanes, v);
  for (int64_t i = 0; i < kLanes<T>; ++i) sums[i] += static_cast<double>(lanes[i]);
}

template <int kValue>
struct Count {
  static constexpr int value = kValue;
};

// body(first, Count<size>) over n items: tiles of kMost, then of halves of it.
template <int kMost, class Body>
NASP_INLINE void for_tiles(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kMost <= n; i += kMost) body(i, Count<kMost>{});
  if constexpr (kMost > 8)
    if (n - i >= 8) body(i, Count<8>{}), i += 8;
  if constexpr (kMost > 4)
    if (n - i >= 4) body(i, Count<4>{}), i += 4;
  if constexpr (kMost > 2)
    if (n - i >= 2) body(i, Count<2>{}), i += 2;
  if constexpr (kMost > 1)
    if (n - i >= 1) body(i, Count<1>{});
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
