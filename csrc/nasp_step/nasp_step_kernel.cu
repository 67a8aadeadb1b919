// SPDX-License-Identifier: MIT
// nasp_step_ on the device: the kernels of select_active, which update a row before they choose.
#include "nasp_step_kernel.h"

#include "../select_active/select_rows.cuh"

namespace nasp_ext {
namespace {

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

}  // namespace

// Updates a row in memory, or leaves all of it alone and returns false.
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
void launch_nasp_step(const DeviceSelection<T>& s, const DeviceStep<T>& step,
                      const NodeBounds& nodes, stream_t stream) {
  if (nodes.count > 0) return launch_nodes(s, step, nodes, stream);
  const bool vectors = aligned16(s.a) && aligned16(s.weight) && aligned16(step.grad) &&
                       aligned16(step.exp_avg) && aligned16(step.exp_avg_sq);
  launch_rows(s, step, vectors, stream);
}

#define NASP_INSTANTIATE(T)                                                          \
  template void launch_nasp_step<T>(const DeviceSelection<T>&, const DeviceStep<T>&, \
                                    const NodeBounds&, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)

}  // namespace nasp_ext
