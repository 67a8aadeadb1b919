// SPDX-License-Identifier: MIT
// The passes of a recurrent cell on the device. A node of one time step is one launch: a thread
// block has kAcross neighbouring channels and all rows of the batch, so the statistics of the BN
// stay within it and need neither atomics nor a second kernel. A number is read and written by one
// thread alone, so what a thread writes it may read again.
#include "recurrent_kernel.h"

#include "../core/launch.cuh"

namespace nasp_ext {
namespace {

constexpr int kWarp = 32;
constexpr int kAcross = 8;  // a sector of 32 bytes in float
constexpr int kDown = 64;   // most threads that share a channel
constexpr int kStripeThreads = kAcross * kDown;
constexpr int kAtOnce = 4;  // rows of a thread whose loads are under way together: 256 rows in all
constexpr int kSlots = kStripeThreads / kWarp * kAcross;  // a sum of each warp for each channel

// The channels of a thread block, and the rows of a thread.
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
  // body(Rows) for groups of kAtOnce rows.
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

// The sum over the rows of a channel, in a fixed order, for all its threads. scratch: (kSlots,),
// of this sum alone.
template <class T>
__device__ __forceinline__ T add_rows(T value, T* scratch) {
#pragma unroll
  for (int lanes = kAcross; lanes < kWarp; lanes *= 2)
    value += __shfl_xor_sync(kAllLanes, value, lanes);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  if (lane < kAcross) scratch[threadIdx.x / kWarp * kAcross + lane] = value;
  __syncthreads();
  T sum = T(0);
  for (int w = 0; w < warps; ++w) sum += scratch[w * kAcross + lane % kAcross];
  return sum;
}

// z of a group of rows.
template <class T>
__device__ __forceinline__ void add_terms(const NodeForward<T>& n, const Stripe& stripe,
                                          int64_t first, T (&z)[kAtOnce]) {
  for (int k = 0; k < n.count; ++k) {
    const TermForward<T>& term = n.terms[k];
    const T coefficient = term.coefficient == nullptr ? T(1) : *term.coefficient;
    T s[kAtOnce] = {}, c[kAtOnce] = {}, h[kAtOnce] = {};
    stripe.for_group(first, [&](int r, int64_t i, int64_t gate) {
      s[r] = term.source[i];
      c[r] = term.products[gate];
      h[r] = term.products[gate + n.size];
    });
#pragma unroll
    for (int r = 0; r < kAtOnce; ++r) z[r] += coefficient * term_forward(s[r], c[r], h[r], term.f);
  }
}

template <class T>
__device__ __forceinline__ void write_output(const OutputForward<T>& o, int64_t i, T sum) {
  const T mean = sum / static_cast<T>(o.count);
  if (o.out != nullptr) o.out[i] = mean;
  if (o.entered != nullptr) o.entered[i] = mean * o.mask[i];
}

template <class T>
__device__ __forceinline__ void mean_of_states(const OutputForward<T>& o, const Stripe& stripe,
                                               int64_t first) {
  T sum[kAtOnce] = {};
  for (int k = 0; k < o.count; ++k) {
    const T* const state = o.states[k];
    stripe.for_group(first, [&](int r, int64_t i, int64_t) { sum[r] += state[i]; });
  }
  stripe.for_group(first, [&](int r, int64_t i, int64_t) { write_output(o, i, sum[r]); });
}

// With o.count = 0 no output follows.
template <class T>
__global__ void __launch_bounds__(kStripeThreads)
    node_forward_kernel(const __grid_constant__ NodeForward<T> n,
                        const __grid_constant__ OutputForward<T> o) {
  NASP_SHARED(T, of_values, kSlots);
  NASP_SHARED(T, of_squares, kSlots);
  const Stripe stripe(n.batch, n.size);
  const bool exists = stripe.channel < n.size;
  BareNorm<T> norm;
  const auto finish = [&](int64_t first, const T(&z)[kAtOnce]) {
    stripe.for_group(first, [&](int r, int64_t i, int64_t) {
      const T state = n.norm.exists ? norm.forward(z[r]) : z[r];
      n.state[i] = state;
      if (n.masked != nullptr) n.masked[i] = state * n.mask[i];
    });
    if (o.count > 0) mean_of_states(o, stripe, first);
  };
  if (!n.norm.of_batch()) {
    if (n.norm.exists && exists)
      norm = BareNorm<T>(n.norm.mean[stripe.channel], n.norm.var[stripe.channel], n.norm.eps);
    stripe.for_rows([&](int64_t first) {
      T z[kAtOnce] = {};
      add_terms(n, stripe, first, z);
      finish(first, z);
    });
    return;
  }
  T sum = T(0);
  stripe.for_rows([&](int64_t first) {
    T z[kAtOnce] = {};
    add_terms(n, stripe, first, z);
    stripe.for_group(first, [&](int r, int64_t i, int64_t) {
      n.state[i] = z[r];
      sum += z[r];
    });
  });
  const T mean = add_rows(sum, of_values) / static_cast<T>(n.batch);
  T squares = T(0);
  stripe.for_rows([&](int64_t first) {
    stripe.for_group(first, [&](int, int64_t i, int64_t) {
      const T apart = n.state[i] - mean;
      squares += apart * apart;
    });
  });
  const T var = add_rows(squares, of_squares) / static_cast<T>(n.batch);
  norm = BareNorm<T>(mean, var, n.norm.eps);
  if (exists && threadIdx.x < kAcross) {
    n.norm.batch[stripe.channel] = mean;
    n.norm.batch[n.size + stripe.channel] = var;
  }
  stripe.for_rows([&](int64_t first) {
    T z[kAtOnce] = {};
    stripe.for_group(first, [&](int r, int64_t i, int64_t) { z[r] = n.state[i]; });
    finish(first, z);
  });
}

// Of a gradient: what is not null, added.
template <class T>
__device__ __forceinline__ T arriving(const T* outside, const T* direct, const T* through,
                                      const T* mask, int64_t i) {
  T sum = outside == nullptr ? T(0) : outside[i];
  if (direct != nullptr) sum += direct[i];
  if (through != nullptr) sum += mask == nullptr ? through[i] : through[i] * mask[i];
  return sum;
}

template <class T>
__device__ __forceinline__ void share_of(const OutputBackward<T>& o, int64_t i) {
  o.share[i] = o.scale * arriving(o.grad, o.direct, o.through, o.mask, i);
}

// The gradients of the terms of a group of rows.
template <class T>
__device__ __forceinline__ void spread(const NodeBackward<T>& n, const Stripe& stripe,
                                       int64_t first, const T (&dz)[kAtOnce]) {
  for (int k = 0; k < n.count; ++k) {
    const TermBackward<T>& term = n.terms[k];
    const T coefficient = term.coefficient == nullptr ? T(1) : *term.coefficient;
    const bool adds = term.direct != nullptr && !term.first;
    T s[kAtOnce] = {}, c[kAtOnce] = {}, h[kAtOnce] = {}, before[kAtOnce] = {};
    stripe.for_group(first, [&](int r, int64_t i, int64_t gate) {
      s[r] = term.source[i];
      c[r] = term.products[gate];
      h[r] = term.products[gate + n.size];
      if (adds) before[r] = term.direct[i];
    });
    stripe.for_group(first, [&](int r, int64_t i, int64_t gate) {
      const auto grad = term_backward(coefficient * dz[r], s[r], c[r], h[r], term.f);
      term.grad_products[gate] = grad.c;
      term.grad_products[gate + n.size] = grad.h;
      if (term.direct != nullptr) term.direct[i] = adds ? before[r] + grad.state : grad.state;
    });
  }
}

// With o.share null no output precedes.
template <class T>
__global__ void __launch_bounds__(kStripeThreads)
    node_backward_kernel(const __grid_constant__ NodeBackward<T> n,
                         const __grid_constant__ OutputBackward<T> o) {
  NASP_SHARED(T, of_grads, kSlots);
  NASP_SHARED(T, of_products, kSlots);
  const Stripe stripe(n.batch, n.size);
  const bool exists = stripe.channel < n.size;
  const auto read = [&](int64_t first, T(&ds)[kAtOnce]) {
    if (o.share != nullptr)
      stripe.for_group(first, [&](int, int64_t i, int64_t) { share_of(o, i); });
    stripe.for_group(first, [&](int r, int64_t i, int64_t) {
      ds[r] = arriving(n.share, n.direct, n.through, n.mask, i);
    });
  };
  if (!n.norm.of_batch()) {
    BareNorm<T> norm;
    if (n.norm.exists && exists) norm = BareNorm<T>(T(0), n.norm.var[stripe.channel], n.norm.eps);
    stripe.for_rows([&](int64_t first) {
      T dz[kAtOnce] = {};
      read(first, dz);
      stripe.for_group(first, [&](int r, int64_t i, int64_t) {
        dz[r] *= norm.rstd;
        if (n.grad_z != nullptr) n.grad_z[i] = dz[r];
      });
      spread(n, stripe, first, dz);
    });
    return;
  }
  T sum = T(0), dot = T(0);
  stripe.for_rows([&](int64_t first) {
    T ds[kAtOnce] = {};
    read(first, ds);
    stripe.for_group(first, [&](int r, int64_t i, int64_t) {
      n.grad_z[i] = ds[r];
      sum += ds[r];
      dot += ds[r] * n.state[i];
    });
  });
  const T count = static_cast<T>(n.batch);
  const T mean_grad = add_rows(sum, of_grads) / count;
  const T mean_product = add_rows(dot, of_products) / count;
  BareNorm<T> norm;
  if (exists) norm = BareNorm<T>(T(0), n.norm.batch[n.size + stripe.channel], n.norm.eps);
  stripe.for_rows([&](int64_t first) {
    T dz[kAtOnce] = {};
    stripe.for_group(first, [&](int r, int64_t i, int64_t) {
      dz[r] = norm.backward(n.grad_z[i], n.state[i], mean_grad, mean_product);
    });
    stripe.for_group(first, [&](int r, int64_t i, int64_t) { n.grad_z[i] = dz[r]; });
    spread(n, stripe, first, dz);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    output_forward_kernel(const __grid_constant__ OutputForward<T> o) {
  for (int64_t i = first_item(); i < o.batch * o.size; i += item_stride()) {
    T sum = T(0);
    for (int k = 0; k < o.count; ++k) sum += o.states[k][i];
    write_output(o, i, sum);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    output_backward_kernel(const __grid_constant__ OutputBackward<T> o) {
  for (int64_t i = first_item(); i < o.batch * o.size; i += item_stride()) share_of(o, i);
}

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

unsigned stripes_of(int64_t size) { return static_cast<unsigned>((size + kAcross - 1) / kAcross); }

// Whole warps, no more than there are rows for.
int stripe_threads(int64_t batch) {
  const int64_t threads = (batch * kAcross + kWarp - 1) / kWarp * kWarp;
  return static_cast<int>(threads < kStripeThreads ? threads : kStripeThreads);
}

}  // namespace

template <class T>
void launch_node_forward(const NodeForward<T>& node, const OutputForward<T>* output,
                         stream_t stream) {
  NASP_LAUNCH(node_forward_kernel<T>, stripes_of(node.size), stripe_threads(node.batch), 0, stream,
              node, output == nullptr ? OutputForward<T>{} : *output);
}

template <class T>
void launch_node_backward(const NodeBackward<T>& node, const OutputBackward<T>* output,
                          stream_t stream) {
  NASP_LAUNCH(node_backward_kernel<T>, stripes_of(node.size), stripe_threads(node.batch), 0, stream,
              node, output == nullptr ? OutputBackward<T>{} : *output);
}

template <class T>
void launch_output_forward(const OutputForward<T>& output, stream_t stream) {
  NASP_LAUNCH(output_forward_kernel<T>, grid_for(output.batch * output.size, kThreads), kThreads, 0,
              stream, output);
}

template <class T>
void launch_output_backward(const OutputBackward<T>& output, stream_t stream) {
  NASP_LAUNCH(output_backward_kernel<T>, grid_for(output.batch * output.size, kThreads), kThreads,
              0, stream, output);
}

template <class T>
void launch_row_dots(const RowDots<T>& d, double* parts, stream_t stream) {
  const int64_t tiles = (d.rows * d.size + kDotTile - 1) / kDotTile;
  const int blocks = static_cast<int>(tiles < kDotParts ? tiles : kDotParts);
  NASP_LAUNCH(row_dots_kernel<T>, blocks, kThreads, 0, stream, d, parts);
  NASP_LAUNCH(row_dot_totals_kernel, kNonlinearities, kWarp, 0, stream, parts, blocks, d.sums);
}

#define NASP_INSTANTIATE(T)                                                                       \
  template void launch_node_forward<T>(const NodeForward<T>&, const OutputForward<T>*, stream_t); \
  template void launch_node_backward<T>(const NodeBackward<T>&, const OutputBackward<T>*,         \
                                        stream_t);                                                \
  template void launch_output_forward<T>(const OutputForward<T>&, stream_t);                      \
  template void launch_output_backward<T>(const OutputBackward<T>&, stream_t);                    \
  template void launch_row_dots<T>(const RowDots<T>&, double*, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)

}  // namespace nasp_ext
