// SPDX-License-Identifier: MIT
// The inner loops of branch_dots on the CPU. Several branches are read side by side:
// one memory stream alone does not fill the bus.
#pragma once

#include "../core/simd.h"
#include "branch_dots_math.h"

namespace nasp_ext {

constexpr int64_t kGroup = 8;    // branches side by side: their sums fill half the AVX2 registers
constexpr int64_t kStrip = 128;  // elements read of each branch before the sums change lanes

// out[k] = the sum of the block g * y[k] of n <= kDotBlock elements, by the tree of
// branch_dots_math.h, for kBranches branches. Lanes are taken eight at a time; the order within a
// lane stays ascending.
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

}  // namespace nasp_ext
