// SPDX-License-Identifier: MIT
#include "planted_faults.h"

#include "../core/nasp_cuda.cuh"

namespace nasp_ext::faults {
namespace {

constexpr int kBlock = 128;
constexpr unsigned kAllLanes = 0xffffffffu;

__global__ void half_block_at_barrier_kernel(float* data) {
  if (threadIdx.x < 64) {
    data[threadIdx.x] = 1.0f;
    __syncthreads();
  }
  data[threadIdx.x] += 1.0f;
}

__global__ void two_barriers_at_once_kernel(float* data) {
  if (threadIdx.x < 64) {
    data[threadIdx.x] = 1.0f;
    __syncthreads();
  } else {
    data[threadIdx.x] = 2.0f;
    __syncthreads();
  }
}

__global__ void exit_before_barrier_kernel(float* data, int n) {
  NASP_SHARED(float, tile, kBlock);
  const int i = static_cast<int>(threadIdx.x);
  if (i >= n) return;
  tile[i] = data[i];
  __syncthreads();
  data[i] = tile[n - 1 - i];
}

__global__ void global_out_of_bounds_kernel(float* data, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i <= n) data[i] = 1.0f;
}

__global__ void shared_out_of_bounds_kernel(float* data) {
  NASP_SHARED(float, tile, kBlock);
  tile[threadIdx.x + 1] = data[threadIdx.x];
  __syncthreads();
  data[threadIdx.x] = tile[threadIdx.x];
}

__global__ void missing_barrier_kernel(float* data) {
  NASP_SHARED(float, tile, kBlock);
  tile[threadIdx.x] = data[threadIdx.x];
  data[threadIdx.x] = tile[(threadIdx.x + 1) % kBlock];
}

// A sum per warp, then over warps; the second round writes `sums` while the first still reads it.
__global__ void shared_reused_too_early_kernel(float* data) {
  NASP_SHARED(float, sums, kBlock / 32);
  for (int round = 0; round < 2; ++round) {
    float v = data[threadIdx.x];
    for (int step = 16; step > 0; step /= 2) v += __shfl_down_sync(kAllLanes, v, step);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x == 0) data[kBlock + round] = sums[0] + sums[1] + sums[2] + sums[3];
  }
}

__global__ void blocks_race_kernel(float* data) {
  if (threadIdx.x == 0) data[0] += 1.0f;
}

__global__ void shuffle_from_exited_lane_kernel(float* data) {
  if (threadIdx.x >= 16) return;
  data[threadIdx.x] += __shfl_down_sync(kAllLanes, data[threadIdx.x], 16);
}

__global__ void divergent_shuffles_kernel(float* data) {
  float v = data[threadIdx.x];
  if (threadIdx.x < 16) {
    v += __shfl_xor_sync(kAllLanes, v, 1);
  } else {
    v += __shfl_xor_sync(kAllLanes, v, 2);
  }
  data[threadIdx.x] = v;
}

__global__ void uninitialised_shared_kernel(float* data) {
  NASP_SHARED(float, tile, kBlock);
  if (threadIdx.x < kBlock - 1) tile[threadIdx.x] = 1.0f;
  __syncthreads();
  data[threadIdx.x] = tile[threadIdx.x];
}

__global__ void misaligned_vector_kernel(float* data) {
  *reinterpret_cast<float4*>(data + 8) = *reinterpret_cast<const float4*>(data + 1);
}

__global__ void dynamic_shared_too_small_kernel(float* data) {
  NASP_DYNAMIC_SHARED(float, tile);
  tile[threadIdx.x] = data[threadIdx.x];
  __syncthreads();
  data[threadIdx.x] = tile[kBlock - 1 - threadIdx.x];
}

__global__ void order_of_float_atomics_kernel(const float* terms, float* sum) {
  atomicAdd(sum, terms[blockIdx.x * blockDim.x + threadIdx.x]);
}

}  // namespace

void half_block_at_barrier(float* data, stream_t stream) {
  NASP_LAUNCH(half_block_at_barrier_kernel, 1, kBlock, 0, stream, data);
}
void two_barriers_at_once(float* data, stream_t stream) {
  NASP_LAUNCH(two_barriers_at_once_kernel, 1, kBlock, 0, stream, data);
}
void exit_before_barrier(float* data, stream_t stream) {
  NASP_LAUNCH(exit_before_barrier_kernel, 1, kBlock, 0, stream, data, 100);
}
void global_out_of_bounds(float* data, stream_t stream) {
  NASP_LAUNCH(global_out_of_bounds_kernel, kSize / kBlock + 1, kBlock, 0, stream, data, kSize);
}
void shared_out_of_bounds(float* data, stream_t stream) {
  NASP_LAUNCH(shared_out_of_bounds_kernel, 1, kBlock, 0, stream, data);
}
void missing_barrier(float* data, stream_t stream) {
  NASP_LAUNCH(missing_barrier_kernel, 1, kBlock, 0, stream, data);
}
void shared_reused_too_early(float* data, stream_t stream) {
  NASP_LAUNCH(shared_reused_too_early_kernel, 1, kBlock, 0, stream, data);
}
void blocks_race(float* data, stream_t stream) {
  NASP_LAUNCH(blocks_race_kernel, 4, 32, 0, stream, data);
}
void shuffle_from_exited_lane(float* data, stream_t stream) {
  NASP_LAUNCH(shuffle_from_exited_lane_kernel, 1, 32, 0, stream, data);
}
void divergent_shuffles(float* data, stream_t stream) {
  NASP_LAUNCH(divergent_shuffles_kernel, 1, 32, 0, stream, data);
}
void uninitialised_shared(float* data, stream_t stream) {
  NASP_LAUNCH(uninitialised_shared_kernel, 1, kBlock, 0, stream, data);
}
void misaligned_vector(float* data, stream_t stream) {
  NASP_LAUNCH(misaligned_vector_kernel, 1, 1, 0, stream, data);
}
void dynamic_shared_too_small(float* data, stream_t stream) {
  NASP_LAUNCH(dynamic_shared_too_small_kernel, 1, kBlock, (kBlock - 1) * sizeof(float), stream,
              data);
}
void order_of_float_atomics(const float* terms, float* sum, stream_t stream) {
  NASP_LAUNCH(order_of_float_atomics_kernel, kSize / kBlock, kBlock, 0, stream, terms, sum);
}

}  // namespace nasp_ext::faults
