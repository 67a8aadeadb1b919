// SPDX-License-Identifier: MIT
// Launchers of the blocks of csrc/program/shapes.h on the device, on raw pointers. Images are dense
// in their pixels: (pixels, pitch).
#pragma once

#include "../core/stream.h"
#include "../norm/norm_math.h"
#include "block_math.h"

namespace nasp_ext {

template <class T>
struct BlockWeightsOnDevice {
  const T* depthwise;    // (C, taps) or null
  const T* products[2];  // parts of (O / parts, C, taps or 1)
};

template <class T>
struct BlockForward {
  BlockGeometry shape;
  int x_pitch, grad_pitch;
  BlockWeightsOnDevice<T> weights;
  const T* x;
  const T* in_norm;  // (5, C) or null
  T* z;              // (pixels, O); null: not stored
  const T* grad;     // null: no inner products
  T* sums;           // (kSumRows, tiles, O), kMomentRows without grad; null: not wanted
};
constexpr int kForwardsPerLaunch = 28;  // fit 4 KiB of parameters

template <class T>
struct BlockForwards {
  BlockForward<T> block[kForwardsPerLaunch];
};
static_assert(sizeof(BlockForwards<double>) <= 4096, "kernel parameters over 4 KiB");

// 1 to kForwardsPerLaunch blocks, none without pixels.
template <class T>
void launch_block_forward(const BlockForwards<T>& blocks, int count, stream_t stream);

template <class T>
struct BlockBackward {
  BlockGeometry shape;
  int x_pitch, grad_pitch, z_pitch, out_pitch, base_pitch;
  BlockWeightsOnDevice<T> weights;
  const T* grad;       // (pixels, grad_pitch)
  const T* factors;    // (images,) or null
  const double* sums;  // (2, O), of the batch; null: the statistics are no function of z
  double per_count;    // 1 / pixels of the output
  const T* z;
  const T* norm;  // (5, O) or null
  const T* x;
  const T* in_norm;  // (5, C) or null
  T* between;        // depthwise: the gradient in front of the 1x1, (out pixels, C)
  T* out;            // null: no gradient of x
  const T* base;     // null: 0
  T* in_sums;        // (tiles of the input, 2, C): of the gradient behind in_norm; null: not wanted
  // Parts of the gradients of the weights, which are laid out as the weights, one of each part of
  // the product; null: not wanted.
  T* grad_products;   // (product_splits, parts, ...)
  T* grad_depthwise;  // (depthwise_splits, ...)
  int product_splits, depthwise_splits;
};

constexpr int kBackwardsPerLaunch = 16;  // fit 4 KiB of parameters

template <class T>
struct BlockBackwards {
  BlockBackward<T> block[kBackwardsPerLaunch];
};
static_assert(sizeof(BlockBackwards<double>) <= 4096, "kernel parameters over 4 KiB");

// Into how many pieces the pixels are cut for the gradients of the weights.
template <class T>
int product_splits(const BlockGeometry& shape);
template <class T>
int depthwise_splits(const BlockGeometry& shape);

// Of 1 to kBackwardsPerLaunch blocks, which write to different places. Through the product: writes
// `between` of a depthwise block, else `out` and in_sums; grad_products.
template <class T>
void launch_product_backward(const BlockBackwards<T>& blocks, int count, stream_t stream);

// The same of depthwise blocks, from `between` through the taps: writes `out`, in_sums and
// grad_depthwise.
template <class T>
void launch_depthwise_backward(const BlockBackwards<T>& blocks, int count, stream_t stream);

}  // namespace nasp_ext
