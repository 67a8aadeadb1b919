// SPDX-License-Identifier: MIT
// mixed_sum and its backward on the device.
#include "mixed_sum_kernel.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "../branch_dots/dot_blocks.cuh"
#include "mixed_sum_math.h"

namespace nasp_ext {
namespace {

template <class T>
struct ScaledGrad {
  const accumulate_t<T>* weights;  // (K,)
  Branches<T> grad_outputs;        // K of (n,)

  __device__ __forceinline__ void operator()(int k, int64_t i, T grad) const {
    grad_outputs.pointer[k][i] = static_cast<T>(mix_first<T>(weights[k], grad));
  }
};

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

}  // namespace

template <class T>
void launch_mixed_sum_backward(const Dots<T>& dots, const accumulate_t<T>* weights,
                               const Branches<T>& grad_outputs, stream_t stream) {
  launch_dots(dots, ScaledGrad<T>{weights, grad_outputs}, stream);
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
  template void launch_mixed_sum_backward<T>(const Dots<T>&, const accumulate_t<T>*,       \
                                             const Branches<T>&, stream_t);                \
  template void launch_mixed_sum<T>(const Branches<const T>&, const accumulate_t<T>*, int, \
                                    int64_t, T*, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)
NASP_INSTANTIATE(torch::headeronly::Half)
NASP_INSTANTIATE(torch::headeronly::BFloat16)

}  // namespace nasp_ext
