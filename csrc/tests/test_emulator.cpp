// SPDX-License-Identifier: MIT
// The emulator's scheduler: orders, barriers, collectives, atomics and limits, against hand
// arithmetic.
#include <algorithm>
#include <numeric>

#include "../core/nasp_cuda.cuh"
#include "testing.h"

namespace {

using namespace nasp_ext;
using nasp_ext::testing::error_of;

constexpr unsigned kAllLanes = 0xffffffffu;

std::vector<int> trace;  // who ran when

__global__ void trace_kernel() {
  trace.push_back(static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x));
}

std::vector<int> traced(uint64_t seed) {
  trace.clear();
  emulator::config.seed = seed;
  NASP_LAUNCH(trace_kernel, 3, 40, 0, nullptr);
  emulator::config.seed = 0;
  return trace;
}

__global__ void indices_kernel(uint3* thread, uint3* block) {
  const unsigned b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  thread[b * 24 + t] = threadIdx;
  block[b * 24 + t] = blockIdx;
}

__global__ void reverse_kernel(int* data) {
  NASP_SHARED(int, tile, 96);
  tile[threadIdx.x] = data[threadIdx.x];
  __syncthreads();
  data[threadIdx.x] = tile[95 - threadIdx.x];
}

__global__ void collectives_kernel(int* out) {  // (7, 32)
  const int lane = static_cast<int>(threadIdx.x);
  out[0 * 32 + lane] = __shfl_sync(kAllLanes, lane, 3, 8);
  out[1 * 32 + lane] = __shfl_up_sync(kAllLanes, lane, 5);
  out[2 * 32 + lane] = __shfl_down_sync(kAllLanes, lane, 5);
  out[3 * 32 + lane] = __shfl_xor_sync(kAllLanes, lane, 16);
  out[4 * 32 + lane] = static_cast<int>(__ballot_sync(kAllLanes, lane % 2 == 0));
  out[5 * 32 + lane] = __any_sync(kAllLanes, lane == 7);
  out[6 * 32 + lane] = __all_sync(kAllLanes, lane < 31);
}

__global__ void two_groups_kernel(int* out) {  // each half shuffles with its own mask
  const int lane = static_cast<int>(threadIdx.x);
  if (lane < 16) {
    out[lane] = __shfl_xor_sync(0x0000ffffu, lane, 1);
  } else {
    out[lane] = __shfl_xor_sync(0xffff0000u, lane, 2);
  }
}

__global__ void count_kernel(int* out) {
  const int n = __syncthreads_count(threadIdx.x % 3 == 0);
  out[threadIdx.x] = n;
}

__global__ void atomics_kernel(int* sum, int* largest, int* smallest, int* last, float* total) {
  const int i = static_cast<int>(threadIdx.x);
  atomicAdd(sum, i);
  atomicMax(largest, i);
  atomicMin(smallest, i);
  atomicExch(last, 7);
  atomicAdd(total, 0.5f);
}

__global__ void throw_kernel() {
  if (threadIdx.x == 5) emulator::fail("planted");
  __syncthreads();
}

__global__ void too_much_shared_kernel() {
  NASP_SHARED(double, tile, 8192);
  tile[0] = 0.0;
}

__global__ void nothing_kernel() {}

std::string launch_error(dim3 grid, dim3 block, size_t shared_bytes) {
  return error_of([&] { NASP_LAUNCH(nothing_kernel, grid, block, shared_bytes, nullptr); });
}

}  // namespace

TEST(seeds_zero_and_one_run_in_ascending_and_descending_order) {
  std::vector<int> ascending(120);
  std::iota(ascending.begin(), ascending.end(), 0);
  CHECK(traced(0) == ascending);
  std::reverse(ascending.begin(), ascending.end());
  CHECK(traced(1) == ascending);
}

TEST(other_seeds_shuffle_and_repeat_exactly) {
  const std::vector<int> second = traced(2);
  CHECK(second == traced(2));
  CHECK(second != traced(3));
  std::vector<int> sorted = second;
  std::sort(sorted.begin(), sorted.end());
  CHECK(sorted == traced(0));
}

TEST(threads_and_blocks_have_three_dimensional_indices) {
  std::vector<uint3> thread(24 * 8), block(24 * 8);
  NASP_LAUNCH(indices_kernel, dim3(2, 2, 2), dim3(4, 3, 2), 0, nullptr, thread.data(),
              block.data());
  const uint3 t = thread[5 * 24 + 17], b = block[5 * 24 + 17];  // block 5 = (1,0,1), thread 17
  CHECK(t.x == 1 && t.y == 1 && t.z == 1);
  CHECK(b.x == 1 && b.y == 0 && b.z == 1);
}

TEST(a_barrier_orders_shared_memory) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    std::vector<int> data(96);
    std::iota(data.begin(), data.end(), 0);
    emulator::config.seed = seed;
    NASP_LAUNCH(reverse_kernel, 1, 96, 0, nullptr, data.data());
    emulator::config.seed = 0;
    for (int i = 0; i < 96; ++i) CHECK(data[i] == 95 - i);
  }
}

TEST(warp_collectives_follow_the_cuda_guide) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    std::vector<int> out(7 * 32);
    emulator::config.seed = seed;
    NASP_LAUNCH(collectives_kernel, 1, 32, 0, nullptr, out.data());
    emulator::config.seed = 0;
    for (int lane = 0; lane < 32; ++lane) {
      CHECK(out[0 * 32 + lane] == lane / 8 * 8 + 3);
      CHECK(out[1 * 32 + lane] == (lane < 5 ? lane : lane - 5));
      CHECK(out[2 * 32 + lane] == (lane > 26 ? lane : lane + 5));
      CHECK(out[3 * 32 + lane] == (lane + 16) % 32);
      CHECK(out[4 * 32 + lane] == 0x55555555);
      CHECK(out[5 * 32 + lane] == 1);
      CHECK(out[6 * 32 + lane] == 0);
    }
  }
}

TEST(disjoint_masks_make_independent_groups) {
  std::vector<int> out(32);
  NASP_LAUNCH(two_groups_kernel, 1, 32, 0, nullptr, out.data());
  for (int lane = 0; lane < 32; ++lane) CHECK(out[lane] == (lane ^ (lane < 16 ? 1 : 2)));
}

TEST(a_counting_barrier_counts_the_whole_block) {
  std::vector<int> out(70);
  NASP_LAUNCH(count_kernel, 1, 70, 0, nullptr, out.data());
  for (const int n : out) CHECK(n == 24);  // 0, 3, ..., 69
}

TEST(atomics_see_every_thread) {
  int sum = 0, largest = -1, smallest = 99, last = 0;
  float total = 0.0f;
  NASP_LAUNCH(atomics_kernel, 1, 64, 0, nullptr, &sum, &largest, &smallest, &last, &total);
  CHECK(sum == 2016 && largest == 63 && smallest == 0 && last == 7 && total == 32.0f);
}

TEST(a_failing_thread_ends_the_launch_and_the_next_one_works) {
  const std::string error = error_of([] { NASP_LAUNCH(throw_kernel, 2, 64, 0, nullptr); });
  CHECK_CONTAINS(error, "kernel throw_kernel: planted");
  std::vector<int> out(70);
  NASP_LAUNCH(count_kernel, 1, 70, 0, nullptr, out.data());
  CHECK(out[0] == 24);
}

TEST(limits_of_a_launch_are_those_of_a_gpu) {
  CHECK(launch_error(1, 1024, 0).empty());
  CHECK_CONTAINS(launch_error(1, 1025, 0), "invalid grid or block size");
  CHECK_CONTAINS(launch_error(0, 32, 0), "invalid grid or block size");
  CHECK_CONTAINS(launch_error(dim3(1, 65536), 32, 0), "invalid grid or block size");
  CHECK_CONTAINS(launch_error(1, dim3(1, 1, 65), 0), "invalid grid or block size");
  CHECK_CONTAINS(launch_error(1, 32, 48 * 1024 + 1), "too much shared memory");
  const std::string error = error_of([] { NASP_LAUNCH(too_much_shared_kernel, 1, 1, 0, nullptr); });
  CHECK_CONTAINS(error, "more than 49152 bytes of shared memory");
}
