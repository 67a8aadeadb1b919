// SPDX-License-Identifier: MIT
// Thread blocks that have a few neighbouring channels and all rows of a batch, so the statistics of
// a BN stay within them and need neither atomics nor a second kernel. A number is read and written
// by one thread alone: what a thread writes it may read again.
#pragma once

#include "../core/launch.cuh"

namespace nasp_ext {
namespace {

constexpr int kWarp = 32;
constexpr int kAcross = 4;  // a sector of 32 bytes in double; half a one in float, but H = 300
                            // makes 75 thread blocks, where 8 would leave most of a GPU idle
constexpr int kDown = 64;   // most threads that share a channel
constexpr int kStripeThreads = kAcross * kDown;
constexpr int kMostAtOnce = 4;  // rows of a thread whose loads are under way together
constexpr int kSlots = kStripeThreads / kWarp * kAcross;  // a sum of each warp for each channel

// The channels of a thread block, and the rows of a thread, kAtOnce of them at a time.
template <int kAtOnce>
struct Stripe {
  int64_t batch, size, channel, row;
  int step;

  __device__ __forceinline__ Stripe(int64_t rows, int64_t channels)
      : batch(rows),
        size(channels),
        channel(static_cast<int64_t>(blockIdx.x) * kAcross + threadIdx.x % kAcross),
        row(threadIdx.x / kAcross),
        step(static_cast<int>(blockDim.x) / kAcross) {
    if (channel >= size) row = batch;  // nothing to do but to wait at barriers
  }
  // body(first row) for groups of kAtOnce rows.
  template <class Body>
  __device__ __forceinline__ void for_rows(const Body& body) const {
    for (int64_t first = row; first < batch; first += kAtOnce * step) body(first);
  }
  // body(r, index in (B, H), index of c in (B, 2H)) for the rows of a group that exist.
  template <class Body>
  __device__ __forceinline__ void for_group(int64_t first, const Body& body) const {
#pragma unroll
    for (int r = 0; r < kAtOnce; ++r) {
      const int64_t at = first + r * step;
      if (at < batch) body(r, at * size + channel, 2 * at * size + channel);
    }
  }
};

// The sum over the lanes of a warp that share a channel, in each of them.
template <class T>
__device__ __forceinline__ T fold_rows(T value) {
#pragma unroll
  for (int lanes = kAcross; lanes < kWarp; lanes *= 2)
    value += __shfl_xor_sync(kAllLanes, value, lanes);
  return value;
}

// The sum over the rows of a channel, in a fixed order, for all its threads. scratch: (kSlots,),
// of this sum alone.
template <class T>
__device__ __forceinline__ T add_rows(T value, T* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  value = fold_rows(value);
  if (lane < kAcross) scratch[threadIdx.x / kWarp * kAcross + lane] = value;
  __syncthreads();
  const int slots = static_cast<int>(blockDim.x) / kWarp * kAcross;
  T sum = T(0);
  for (int i = lane; i < slots; i += kWarp) sum += scratch[i];  // all of channel lane % kAcross
  return fold_rows(sum);
}

}  // namespace
}  // namespace nasp_ext
