// SPDX-License-Identifier: MIT
// The inner loops of mixed_sum on the CPU.
#pragma once

#include "../core/simd.h"
#include "mixed_sum_math.h"

namespace nasp_ext {

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
