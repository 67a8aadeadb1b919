// SPDX-License-Identifier: MIT
// prox_c, prox_c1 and prox_c2 on the device. Rows of eight options, the usual case, are read by one
// thread each in 16-byte pieces; other rows by a group of lanes, so that accesses coalesce.
#include "prox_kernel.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "../core/launch.cuh"

namespace nasp_ext {
namespace {

template <class Prox, class T>
__global__ void __launch_bounds__(kThreads) project_rows_of_8_kernel(const DeviceProjection<T> p) {
  for (int64_t row = first_item(); row < p.rows; row += item_stride()) {
    T entries[8];
    load_row(p.a + row * 8, entries);
    const int64_t index = select_entry<Prox>(entries, p.mask_row(row), 8, p.ties, row).index;
#pragma unroll
    for (int k = 0; k < 8; ++k) entries[k] = projected_entry<Prox>(entries[k], k, index);
    store_row(p.values + row * 8, entries);
    p.index[row] = index;
  }
}

// The best candidate of `lanes` neighbouring lanes, in each of them.
template <class Acc>
__device__ __forceinline__ Candidate<Acc> best_of_group(Candidate<Acc> best, int lanes,
                                                        bool random_ties) {
  for (int step = lanes / 2; step > 0; step /= 2) {
    Candidate<Acc> other = best;
    other.score = __shfl_xor_sync(kAllLanes, best.score, step);
    other.index = __shfl_xor_sync(kAllLanes, best.index, step);
    if (random_ties) other.key = __shfl_xor_sync(kAllLanes, best.key, step);
    best = better(best, other);
  }
  return best;
}

// `lanes`: a power of two, at most 32.
template <class Prox, class T>
__global__ void __launch_bounds__(kThreads)
    project_rows_kernel(const DeviceProjection<T> p, const int lanes) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t rows_per_block = static_cast<int>(blockDim.x) / lanes;
  for (int64_t first = blockIdx.x * rows_per_block; first < p.rows;
       first += gridDim.x * rows_per_block) {
    const int64_t row = first + static_cast<int>(threadIdx.x) / lanes;
    const bool inside = row < p.rows;
    const bool* mask = inside ? p.mask_row(row) : nullptr;
    auto best = no_candidate<accumulate_t<T>>();
    for (int64_t k = lane; inside && k < p.options; k += lanes) {
      const T a = p.a[row * p.options + k];
      best = better(best, entry_candidate<Prox>(a, !mask || mask[k], p.ties, row, k));
    }
    best = best_of_group(best, lanes, p.ties.random);  // all lanes of the warp take part
    for (int64_t k = lane; inside && k < p.options; k += lanes) {
      const int64_t i = row * p.options + k;
      p.values[i] = projected_entry<Prox>(p.a[i], k, best.index);
    }
    if (inside && lane == 0) p.index[row] = best.index;
  }
}

template <class T>
__device__ __forceinline__ T clipped(T a) {
  return static_cast<T>(clip01(static_cast<accumulate_t<T>>(a)));
}

template <class T>
__global__ void __launch_bounds__(kThreads) clip_vectors_kernel(const Clip<T> c) {
  constexpr int kWidth = kVectorWidth<T>;
  const int64_t vectors = c.count / kWidth;
  for (int64_t i = first_item(); i < vectors; i += item_stride()) {
    Vector<T, kWidth> v = load<kWidth>(c.a + i * kWidth);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v.value[k] = clipped(v.value[k]);
    store(c.values + i * kWidth, v);
  }
  const int64_t rest = vectors * kWidth + first_item();
  if (rest < c.count) c.values[rest] = clipped(c.a[rest]);
}

template <class T>
__global__ void __launch_bounds__(kThreads) clip_kernel(const Clip<T> c) {
  for (int64_t i = first_item(); i < c.count; i += item_stride()) {
    const bool exists = !c.mask || c.mask[i % c.mask_count];
    c.values[i] = exists ? clipped(c.a[i]) : static_cast<T>(0.0f);
  }
}

int group_lanes(int64_t options) {
  int lanes = 1;
  while (lanes < options && lanes < 32) lanes *= 2;
  return lanes;
}

}  // namespace

template <class Prox, class T>
void launch_projection(const DeviceProjection<T>& p, stream_t stream) {
  if (p.options == 8 && aligned16(p.a) && aligned16(p.values)) {
    const unsigned grid = grid_for(p.rows, kThreads);
    NASP_LAUNCH((project_rows_of_8_kernel<Prox, T>), grid, kThreads, 0, stream, p);
  } else {
    const int lanes = group_lanes(p.options);
    const unsigned grid = grid_for(p.rows, kThreads / lanes);
    NASP_LAUNCH((project_rows_kernel<Prox, T>), grid, kThreads, 0, stream, p, lanes);
  }
}

template <class T>
void launch_clip(const Clip<T>& c, stream_t stream) {
  if (!c.mask && aligned16(c.a) && aligned16(c.values)) {
    const unsigned grid = grid_for(c.count, int64_t{kThreads} * kVectorWidth<T>);
    NASP_LAUNCH(clip_vectors_kernel<T>, grid, kThreads, 0, stream, c);
  } else {
    NASP_LAUNCH(clip_kernel<T>, grid_for(c.count, kThreads), kThreads, 0, stream, c);
  }
}

#define NASP_INSTANTIATE(T)                                                         \
  template void launch_projection<ProxC, T>(const DeviceProjection<T>&, stream_t);  \
  template void launch_projection<ProxC1, T>(const DeviceProjection<T>&, stream_t); \
  template void launch_clip<T>(const Clip<T>&, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)
NASP_INSTANTIATE(torch::headeronly::Half)
NASP_INSTANTIATE(torch::headeronly::BFloat16)

}  // namespace nasp_ext
