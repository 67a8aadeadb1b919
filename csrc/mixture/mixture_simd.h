// SPDX-License-Identifier: MIT
// The inner loops of branch_dots and mixed_sum on the CPU. Several branches are read side by side:
// one memory stream alone does not fill the bus.
#pragma once

#include "../common/simd.h"
#include "mixture_math.h"

namespace nasp_ext {

constexpr int64_t kGroup = 8;    // branches side by side: their sums fill half the AVX2 registers
constexpr int64_t kStrip = 128;  // elements read of each branch before the sums change lanes

// Eight elements from p on, in the arithmetic type.
template <class T>
NASP_HOST_DEVICE typename Vector8<accumulate_t<T>>::values load8(const T* p) {
  typename Vector8<accumulate_t<T>>::values v;
  if constexpr (sizeof(T) == sizeof(accumulate_t<T>))
    __builtin_memcpy(&v, p, sizeof v);
  else
    for (int l = 0; l < 8; ++l) v[l] = static_cast<accumulate_t<T>>(p[l]);
  return v;
}

// out[k] = the sum of the block g * y[k] of n <= kDotBlock elements, by the tree of mixture_math.h,
// for kBranches branches. Lanes are taken eight at a time; the order within a lane stays ascending.
template <int kBranches, class T>
NASP_SIMD_CLONES void block_dots(const T* g, const T* const* y, int64_t n, accumulate_t<T>* out) {
  using Acc = accumulate_t<T>;
  using V = typename Vector8<Acc>::values;
  constexpr int64_t kOctets = kDotLanes / 8;
  V sums[kBranches][kOctets] = {};
  const int64_t whole = n - n % kDotLanes;
  for (int64_t strip = 0; strip < whole; strip += kStrip) {
    const int64_t stop = strip + kStrip < whole ? strip + kStrip : whole;
    for (int64_t octet = 0; octet < kOctets; ++octet) {
      V sum[kBranches];
      for (int k = 0; k < kBranches; ++k) sum[k] = sums[k][octet];
      for (int64_t i = strip + 8 * octet; i < stop; i += kDotLanes) {
        const V shared = load8(g + i);
        for (int k = 0; k < kBranches; ++k) sum[k] = sum[k] + shared * load8(y[k] + i);
      }
      for (int k = 0; k < kBranches; ++k) sums[k][octet] = sum[k];
    }
  }
  for (int k = 0; k < kBranches; ++k) {
    Acc lane[kDotLanes];
    __builtin_memcpy(lane, sums[k], sizeof lane);
    for (int64_t i = whole; i < n; ++i) lane[i - whole] = dot_next(lane[i - whole], g[i], y[k][i]);
    out[k] = lane_tree(lane);
  }
}

// out[i] = sum_k weight[k] y[k][i] for n elements, the terms in the order of k.
template <class T>
NASP_SIMD_CLONES void mix_block(const T* const* y, const accumulate_t<T>* weight, int64_t branches,
                                int64_t n, T* out) {
  using Acc = accumulate_t<T>;
  using V = typename Vector8<Acc>::values;
  constexpr int64_t kStep = 32;  // elements kept in registers while all branches are added
  const int64_t whole = n - n % kStep;
  for (int64_t i = 0; i < whole; i += kStep) {
    V sum[kStep / 8];
    for (int64_t j = 0; j < kStep / 8; ++j) sum[j] = weight[0] * load8(y[0] + i + 8 * j);
    for (int64_t k = 1; k < branches; ++k)
      for (int64_t j = 0; j < kStep / 8; ++j) sum[j] = sum[j] + weight[k] * load8(y[k] + i + 8 * j);
    Acc rounded[kStep];
    __builtin_memcpy(rounded, sum, sizeof sum);
    for (int64_t l = 0; l < kStep; ++l) out[i + l] = static_cast<T>(rounded[l]);
  }
  for (int64_t i = whole; i < n; ++i) {
    Acc sum = mix_first(weight[0], y[0][i]);
    for (int64_t k = 1; k < branches; ++k) sum = mix_next(sum, weight[k], y[k][i]);
    out[i] = static_cast<T>(sum);
  }
}

template <class T>
NASP_SIMD_CLONES void scale_block(const T* __restrict__ g, accumulate_t<T> weight, int64_t n,
                                  T* __restrict__ out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(mix_first(weight, g[i]));
}

}  // namespace nasp_ext
