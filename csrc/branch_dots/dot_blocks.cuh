// SPDX-License-Identifier: MIT
// Inner products on the device. The summation tree is that of branch_dots_math.h: a warp is the
// kDotLanes lanes of one block of one branch. The warps of a thread block take the branches of the
// same block of elements, so grad comes from memory once and from the L1 cache K - 1 times. A
// second kernel adds the block sums: no atomics, the same bits every time.
#pragma once

#include "../core/launch.cuh"
#include "branch_dots_kernel.h"

namespace nasp_ext {
namespace {

constexpr int kWarp = 32;
static_assert(kDotLanes == kWarp, "a warp folds the lanes of a block");
constexpr int kWarps = kThreads / kWarp;
constexpr int kBatch = 8;  // loads of grad and of a branch that a lane has under way

template <class Acc>
__device__ __forceinline__ Acc fold_lanes(Acc sum) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  return sum;
}

// The block sums; each(k, i, grad) sees every element of grad on its way to branch k.
template <class T, class Each>
__global__ void __launch_bounds__(kThreads)
    dot_blocks_kernel(const __grid_constant__ Dots<T> d, const __grid_constant__ Each each) {
  using Acc = accumulate_t<T>;
  const int64_t blocks = dot_blocks(d.n);
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const int64_t begin = block * kDotBlock + threadIdx.x;
    const int64_t end = d.n < (block + 1) * kDotBlock ? d.n : (block + 1) * kDotBlock;
    for (int k = static_cast<int>(threadIdx.y); k < d.options; k += kWarps) {
      const T* const output = d.outputs.pointer[k];
      Acc sum = Acc(0);
      const auto add = [&](int64_t i, T grad, T y) {
        sum = dot_next<T>(sum, grad, y);
        each(k, i, grad);
      };
      int64_t i = begin;
      for (; i + (kBatch - 1) * kWarp < end; i += kBatch * kWarp) {
        T grad[kBatch], y[kBatch];
#pragma unroll
        for (int b = 0; b < kBatch; ++b) {
          grad[b] = d.grad[i + b * kWarp];
          y[b] = output[i + b * kWarp];
        }
#pragma unroll
        for (int b = 0; b < kBatch; ++b) add(i + b * kWarp, grad[b], y[b]);
      }
      for (; i < end; i += kWarp) add(i, d.grad[i], output[i]);
      sum = fold_lanes(sum);
      if (threadIdx.x == 0) d.block_sums[k * blocks + block] = sum;
    }
  }
}

template <class T, class Each>
void launch_dots(const Dots<T>& d, const Each& each, stream_t stream) {
  const int64_t blocks = dot_blocks(d.n);
  if (blocks > 0) {
    const dim3 threads(kWarp, d.options < kWarps ? d.options : kWarps);
    NASP_LAUNCH((dot_blocks_kernel<T, Each>), grid_for(blocks, 1), threads, 0, stream, d, each);
  }
  launch_dot_totals(d.block_sums, blocks, d.options, d.dots, stream);
}

}  // namespace
}  // namespace nasp_ext
