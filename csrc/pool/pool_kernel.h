// SPDX-License-Identifier: MIT
// Launchers of pools on the device, on raw pointers. Images are dense in their pixels: (pixels,
// pitch).
#pragma once

#include "../core/stream.h"
#include "../norm/norm_math.h"
#include "pool_math.h"

namespace nasp_ext {

constexpr int kGradsOfPool =
    4;  // the edges out of an input of a DARTS cell; more run as further pools

template <class T>
struct PoolForward {
  PoolGeometry shape;
  int x_pitch;
  const T* x;
  T* z;     // (pixels, C); null: not stored
  T* sums;  // (kMomentRows, tiles, C); null: not wanted, nor dots
  T* dots;  // (grad_count, 2, tiles, C): with each gradient, and the gradient's own
  const T* grads[kGradsOfPool];
  int grad_pitches[kGradsOfPool];
  int grad_count;
};
constexpr int kPoolsPerLaunch = 28;

template <class T>
struct PoolForwards {
  PoolForward<T> pool[kPoolsPerLaunch];
};
static_assert(sizeof(PoolForwards<double>) <= 4096, "kernel parameters over 4 KiB");

// 1 to kPoolsPerLaunch pools, none without pixels.
template <class T>
void launch_pool_forward(const PoolForwards<T>& pools, int count, stream_t stream);

template <class T>
struct PoolBackward {
  PoolGeometry shape;
  int x_pitch, grad_pitch, z_pitch, out_pitch, base_pitch;
  const T* grad;
  const T* factors;    // (images,) or null
  const double* sums;  // as for BlockBackward
  double per_count;
  const T* z;
  const T* norm;  // (5, C) or null
  const T* x;
  T* out;
  const T* base;  // null: 0; may be `out`
};

template <class T>
void launch_pool_backward(const PoolBackward<T>& pool, stream_t stream);

}  // namespace nasp_ext
