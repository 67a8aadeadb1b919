// SPDX-License-Identifier: MIT
// branch_dots and mixed_sum on the device. The summation tree is that of mixture_math.h: a warp is
// the kDotLanes lanes of one block of one branch. The warps of a thread block take the branches of
// the same block of elements, so grad comes from memory once and from the L1 cache K - 1 times. A
// second kernel adds the block sums: no atomics, the same bits every time.
#include "mixture_kernel.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "../common/launch.cuh"

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

template <class T, bool kBackward>
__global__ void __launch_bounds__(kThreads)
    dot_blocks_kernel(const __grid_constant__ Dots<T> d, const accumulate_t<T>* weights,
                      const __grid_constant__ Branches<T> grad_outputs) {
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
        if constexpr (kBackward) {
          grad_outputs.pointer[k][i] = static_cast<T>(mix_first<T>(weights[k], grad));
        }
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

// One warp per branch.
template <class Acc>
__global__ void __launch_bounds__(kWarp)
    dot_totals_kernel(const Acc* block_sums, int64_t blocks, Acc* dots) {
  double sum = 0.0;
  for (int64_t b = threadIdx.x; b < blocks; b += kWarp) {
    sum += static_cast<double>(block_sums[blockIdx.x * blocks + b]);
  }
  sum = fold_lanes(sum);
  if (threadIdx.x == 0) dots[blockIdx.x] = static_cast<Acc>(sum);
}

template <class T, int kWidth>
__device__ __forceinline__ void mix(const Branches<const T>& outputs,
                                    const accumulate_t<T>* weights, int options, int64_t i,
                                    T* sum) {
  accumulate_t<T> total[kWidth];
  const auto add = [&](int k) {
    const accumulate_t<T> weight = weights[k];
    const Vector<T, kWidth> y = load<kWidth>(outputs.pointer[k] + i);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      total[j] =
          k == 0 ? mix_first<T>(weight, y.value[j]) : mix_next<T>(total[j], weight, y.value[j]);
    }
  };
  add(0);
#pragma unroll 4
  for (int k = 1; k < options; ++k) add(k);
  Vector<T, kWidth> result;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) result.value[j] = static_cast<T>(total[j]);
  store(sum + i, result);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    mixed_sum_kernel(const __grid_constant__ Branches<const T> outputs,
                     const accumulate_t<T>* weights, int options, int64_t n, T* sum) {
  const int64_t vectors = n / kWidth;
  for (int64_t i = first_item(); i < vectors; i += item_stride()) {
    mix<T, kWidth>(outputs, weights, options, i * kWidth, sum);
  }
  const int64_t rest = vectors * kWidth + first_item();
  if (rest < n) mix<T, 1>(outputs, weights, options, rest, sum);
}

template <class T, bool kBackward>
void launch_dots(const Dots<T>& d, const accumulate_t<T>* weights, const Branches<T>& grad_outputs,
                 stream_t stream) {
  const int64_t blocks = dot_blocks(d.n);
  if (blocks > 0) {
    const dim3 threads(kWarp, d.options < kWarps ? d.options : kWarps);
    NASP_LAUNCH((dot_blocks_kernel<T, kBackward>), grid_for(blocks, 1), threads, 0, stream, d,
                weights, grad_outputs);
  }
  NASP_LAUNCH(dot_totals_kernel<accumulate_t<T>>, d.options, kWarp, 0, stream, d.block_sums, blocks,
              d.dots);
}

}  // namespace

template <class T>
void launch_branch_dots(const Dots<T>& dots, stream_t stream) {
  launch_dots<T, false>(dots, nullptr, Branches<T>{}, stream);
}

template <class T>
void launch_mixed_sum_backward(const Dots<T>& dots, const accumulate_t<T>* weights,
                               const Branches<T>& grad_outputs, stream_t stream) {
  launch_dots<T, true>(dots, weights, grad_outputs, stream);
}

template <class T>
void launch_mixed_sum(const Branches<const T>& outputs, const accumulate_t<T>* weights, int options,
                      int64_t n, T* sum, stream_t stream) {
  constexpr int kWidth = kVectorWidth<T>;
  bool aligned = aligned16(sum);
  for (int k = 0; k < options; ++k) aligned = aligned && aligned16(outputs.pointer[k]);
  if (aligned) {
    NASP_LAUNCH((mixed_sum_kernel<T, kWidth>), grid_for(n, int64_t{kThreads} * kWidth), kThreads, 0,
                stream, outputs, weights, options, n, sum);
  } else {
    NASP_LAUNCH((mixed_sum_kernel<T, 1>), grid_for(n, kThreads), kThreads, 0, stream, outputs,
                weights, options, n, sum);
  }
}

#define NASP_INSTANTIATE(T)                                                                \
  template void launch_branch_dots<T>(const Dots<T>&, stream_t);                           \
  template void launch_mixed_sum_backward<T>(const Dots<T>&, const accumulate_t<T>*,       \
                                             const Branches<T>&, stream_t);                \
  template void launch_mixed_sum<T>(const Branches<const T>&, const accumulate_t<T>*, int, \
                                    int64_t, T*, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)
NASP_INSTANTIATE(torch::headeronly::Half)
NASP_INSTANTIATE(torch::headeronly::BFloat16)

}  // namespace nasp_ext
