// SPDX-License-Identifier: MIT
// The kernels of select_active and nasp_step_: a Step may update a row before it is chosen from.
// Without pruning a thread owns a row; with pruning a warp owns a node: its rows are chosen first,
// then compared, in one launch.
//
// Beside a Step stand, found by its type,
//   step_row(selection, step, row): updates a row in memory, or leaves all of it alone and returns
//     false;
//   step_row_of_8(selection, step, row, a): the same, with the new entries returned in registers.
#pragma once

#include "../core/launch.cuh"
#include "select_active_kernel.h"

namespace nasp_ext {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 4;  // nodes of a block: many small blocks for few nodes
// Blocks of a multiprocessor; without it ptxas spills for sm_100. Unused where launch bounds are.
[[maybe_unused]] constexpr int kResident = 2;
constexpr int kNodesPerLaunch = 256;  // 2 KiB of the 4 KiB of a kernel's parameters

struct NodeRange {
  int64_t offsets[kNodesPerLaunch + 1];
  int count;
  int64_t edges;
};

template <class T>
__device__ __forceinline__ Candidate<accumulate_t<T>> chosen_entry(const DeviceSelection<T>& s,
                                                                   const T* a, bool finite,
                                                                   int64_t row, int64_t options) {
  if (!finite) return {accumulate_t<T>(0), 0, kNanRow};
  return select_entry<ProxC>(a, s.mask_row(row), options, s.ties, row);
}

template <class T, class Step>
__global__ void __launch_bounds__(kThreads, kResident)
    select_rows_of_8_kernel(const DeviceSelection<T> s, const Step step) {
  for (int64_t row = first_item(); row < s.rows; row += item_stride()) {
    T a[8];
    const bool finite = step_row_of_8(s, step, row, a);
    const int64_t active = chosen_entry(s, a, finite, row, 8).index;
#pragma unroll
    for (int k = 0; k < 8; ++k) a[k] = weight_entry(a[k], k, active, s.keep_value);
    store_row(s.weight + row * 8, a);
    s.active[row] = static_cast<int32_t>(active);
  }
}

template <class T>
__device__ __forceinline__ void write_row(const DeviceSelection<T>& s, int64_t row,
                                          int64_t active) {
  for (int64_t k = 0; k < s.options; ++k) {
    const int64_t i = row * s.options + k;
    s.weight[i] = weight_entry(s.a[i], k, active, s.keep_value);
  }
  s.active[row] = static_cast<int32_t>(active);
}

template <class T, class Step>
__global__ void __launch_bounds__(kThreads, kResident)
    select_rows_kernel(const DeviceSelection<T> s, const Step step) {
  for (int64_t row = first_item(); row < s.rows; row += item_stride()) {
    const bool finite = step_row(s, step, row);
    write_row(s, row, chosen_entry(s, s.a + row * s.options, finite, row, s.options).index);
  }
}

// One warp per node.
template <class T, class Step>
__global__ void __launch_bounds__(kWarp* kWarps, kResident)
    select_nodes_kernel(const DeviceSelection<T> s, const Step step,
                        const __grid_constant__ NodeRange nodes) {
  const int node = static_cast<int>(blockIdx.x * kWarps + threadIdx.y);
  if (node >= nodes.count) return;  // the whole warp
  const int64_t begin = nodes.offsets[node], end = nodes.offsets[node + 1];
  for (int64_t row = begin + threadIdx.x; row < end; row += kWarp) {
    const bool finite = step_row(s, step, row);
    const auto best = chosen_entry(s, s.a + row * s.options, finite, row, s.options);
    s.scores[row] = best.score;
    s.chosen[row] = static_cast<int32_t>(best.index);
  }
  __syncwarp();
  for (int64_t row = begin + threadIdx.x; row < end; row += kWarp) {
    const int64_t option = s.chosen[row];
    const bool kept =
        option < 0 || row_survives(s.scores, s.chosen, begin, end, row, nodes.edges, s.ties);
    write_row(s, row, kept ? option : kPruned);
  }
}

template <class T, class Step>
void launch_nodes(const DeviceSelection<T>& s, const Step& step, const NodeBounds& nodes,
                  stream_t stream) {
  for (int64_t first = 0; first < nodes.count; first += kNodesPerLaunch) {
    NodeRange range;
    const int64_t left = nodes.count - first;
    range.count = static_cast<int>(left < kNodesPerLaunch ? left : kNodesPerLaunch);
    range.edges = nodes.edges;
    for (int i = 0; i <= range.count; ++i) range.offsets[i] = nodes.offsets[first + i];
    NASP_LAUNCH((select_nodes_kernel<T, Step>), grid_for(range.count, kWarps), dim3(kWarp, kWarps),
                0, stream, s, step, range);
  }
}

template <class T, class Step>
void launch_rows(const DeviceSelection<T>& s, const Step& step, bool vectors, stream_t stream) {
  const unsigned grid = grid_for(s.rows, kThreads);
  if (vectors && s.options == 8) {
    NASP_LAUNCH((select_rows_of_8_kernel<T, Step>), grid, kThreads, 0, stream, s, step);
  } else {
    NASP_LAUNCH((select_rows_kernel<T, Step>), grid, kThreads, 0, stream, s, step);
  }
}

}  // namespace
}  // namespace nasp_ext
