// SPDX-License-Identifier: MIT
// Inner products <g, y_k>, with one summation tree for every device, so that they are bit-equal and
// independent of the number of threads:
//   * the n elements are cut into blocks of kDotBlock;
//   * in a block, lane l adds the products of elements l, l + 32, l + 64, ... in that order, in
//     accumulate_t<T>; the 32 lanes are then folded in halves (lane_tree, or five __shfl_xor_sync
//     steps with 16, 8, 4, 2, 1: addition commutes, so both are the same tree);
//   * the block sums are widened to double; lane l adds blocks l, l + 32, ... in that order, and
//     the same fold gives the result, rounded once.
#pragma once

#include "../core/host_device.h"

namespace nasp_ext {

constexpr int64_t kMaxBranches = 64;  // their addresses fit the parameters of a CUDA kernel
constexpr int64_t kDotLanes = 32;     // a warp; 4 AVX2 or 2 AVX-512 registers of float
constexpr int64_t kDotBlock =
    4096;  // g's block (16 KiB of float) stays in L1 while all y_k pass by

NASP_HOST_DEVICE int64_t dot_blocks(int64_t n) { return (n + kDotBlock - 1) / kDotBlock; }

template <class T>
NASP_HOST_DEVICE accumulate_t<T> dot_next(accumulate_t<T> sum, T g, T y) {
  using Acc = accumulate_t<T>;
  return sum + static_cast<Acc>(g) * static_cast<Acc>(y);
}

template <class Acc>
NASP_HOST_DEVICE Acc lane_tree(Acc* lane) {  // (kDotLanes,), overwritten
  for (int64_t half = kDotLanes / 2; half > 0; half /= 2)
    for (int64_t l = 0; l < half; ++l) lane[l] = lane[l] + lane[l + half];
  return lane[0];
}

// The sum of the block sums of one branch; `stride` steps from a block to the next.
template <class Acc>
NASP_HOST_DEVICE double blocks_total(const Acc* block, int64_t blocks, int64_t stride) {
  double lane[kDotLanes] = {};
  for (int64_t b = 0; b < blocks; ++b)
    lane[b % kDotLanes] += static_cast<double>(block[b * stride]);
  return lane_tree(lane);
}

}  // namespace nasp_ext
