// SPDX-License-Identifier: MIT
// The register tiles that all the time of a block goes into: depthwise taps, products with a matrix,
// outer products. A vector is a run of channels of one pixel.
#pragma once

#include "../simd/vector.h"
#include "block.h"

namespace nasp_ext {
namespace NASP_ISA {

// Pixels per tile beside so many vectors of channels: the sums, one row of weights and a broadcast
// fill the registers.
template <int kVectors>
constexpr int kTilePixels = kManyRegisters ? (kVectors == 1 ? 16 : kVectors == 2 ? 8 : 4)
                                           : (kVectors == 1 ? 8 : kVectors == 2 ? 4 : 2);
constexpr int kMostVectors = kManyRegisters ? 4 : 2;
constexpr int kDepthwisePixels = 8;

// body(first vector, Count<vectors>) over all vectors of a pixel's channels.
template <class Body>
NASP_INLINE void for_vectors(int64_t vectors, const Body& body) {
  for_tiles<kMostVectors>(vectors, body);
}

// One vector of channels of kTile output pixels of a row: sum over kKernel x kKernel taps.
template <int kKernel, int kTile, class T>
NASP_INLINE void depthwise_tile(const T* input, int64_t tap_row, int64_t tap_column, int64_t pixel,
                                const T* weights, int64_t tap_weights, Vec<T> (&sum)[kTile]) {
  for (int t = 0; t < kTile; ++t) sum[t] = Vec<T>{};
  for (int i = 0; i < kKernel; ++i) {
    const T* const row = input + i * tap_row;
#pragma GCC unroll 7
    for (int j = 0; j < kKernel; ++j) {
      const Vec<T> weight = load(weights + (i * kKernel + j) * tap_weights);
      const T* const at = row + j * tap_column;
#pragma GCC unroll 8
      for (int t = 0; t < kTile; ++t) sum[t] = fma(load(at + t * pixel), weight, sum[t]);
    }
  }
}

// A row of output pixels of a depthwise convolution; finish(first pixel, channel, sums).
template <int kKernel, class T, class Finish>
NASP_INLINE void depthwise_row(const T* input, int64_t tap_row, int64_t tap_column, int64_t pixel,
                               const T* weights, int64_t channels_pad, int64_t width,
                               const Finish& finish) {
  for_tiles<kDepthwisePixels>(width, [&](int64_t w, auto tile) __attribute__((always_inline)) {
    for (int64_t c = 0; c < channels_pad; c += kLanes<T>) {
      Vec<T> sum[tile.value];
      depthwise_tile<kKernel>(input + w * pixel + c, tap_row, tap_column, pixel, weights + c,
                              channels_pad, sum);
      finish(w, c, sum, tile);
    }
  });
}

// sum[t][v] += sum_i a[t * pitch + i] * weights[i * weights_row + v]
template <int kPixels, int kVectors, class T>
NASP_INLINE void multiply_tile(const T* a, int64_t pitch, int64_t depth, const T* weights,
                               int64_t weights_row, Vec<T> (&sum)[kPixels][kVectors]) {
#pragma GCC unroll 4
  for (int64_t i = 0; i < depth; ++i) {
    Vec<T> w[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) w[v] = load(weights + i * weights_row + v * kLanes<T>);
#pragma GCC unroll 16
    for (int t = 0; t < kPixels; ++t) {
      const Vec<T> b = splat(a[t * pitch + i]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[t][v] = fma(b, w[v], sum[t][v]);
    }
  }
}

// out[i * out_row + v] += sum_p a[p * a_pitch + i] * g[p * g_pitch + v]
template <int kRows, int kVectors, class T>
NASP_INLINE void outer_tile(const T* a, int64_t a_pitch, const T* g, int64_t g_pitch, int64_t pixels,
                            T* out, int64_t out_row) {
  Vec<T> sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v) sum[i][v] = load(out + i * out_row + v * kLanes<T>);
  for (int64_t p = 0; p < pixels; ++p) {
    Vec<T> q[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) q[v] = load(g + p * g_pitch + v * kLanes<T>);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Vec<T> b = splat(a[p * a_pitch + i]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[i][v] = fma(b, q[v], sum[i][v]);
    }
  }
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v) store(out + i * out_row + v * kLanes<T>, sum[i][v]);
}

// The gradient of kRows rows of a depthwise kernel, from one row of pixels:
// sum[i][j] += grad[w] * input[w * pixel + i * tap_row + j * tap_column].
template <int kKernel, int kRows, class T>
NASP_INLINE void depthwise_gradient_row(const T* input, int64_t tap_row, int64_t tap_column,
                                        int64_t pixel, const T* grad, int64_t grad_pixel,
                                        int64_t width, Vec<T> (&sum)[kRows][kKernel]) {
  for (int64_t w = 0; w < width; ++w) {
    const Vec<T> g = load(grad + w * grad_pixel);
    const T* const at = input + w * pixel;
#pragma GCC unroll 7
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 7
      for (int j = 0; j < kKernel; ++j)
        sum[i][j] = fma(g, load(at + i * tap_row + j * tap_column), sum[i][j]);
    }
  }
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
