// SPDX-License-Identifier: MIT
// The inner products of a node and a source of a recurrent cell on the device, every function at
// once. Thread blocks leave their sums in double, a second kernel adds those in a fixed order.
#include "../core/launch.cuh"
#include "recurrent_kernel.h"

namespace nasp_ext {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;
constexpr int kRun = 8;  // numbers that a thread adds up in T before it goes on in double
constexpr int64_t kDotTile = int64_t{kThreads} * kRun;

__device__ __forceinline__ double fold_warp(double sum) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
  return sum;
}

// Four thread blocks on a multiprocessor leave registers for no spills.
template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    row_dots_kernel(const __grid_constant__ RowDots<T> d, double* parts) {
  NASP_SHARED(double, of_warps, kWarps* kNonlinearities);
  const int64_t count = d.rows * d.size;
  const auto size = static_cast<unsigned>(d.size);
  double sums[kNonlinearities] = {};
  for (int64_t tile = blockIdx.x * kDotTile; tile < count; tile += gridDim.x * kDotTile) {
    const int64_t row = tile / d.size;  // the only long division
    const auto column = static_cast<unsigned>(tile - row * d.size);
    T run[kNonlinearities] = {};
#pragma unroll 4
    for (int k = 0; k < kRun; ++k) {
      const unsigned offset = threadIdx.x + static_cast<unsigned>(k) * kThreads;
      const int64_t i = tile + offset;
      if (i >= count) continue;
      const int64_t gate = i + (row + (column + offset) / size) * d.size;
      T terms[kNonlinearities];
      every_term(d.source[i], d.products[gate], d.products[gate + d.size], terms);
      const T grad = d.grad[i];
#pragma unroll
      for (int f = 0; f < kNonlinearities; ++f) run[f] += grad * terms[f];
    }
#pragma unroll
    for (int f = 0; f < kNonlinearities; ++f) sums[f] += static_cast<double>(run[f]);
  }
#pragma unroll
  for (int f = 0; f < kNonlinearities; ++f) {
    const double sum = fold_warp(sums[f]);
    if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp * kNonlinearities + f] = sum;
  }
  __syncthreads();
  if (threadIdx.x >= kNonlinearities) return;
  double sum = 0.0;
  for (int w = 0; w < kWarps; ++w) sum += of_warps[w * kNonlinearities + threadIdx.x];
  parts[blockIdx.x * kNonlinearities + threadIdx.x] = sum;
}

// A warp for each function.
__global__ void __launch_bounds__(kWarp)
    row_dot_totals_kernel(const double* parts, int count, double* sums) {
  double sum = 0.0;
  for (int part = static_cast<int>(threadIdx.x); part < count; part += kWarp)
    sum += parts[part * kNonlinearities + blockIdx.x];
  sum = fold_warp(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] += sum;
}

}  // namespace

template <class T>
void launch_row_dots(const RowDots<T>& d, double* parts, stream_t stream) {
  const int64_t tiles = (d.rows * d.size + kDotTile - 1) / kDotTile;
  const int blocks = static_cast<int>(tiles < kDotParts ? tiles : kDotParts);
  NASP_LAUNCH(row_dots_kernel<T>, blocks, kThreads, 0, stream, d, parts);
  NASP_LAUNCH(row_dot_totals_kernel, kNonlinearities, kWarp, 0, stream, parts, blocks, d.sums);
}
template void launch_row_dots<float>(const RowDots<float>&, double*, stream_t);
template void launch_row_dots<double>(const RowDots<double>&, double*, stream_t);

}  // namespace nasp_ext
