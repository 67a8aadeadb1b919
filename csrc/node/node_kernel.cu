// SPDX-License-Identifier: MIT
// Node sums on the device: neighbouring threads have neighbouring channels.
#include "node_kernel.h"

#include "../core/channels.cuh"

namespace nasp_ext {
namespace {

constexpr int kAtOnce =
    8;  // pixels of a thread: loads under way while a term's scale is in registers

template <class T>
__device__ __forceinline__ T factor_of(const NodeTerms<T>& n, int e, int64_t pixel) {
  return n.factors == nullptr ? T(1) : n.factors[e * n.images + pixel / n.pixels_of_image];
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    node_sum_kernel(const __grid_constant__ NodeTerms<T> n, T* out, int64_t out_pitch,
                    const T* base, int64_t base_pitch) {
  const ChannelThreads t(static_cast<int>(blockIdx.y) * kThreads, n.channels);
  const int c = t.channel;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * t.threads * kAtOnce + t.turn;
  if (!t.works) return;
  T sum[kAtOnce] = {};
#pragma unroll
  for (int i = 0; i < kAtOnce; ++i) {
    const int64_t pixel = first + i * t.threads;
    if (base != nullptr && pixel < n.pixels) sum[i] = base[pixel * base_pitch + c];
  }
  for (int e = 0; e < n.count; ++e) {
    const NodeTerm<T>& term = n.term[e];
    const T scale = term.norm == nullptr ? T(1) : term.norm[3 * n.channels + c];
    const T shift = term.norm == nullptr ? T(0) : term.norm[4 * n.channels + c];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t pixel = first + i * t.threads;
      if (pixel >= n.pixels) continue;
      const T factor = factor_of(n, e, pixel);
      sum[i] = multiply_add(term.z[pixel * term.pitch + c], factor * scale,
                            multiply_add(factor, shift, sum[i]));
    }
  }
#pragma unroll
  for (int i = 0; i < kAtOnce; ++i) {
    const int64_t pixel = first + i * t.threads;
    if (pixel < n.pixels) out[pixel * out_pitch + c] = sum[i];
  }
}

// A row of the grid for each term.
template <class T>
__global__ void __launch_bounds__(kThreads)
    node_gradient_sums_kernel(const __grid_constant__ NodeTerms<T> n, const T* grad,
                              int64_t grad_pitch, T* sums) {
  NASP_SHARED(T, scratch, kThreads);
  const int e = static_cast<int>(blockIdx.y);
  const NodeTerm<T>& term = n.term[e];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kNodeTile;
  const int64_t end = first + kNodeTile < n.pixels ? first + kNodeTile : n.pixels;
  T* const rows = sums + (static_cast<int64_t>(blockIdx.x) * n.count + e) * 2 * n.channels;
  for (int c0 = 0; c0 < n.channels; c0 += kThreads) {
    const ChannelThreads t(c0, n.channels);
    const int c = t.channel;
    const T mean = term.norm == nullptr ? T(0) : term.norm[c];
    const T rstd = term.norm == nullptr ? T(1) : term.norm[2 * n.channels + c];
    T sum = T(0), dot = T(0);
    for (int64_t pixel = first + t.turn; t.works && pixel < end; pixel += t.threads) {
      const T g = factor_of(n, e, pixel) * grad[pixel * grad_pitch + c];
      sum += g;
      dot = multiply_add(g, term.z[pixel * term.pitch + c] - mean, dot);
    }
    const T of_grad = t.add(sum, scratch), of_product = t.add(dot, scratch);
    if (t.turn > 0) continue;
    rows[c] = of_grad;
    rows[n.channels + c] = of_product * rstd;
  }
}

}  // namespace

template <class T>
void launch_node_sum(const NodeTerms<T>& terms, T* out, int64_t out_pitch, const T* base,
                     int64_t base_pitch, stream_t stream) {
  const int depth = terms.channels < kThreads ? terms.channels : kThreads;
  const int64_t of_block = kThreads / depth * kAtOnce;
  const dim3 grid(static_cast<unsigned>((terms.pixels + of_block - 1) / of_block),
                  static_cast<unsigned>((terms.channels + kThreads - 1) / kThreads));
  NASP_LAUNCH(node_sum_kernel<T>, grid, kThreads, 0, stream, terms, out, out_pitch, base,
              base_pitch);
}

template <class T>
void launch_node_gradient_sums(const NodeTerms<T>& terms, const T* grad, int64_t grad_pitch,
                               T* sums, stream_t stream) {
  const dim3 grid(static_cast<unsigned>((terms.pixels + kNodeTile - 1) / kNodeTile),
                  static_cast<unsigned>(terms.count));
  NASP_LAUNCH(node_gradient_sums_kernel<T>, grid, kThreads, 0, stream, terms, grad, grad_pitch,
              sums);
}

#define NASP_INSTANTIATE(T)                                                                        \
  template void launch_node_sum<T>(const NodeTerms<T>&, T*, int64_t, const T*, int64_t, stream_t); \
  template void launch_node_gradient_sums<T>(const NodeTerms<T>&, const T*, int64_t, T*, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)

}  // namespace nasp_ext
