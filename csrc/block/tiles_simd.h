// SPDX-License-Identifier: MIT
// The register tiles that all the time of a block goes into: depthwise taps, products with a
// matrix, outer products. A vector is a run of channels of one pixel.
#pragma once

#include "../core/vector.h"
#include "block_images.h"

namespace nasp_ext {
namespace NASP_ISA {

// Pixels per tile beside so many vectors of channels: the sums, one row of weights and a broadcast
// fill the registers.
template <int kVectors>
constexpr int kTilePixels = kManyRegisters ? (kVectors == 4 ? 4 : 8) : 8 / kVectors;
constexpr int kMostVectors = kManyRegisters ? 4 : 2;
constexpr int kDepthwisePixels = kManyRegisters ? 8 : 4;

// body(first vector, Count<vectors>) over all vectors of a pixel's channels.
template <class Body>
NASP_INLINE void for_vectors(int64_t vectors, const Body& body) {
  for_tiles<kMostVectors>(vectors, body);
}

// One vector of channels of kTile output pixels of a row: sum over kKernel x kKernel taps. A row of
// input pixels is loaded once for all taps that read it.
template <int kKernel, int kStride, int kDilation, int kTile, class T>
NASP_INLINE void depthwise_tile(const T* input, int64_t tap_row, const T* weights,
                                Vec<T> (&sum)[kTile]) {
  constexpr int kReach = (kTile - 1) * kStride + (kKernel - 1) * kDilation + 1;
  for (int t = 0; t < kTile; ++t) sum[t] = Vec<T>{};
#pragma GCC unroll 1
  for (int i = 0; i < kKernel; ++i) {
    Vec<T> x[kReach];
#pragma GCC unroll 32
    for (int p = 0; p < kReach; ++p) x[p] = load(input + p * kLanes<T>);
#pragma GCC unroll 7
    for (int j = 0; j < kKernel; ++j) {
      const Vec<T> weight = load(weights + j * kLanes<T>);
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) sum[t] = fma(x[t * kStride + j * kDilation], weight, sum[t]);
    }
    input += tap_row;
    weights += kKernel * kLanes<T>;
  }
}

// The same for any stride and dilation.
template <int kKernel, int kTile, class T>
NASP_INLINE void depthwise_tile(const T* input, int64_t tap_row, int64_t stride, int64_t dilation,
                                const T* weights, Vec<T> (&sum)[kTile]) {
  for (int t = 0; t < kTile; ++t) sum[t] = Vec<T>{};
  for (int i = 0; i < kKernel; ++i)
    for (int j = 0; j < kKernel; ++j)
      for (int t = 0; t < kTile; ++t)
        sum[t] = fma(load(input + i * tap_row + (t * stride + j * dilation) * kLanes<T>),
                     load(weights + (i * kKernel + j) * kLanes<T>), sum[t]);
}

// One vector of channels of a row of output pixels; finish(first pixel, sums, Count<pixels>).
// tap_row: from a row of taps to the next; stride and dilation: of the columns.
template <int kKernel, class T, class Finish>
NASP_INLINE void depthwise_row(const T* input, int64_t tap_row, int64_t stride, int64_t dilation,
                               const T* weights, int64_t width, const Finish& finish) {
  const auto tiles = [&](auto most, const auto& sums) __attribute__((always_inline)) {
    for_tiles<most.value>(width, [&](int64_t w, auto tile) __attribute__((always_inline)) {
      Vec<T> sum[tile.value];
      sums(input + w * stride * kLanes<T>, sum);
      finish(w, sum, tile);
    });
  };
  using Most = Count<kDepthwisePixels>;
  if (stride == 1 && dilation == 1)
    tiles(Most{}, [&](const T* x, auto& sum) __attribute__((always_inline)) {
      depthwise_tile<kKernel, 1, 1>(x, tap_row, weights, sum);
    });
  else if (stride == 1 && dilation == 2)
    tiles(Most{}, [&](const T* x, auto& sum) __attribute__((always_inline)) {
      depthwise_tile<kKernel, 1, 2>(x, tap_row, weights, sum);
    });
  else if (stride == 2 && dilation == 1)
    tiles(Count<4>{}, [&](const T* x, auto& sum) __attribute__((always_inline)) {
      depthwise_tile<kKernel, 2, 1>(x, tap_row, weights, sum);
    });
  else
    tiles(Count<4>{}, [&](const T* x, auto& sum) __attribute__((always_inline)) {
      depthwise_tile<kKernel>(x, tap_row, stride, dilation, weights, sum);
    });
}

// A factor of products, channels in blocks: pixel p, channel i is at block (i / lanes), p * pitch +
// i % lanes. kPitch: the pitch in lanes if it is known, else 0.
template <class T, int kPitch = 1>
struct Factor {
  const T* data;
  int64_t block, runtime_pitch;

  NASP_INLINE int64_t pitch() const { return kPitch ? kPitch * kLanes<T> : runtime_pitch; }
  NASP_INLINE Factor at(int64_t pixel) const {
    return {data + pixel * pitch(), block, runtime_pitch};
  }
};

// sum[t][v] += sum_i a[t][i] * weights[i * weights_row + v]
template <int kPixels, int kVectors, class T, int kPitch>
NASP_INLINE void multiply_tile(Factor<T, kPitch> a, int64_t depth, const T* weights,
                               int64_t weights_row, Vec<T> (&sum)[kPixels][kVectors]) {
  const int64_t pitch = a.pitch();
  for (int64_t first = 0; first < depth; first += kLanes<T>) {
    const int64_t count = depth - first < kLanes<T> ? depth - first : kLanes<T>;
#pragma GCC unroll 4
    for (int64_t i = 0; i < count; ++i) {
      Vec<T> w[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) w[v] = load(weights + v * kLanes<T>);
#pragma GCC unroll 16
      for (int t = 0; t < kPixels; ++t) {
        const Vec<T> b = splat(a.data[t * pitch + i]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[t][v] = fma(b, w[v], sum[t][v]);
      }
      weights += weights_row;
    }
    a.data += a.block;
  }
}

// out[i * out_row + v] += sum_p a[p][i] * g[v][p]; a: the lanes of one block from some channel on.
template <int kRows, int kVectors, class T>
NASP_INLINE void outer_tile(const T* a, int64_t pitch, const T* g, int64_t g_block, int64_t pixels,
                            T* out, int64_t out_row) {
  Vec<T> sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v) sum[i][v] = load(out + i * out_row + v * kLanes<T>);
  for (int64_t p = 0; p < pixels; ++p) {
    Vec<T> q[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) q[v] = load(g + v * g_block);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Vec<T> b = splat(a[i]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[i][v] = fma(b, q[v], sum[i][v]);
    }
    a += pitch;
    g += kLanes<T>;
  }
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v) store(out + i * out_row + v * kLanes<T>, sum[i][v]);
}

// The gradient of kRows rows of a depthwise kernel, from one row of pixels:
// sum[i][j] += grad[w] * input[w * stride + i * tap_row + j * dilation].
template <int kKernel, int kRows, class T>
NASP_INLINE void depthwise_gradient_row(const T* input, int64_t tap_row, int64_t stride,
                                        int64_t dilation, const T* grad, int64_t width,
                                        Vec<T> (&sum)[kRows][kKernel]) {
  const auto pixels = [&](auto step, auto apart) __attribute__((always_inline)) {
    const int64_t each = step.value ? step.value : stride,
                  tap = apart.value ? apart.value : dilation;
    const T *x = input, *g = grad;
    for (int64_t w = 0; w < width; ++w) {
      const Vec<T> gradient = load(g);
#pragma GCC unroll 7
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 7
        for (int j = 0; j < kKernel; ++j)
          sum[i][j] = fma(gradient, load(x + i * tap_row + j * tap * kLanes<T>), sum[i][j]);
      }
      x += each * kLanes<T>;
      g += each * kLanes<T>;
    }
  };
  if (stride == 1 && dilation == 1)
    pixels(Count<1>{}, Count<1>{});
  else if (stride == 1 && dilation == 2)
    pixels(Count<1>{}, Count<2>{});
  else
    pixels(Count<0>{}, Count<0>{});
}

// body(Count<kernel>) with the size of a square kernel as a constant; sizes up to 7.
template <class Body>
NASP_INLINE void with_kernel(int64_t kernel, const Body& body) {
  switch (kernel) {
    case 1:
      return body(Count<1>{});
    case 3:
      return body(Count<3>{});
    case 5:
      return body(Count<5>{});
    case 7:
      return body(Count<7>{});
    default:
      return;  // the caller admits no other
  }
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
