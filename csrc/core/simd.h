// SPDX-License-Identifier: MIT
// One source for AVX-512, AVX2 and plain x86-64: the loader picks the clone that the CPU can run.
// Everything called inside a cloned function must be always_inline (NASP_HOST_DEVICE is).
#pragma once

#include <cstdint>
#include <type_traits>

#include "host_device.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define NASP_SIMD_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define NASP_SIMD_CLONES
#endif

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace nasp_ext {

// Eight numbers and their lane numbers; lowered to whatever registers the clone has.
template <class T>
struct Vector8;
template <>
struct Vector8<float> {
  typedef float values __attribute__((vector_size(32)));
  typedef int32_t lanes __attribute__((vector_size(32)));
};
template <>
struct Vector8<double> {
  typedef double values __attribute__((vector_size(64)));
  typedef int64_t lanes __attribute__((vector_size(64)));
};

// Eight elements from p on, in the arithmetic type.
template <class T>
inline __attribute__((always_inline)) typename Vector8<accumulate_t<T>>::values load8(const T* p) {
  typename Vector8<accumulate_t<T>>::values v;
  if constexpr (sizeof(T) == sizeof(accumulate_t<T>))
    __builtin_memcpy(&v, p, sizeof v);
  else
    for (int l = 0; l < 8; ++l) v[l] = static_cast<accumulate_t<T>>(p[l]);
  return v;
}

// v with lane kLanes[i] in place of lane i.
template <int... kLanes, class V>
inline __attribute__((always_inline)) V permuted(V v) {
#if defined(__clang__)
  return __builtin_shufflevector(v, v, kLanes...);
#else  // GCC has the name above from version 12 on
  typedef std::conditional_t<sizeof(v[0]) == 8, int64_t, int32_t> lanes
      __attribute__((vector_size(sizeof(V))));
  return __builtin_shuffle(v, lanes{kLanes...});
#endif
}

// Results larger than this leave the caches before anyone reads them, so they are written past the
// caches, which saves reading the lines first. Half of a common 16 MiB share of the last level.
constexpr int64_t kStreamBytes = int64_t(8) << 20;

// Stores 16-byte aligned memory past the caches; stream_fence() before another thread reads it.
template <class V>
inline __attribute__((always_inline)) void stream_store(void* out, const V& v) {
#if defined(__x86_64__)
  __m128i part[sizeof(V) / 16];
  __builtin_memcpy(part, &v, sizeof v);
  for (unsigned i = 0; i < sizeof(V) / 16; ++i)
    _mm_stream_si128(static_cast<__m128i*>(out) + i, part[i]);
#else
  __builtin_memcpy(out, &v, sizeof v);
#endif
}

inline __attribute__((always_inline)) void stream_store(int64_t* out, int64_t v) {
#if defined(__x86_64__)
  _mm_stream_si64(reinterpret_cast<long long*>(out), v);
#else
  *out = v;
#endif
}

inline __attribute__((always_inline)) void stream_store(int32_t* out, int32_t v) {
#if defined(__x86_64__)
  _mm_stream_si32(out, v);
#else
  *out = v;
#endif
}

inline __attribute__((always_inline)) void stream_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace nasp_ext
