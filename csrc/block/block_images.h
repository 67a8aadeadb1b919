// SPDX-License-Identifier: MIT
// What the loops of the CPU take for one image of a block (program/shapes.h says what that is).
#pragma once

#include "../core/pixels.h"
#include "../program/shapes.h"

namespace nasp_ext {

template <class T>
struct ForwardImage {
  Blocked<const T> input;  // padded, after affine map and ReLU
  Pixels<const T> x;       // read instead of `input` by a pointwise block
  Affine<T> in;            // of x
  const T* depthwise;      // (blocks, taps, lanes)
  const T* pointwise;      // (parts, taps or 1, in_channels, part_pad)
  Pixels<T> z;             // null: not stored
  Pixels<const T> grad;    // null: no inner products
  T* scratch;              // forward_scratch(shape, lanes) elements
  ImageSums<T> sums;       // (parts, part_pad) each; written
};

template <class T>
struct BackwardImage {
  Pixels<const T> grad, z;  // z null: the norm does not depend on it
  BehindNorm<T> norm;
  Pixels<const T> x;
  Affine<T> in;
  const T* flipped;        // (blocks, taps, lanes): the depthwise weights, last tap first
  const T* depthwise;      // (blocks, taps, lanes)
  const T* pointwise;      // (parts, taps or 1, part_channels, in_pad)
  Blocked<const T> input;  // for the gradient of the weights
  T* grad_depthwise;       // (blocks, taps, lanes), added to; null: no gradient of the weights
  T* grad_pointwise;       // (parts, taps or 1, in_channels, part_pad), added to
  Blocked<T> spread;       // scratch, see backward_spread
  Pixels<T> grad_x;        // null: none; base + the gradient
  Pixels<const T> base;    // null: 0
  // With `in`: sums of grad_x and of grad_x * (x - in_mean) * in_rstd, (in_pad) each; else null.
  const T* in_mean;
  const T* in_rstd;
  double* in_sum;
  double* in_dot;
  T* scratch;  // backward_scratch(shape, lanes) elements
};

inline int64_t group_rows(const BlockShape& s) {
  const int64_t rows = kGroupPixels / s.out_width;
  return rows < 1 ? 1 : (rows > s.out_height ? s.out_height : rows);
}
inline int64_t forward_scratch(const BlockShape& s, int64_t lanes) {
  return group_rows(s) * s.out_width * round_up(s.in_channels, lanes);
}
inline int64_t backward_scratch(const BlockShape& s, int64_t lanes) {
  const int64_t out = s.parts * round_up(s.part_channels(), lanes);
  return group_rows(s) * s.out_width * (out + round_up(s.in_channels, lanes));
}
// The scratch image of a backward: depthwise, the gradient in front of the 1x1, spread out by the
// stride and padded for the flipped kernel; else, the gradient of the padded input.
inline int64_t spread_height(const BlockShape& s) {
  return s.depthwise ? s.height + s.dilation_h * (s.kernel_h - 1) : s.reach_h();
}
inline int64_t spread_width(const BlockShape& s) {
  return s.depthwise ? s.width + s.dilation_w * (s.kernel_w - 1) : s.reach_w();
}

}  // namespace nasp_ext
