// SPDX-License-Identifier: MIT
// What the two launches of a block's backward share: the end of a gradient's way to the input, and
// the pieces in which the gradients of the weights are left, one of each split of the pixels.
#pragma once

#include "tile.cuh"

namespace nasp_ext {

constexpr int kGradientSums = 2;  // of the gradient, and of it times the normalised input

// What becomes of the gradient of one channel of the activated input.
template <class T>
struct InputGradient {
  const BlockBackward<T>& b;
  int channel;
  Activation<T> activation;
  T mean, rstd, sum, dot;

  __device__ __forceinline__ InputGradient(const BlockBackward<T>& block, int c)
      : b(block),
        channel(c),
        activation(activation_of(b.in_norm, b.shape.in_channels, c, b.shape.relu)),
        mean(b.in_norm == nullptr ? T(0) : b.in_norm[c]),
        rstd(b.in_norm == nullptr ? T(1) : b.in_norm[2 * b.shape.in_channels + c]),
        sum(T(0)),
        dot(T(0)) {}

  __device__ __forceinline__ void write(int64_t pixel, T grad) {
    const T x = b.x[pixel * b.x_pitch + channel];
    grad = activation.gradient(x, grad);
    sum += grad;
    dot = multiply_add(grad, (x - mean) * rstd, dot);
    if (b.base != nullptr) grad += b.base[pixel * b.base_pitch + channel];
    b.out[pixel * b.out_pitch + channel] = grad;
  }
};

// Of a tile of the input.
template <class T>
__device__ __forceinline__ T& in_sum_at(const BlockBackward<T>& b, int kind, int channel) {
  return b.in_sums[(static_cast<int64_t>(blockIdx.x) * kGradientSums + kind) * b.shape.in_channels +
                   channel];
}

constexpr int64_t kBlocksWanted = 528;  // 4 for each of 132 multiprocessors

// Enough splits to fill the device, and a tile for each.
template <class T>
int splits_for(const BlockGeometry& g, int64_t pieces_of_split) {
  const int64_t tiles = tiles_of(g.out_pixels(), kTilePixels);
  const int64_t wanted = kBlocksWanted / pieces_of_split;
  return static_cast<int>(wanted < 1 ? 1 : (wanted < tiles ? wanted : tiles));
}

}  // namespace nasp_ext
