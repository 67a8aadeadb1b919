// SPDX-License-Identifier: MIT
// What the *_math.h headers need to compile for the host, the device and the emulator alike.
//
// Bits: the same formulas give the same bits on a CPU and on a GPU as long as no compiler fuses a
// product with a sum, so the builds say -ffp-contract=off and -fmad=false.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define NASP_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define NASP_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace nasp_ext {

// The type in which the arithmetic on elements of type T runs: float for the half types.
template <class T>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};
template <class T>
using accumulate_t = typename Accumulate<T>::type;

template <class Acc>
NASP_HOST_DEVICE bool is_nan(Acc x) {
  return x != x;
}

template <class Acc>
NASP_HOST_DEVICE bool is_finite(Acc x) {
  return x - x == Acc(0);
}

// Nearest point of [0, 1]; a NaN stays a NaN.
template <class Acc>
NASP_HOST_DEVICE Acc clip01(Acc x) {
  return x < Acc(0) ? Acc(0) : (x > Acc(1) ? Acc(1) : x);
}

}  // namespace nasp_ext
