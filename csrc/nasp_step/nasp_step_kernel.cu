// SPDX-License-Identifier: MIT
// select_active and nasp_step_ on the device. Without pruning a thread owns a row; with pruning a
// warp owns a node: its rows are chosen first, then compared, in one launch.
#include "nasp_step_kernel.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "../common/launch.cuh"

namespace nasp_ext {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 4;     // nodes of a block: many small blocks for few nodes
constexpr int kResident = 2;  // blocks of a multiprocessor; without it ptxas spills for sm_100
constexpr int kNodesPerLaunch = 256;  // 2 KiB of the 4 KiB of a kernel's parameters

struct NodeRange {
  int64_t offsets[kNodesPerLaunch + 1];
  int count;
  int64_t edges;
};

struct NoStep {};  // select_active: the rows stay as they are

// The updated entry i; moments are read and written only by Adam.
template <class T>
__device__ __forceinline__ T stepped(const DeviceStep<T>& s, T a, T grad, T weight, T cost,
                                     T& exp_avg, T& exp_avg_sq) {
  const T g = full_gradient(s.rule, grad, a, weight, cost);
  return s.exp_avg ? adam_step(s.rule, a, g, exp_avg, exp_avg_sq) : plain_step(s.rule, a, g);
}

template <class T>
__device__ __forceinline__ const T* cost_row(const DeviceStep<T>& s, int64_t row, int64_t options) {
  return s.cost ? s.cost + (s.cost_rows == 1 ? 0 : row * options) : nullptr;
}

// Whether the step of entry i gives a number; nothing is written.
template <class T>
__device__ __forceinline__ bool holds(const DeviceStep<T>& s, T a, T grad, T weight, T cost,
                                      T exp_avg, T exp_avg_sq) {
  const T g = full_gradient(s.rule, grad, a, weight, cost);
  return s.exp_avg ? adam_holds(s.rule, g, exp_avg, exp_avg_sq) : is_finite(g);
}

// Updates a row in memory, or leaves all of it alone and returns false.
template <class T>
__device__ __forceinline__ bool step_row(const DeviceSelection<T>&, const NoStep&, int64_t) {
  return true;
}
template <class T>
__device__ __forceinline__ bool step_row(const DeviceSelection<T>& s, const DeviceStep<T>& step,
                                         int64_t row) {
  const bool* mask = s.mask_row(row);
  const T* cost = cost_row(step, row, s.options);
  bool all_hold = true;
  for (int64_t k = 0; k < s.options; ++k) {
    const int64_t i = row * s.options + k;
    if (mask && !mask[k]) continue;
    all_hold &=
        holds(step, step.a[i], step.grad[i], cost ? s.weight[i] : T(0), cost ? cost[k] : T(0),
              step.exp_avg ? step.exp_avg[i] : T(0), step.exp_avg ? step.exp_avg_sq[i] : T(0));
  }
  if (!all_hold) return false;
  for (int64_t k = 0; k < s.options; ++k) {
    const int64_t i = row * s.options + k;
    if (mask && !mask[k]) continue;
    T exp_avg = step.exp_avg ? step.exp_avg[i] : T(0);
    T exp_avg_sq = step.exp_avg ? step.exp_avg_sq[i] : T(0);
    step.a[i] = stepped(step, step.a[i], step.grad[i], cost ? s.weight[i] : T(0),
                        cost ? cost[k] : T(0), exp_avg, exp_avg_sq);
    if (step.exp_avg) {
      step.exp_avg[i] = exp_avg;
      step.exp_avg_sq[i] = exp_avg_sq;
    }
  }
  return true;
}

// The same for a row of eight, whose new entries are also returned in registers.
template <class T>
__device__ __forceinline__ bool step_row_of_8(const DeviceSelection<T>& s, const NoStep&,
                                              int64_t row, T (&a)[8]) {
  load_row(s.a + row * 8, a);
  return true;
}
template <class T>
__device__ __forceinline__ bool step_row_of_8(const DeviceSelection<T>& s,
                                              const DeviceStep<T>& step, int64_t row, T (&a)[8]) {
  const bool* mask = s.mask_row(row);
  const T* cost = cost_row(step, row, 8);
  T grad[8], weight[8], exp_avg[8] = {}, exp_avg_sq[8] = {};
  load_row(step.a + row * 8, a);
  load_row(step.grad + row * 8, grad);
  if (cost) load_row(s.weight + row * 8, weight);
  if (step.exp_avg) {
    load_row(step.exp_avg + row * 8, exp_avg);
    load_row(step.exp_avg_sq + row * 8, exp_avg_sq);
  }
  bool all_hold = true;
#pragma unroll
  for (int k = 0; k < 8; ++k)
    all_hold &= (mask && !mask[k]) || holds(step, a[k], grad[k], cost ? weight[k] : T(0),
                                            cost ? cost[k] : T(0), exp_avg[k], exp_avg_sq[k]);
  if (!all_hold) return false;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    if (mask && !mask[k]) continue;
    a[k] = stepped(step, a[k], grad[k], cost ? weight[k] : T(0), cost ? cost[k] : T(0), exp_avg[k],
                   exp_avg_sq[k]);
  }
  store_row(step.a + row * 8, a);
  if (step.exp_avg) {
    store_row(step.exp_avg + row * 8, exp_avg);
    store_row(step.exp_avg_sq + row * 8, exp_avg_sq);
  }
  return true;
}

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

template <class T>
void launch_select(const DeviceSelection<T>& s, const NodeBounds& nodes, stream_t stream) {
  if (nodes.count > 0) return launch_nodes(s, NoStep{}, nodes, stream);
  launch_rows(s, NoStep{}, aligned16(s.a) && aligned16(s.weight), stream);
}

template <class T>
void launch_nasp_step(const DeviceSelection<T>& s, const DeviceStep<T>& step,
                      const NodeBounds& nodes, stream_t stream) {
  if (nodes.count > 0) return launch_nodes(s, step, nodes, stream);
  const bool vectors = aligned16(s.a) && aligned16(s.weight) && aligned16(step.grad) &&
                       aligned16(step.exp_avg) && aligned16(step.exp_avg_sq);
  launch_rows(s, step, vectors, stream);
}

#define NASP_INSTANTIATE(T) \
  template void launch_select<T>(const DeviceSelection<T>&, const NodeBounds&, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)
NASP_INSTANTIATE(torch::headeronly::Half)
NASP_INSTANTIATE(torch::headeronly::BFloat16)
#define NASP_INSTANTIATE_STEP(T)                                                     \
  template void launch_nasp_step<T>(const DeviceSelection<T>&, const DeviceStep<T>&, \
                                    const NodeBounds&, stream_t);
NASP_INSTANTIATE_STEP(float)
NASP_INSTANTIATE_STEP(double)

}  // namespace nasp_ext
