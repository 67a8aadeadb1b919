// SPDX-License-Identifier: MIT
// The passes of a recurrent cell on the device: a node of one time step is one launch, with what
// stands between it and its product before and after.
#include "recurrent_kernel.h"

#include "stripe.cuh"

namespace nasp_ext {
namespace {

// z of a group of rows.
template <class T, int kAtOnce>
__device__ __forceinline__ void add_terms(const NodeForward<T>& n, const Stripe<kAtOnce>& stripe,
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
    stripe.for_group(first, [&](int r, int64_t, int64_t) {
      z[r] += coefficient * term_forward(s[r], c[r], h[r], term.f);
    });
  }
}

template <class T>
__device__ __forceinline__ void write_output(const OutputForward<T>& o, int64_t i, T sum) {
  const T mean = sum / static_cast<T>(o.count);
  if (o.out != nullptr) o.out[i] = mean;
  if (o.entered != nullptr) o.entered[i] = mean * o.mask[i];
}

template <class T, int kAtOnce>
__device__ __forceinline__ void mean_of_states(const OutputForward<T>& o,
                                               const Stripe<kAtOnce>& stripe, int64_t first) {
  T sum[kAtOnce] = {};
  for (int k = 0; k < o.count; ++k) {
    const T* const state = o.states[k];
    stripe.for_group(first, [&](int r, int64_t i, int64_t) { sum[r] += state[i]; });
  }
  stripe.for_group(first, [&](int r, int64_t i, int64_t) { write_output(o, i, sum[r]); });
}

// With o.count = 0 no output follows. Two thread blocks on a multiprocessor, here and below, leave
// registers for no spills.
template <class T, int kAtOnce>
__global__ void __launch_bounds__(kStripeThreads, 2)
    node_forward_kernel(const __grid_constant__ NodeForward<T> n,
                        const __grid_constant__ OutputForward<T> o) {
  NASP_SHARED(T, of_values, kSlots);
  NASP_SHARED(T, of_squares, kSlots);
  const Stripe<kAtOnce> stripe(n.batch, n.size);
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
template <class T, int kAtOnce>
__device__ __forceinline__ void spread(const NodeBackward<T>& n, const Stripe<kAtOnce>& stripe,
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
template <class T, int kAtOnce>
__global__ void __launch_bounds__(kStripeThreads, 2)
    node_backward_kernel(const __grid_constant__ NodeBackward<T> n,
                         const __grid_constant__ OutputBackward<T> o) {
  NASP_SHARED(T, of_grads, kSlots);
  NASP_SHARED(T, of_products, kSlots);
  const Stripe<kAtOnce> stripe(n.batch, n.size);
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

unsigned stripes_of(int64_t size) { return static_cast<unsigned>((size + kAcross - 1) / kAcross); }

// Whole warps, no more than there are rows for.
int stripe_threads(int64_t batch) {
  const int64_t threads = (batch * kAcross + kWarp - 1) / kWarp * kWarp;
  return static_cast<int>(threads < kStripeThreads ? threads : kStripeThreads);
}

template <int kAtOnce, class T>
void launch_forward(const NodeForward<T>& n, const OutputForward<T>& o, stream_t stream) {
  NASP_LAUNCH((node_forward_kernel<T, kAtOnce>), stripes_of(n.size), stripe_threads(n.batch), 0,
              stream, n, o);
}

template <int kAtOnce, class T>
void launch_backward(const NodeBackward<T>& n, const OutputBackward<T>& o, stream_t stream) {
  NASP_LAUNCH((node_backward_kernel<T, kAtOnce>), stripes_of(n.size), stripe_threads(n.batch), 0,
              stream, n, o);
}

}  // namespace

// A thread that has one row at most is spared the loops over several.
template <class T>
void launch_node_forward(const NodeForward<T>& node, const OutputForward<T>* output,
                         stream_t stream) {
  const OutputForward<T> follows = output == nullptr ? OutputForward<T>{} : *output;
  if (node.batch <= kDown)
    launch_forward<1>(node, follows, stream);
  else
    launch_forward<kMostAtOnce>(node, follows, stream);
}

template <class T>
void launch_node_backward(const NodeBackward<T>& node, const OutputBackward<T>* output,
                          stream_t stream) {
  const OutputBackward<T> precedes = output == nullptr ? OutputBackward<T>{} : *output;
  if (node.batch <= kDown)
    launch_backward<1>(node, precedes, stream);
  else
    launch_backward<kMostAtOnce>(node, precedes, stream);
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

#define NASP_INSTANTIATE(T)                                                                       \
  template void launch_node_forward<T>(const NodeForward<T>&, const OutputForward<T>*, stream_t); \
  template void launch_node_backward<T>(const NodeBackward<T>&, const OutputBackward<T>*,         \
                                        stream_t);                                                \
  template void launch_output_forward<T>(const OutputForward<T>&, stream_t);                      \
  template void launch_output_backward<T>(const OutputBackward<T>&, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)

}  // namespace nasp_ext
