// SPDX-License-Identifier: MIT
// Where the pixels of a block lie, and what happens to one number on its way through it and back,
// for the device. The CPU's loops (*_simd.h) do the same on vectors.
#pragma once

#include "../core/pixel_math.h"

namespace nasp_ext {

// BlockShape in the 32-bit numbers that a kernel's parameters carry.
struct BlockGeometry {
  int images, in_channels, out_channels;
  int height, width, out_height, out_width;
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int parts;
  bool depthwise, relu;

  NASP_HOST_DEVICE int taps() const { return kernel_h * kernel_w; }
  NASP_HOST_DEVICE int product_taps() const { return depthwise ? 1 : taps(); }
  NASP_HOST_DEVICE int part_channels() const { return out_channels / parts; }
  NASP_HOST_DEVICE int64_t in_pixels() const { return int64_t(images) * height * width; }
  NASP_HOST_DEVICE int64_t out_pixels() const { return int64_t(images) * out_height * out_width; }
};

// The input pixel that a tap of an output pixel reads; -1: padding.
NASP_HOST_DEVICE int64_t input_pixel(const BlockGeometry& g, const PixelPlace& out, int part,
                                     int tap_h, int tap_w) {
  const int y = out.y * g.stride_h - g.pad_h + part + tap_h * g.dilation_h;
  const int x = out.x * g.stride_w - g.pad_w + part + tap_w * g.dilation_w;
  const bool inside = out.image >= 0 && y >= 0 && y < g.height && x >= 0 && x < g.width;
  return inside ? pixel_at(out.image, y, x, g.height, g.width) : -1;
}

// What a tap at `at`, counted in the padded input, makes a step of; -1: none of `steps`.
NASP_HOST_DEVICE int step_at(int at, int stride, int steps) {
  const int step =
      stride == 1 ? at : at / stride;  // most strides are 1, and a division is 20 steps
  return at >= 0 && step * stride == at && step < steps ? step : -1;
}

// The other way round: the output pixel one tap of which reads an input pixel; -1: none.
NASP_HOST_DEVICE int64_t output_pixel(const BlockGeometry& g, const PixelPlace& in, int part,
                                      int tap_h, int tap_w) {
  const int y = step_at(in.y + g.pad_h - part - tap_h * g.dilation_h, g.stride_h, g.out_height);
  const int x = step_at(in.x + g.pad_w - part - tap_w * g.dilation_w, g.stride_w, g.out_width);
  return in.image < 0 || y < 0 || x < 0 ? -1 : pixel_at(in.image, y, x, g.out_height, g.out_width);
}

// body(tap, first pixel of a row, x) of the input pixels that an output pixel reads, in reading
// order.
template <class Body>
NASP_HOST_DEVICE void for_taps_to_input(const BlockGeometry& g, const PixelPlace& out,
                                        const Body& body) {
  if (out.image < 0) return;
  for (int i = 0; i < g.kernel_h; ++i) {
    const int y = out.y * g.stride_h - g.pad_h + i * g.dilation_h;
    if (y < 0 || y >= g.height) continue;
    const int64_t row = pixel_at(out.image, y, 0, g.height, g.width);
    for (int j = 0; j < g.kernel_w; ++j) {
      const int x = out.x * g.stride_w - g.pad_w + j * g.dilation_w;
      if (x >= 0 && x < g.width) body(i * g.kernel_w + j, row, x);
    }
  }
}

// The same of the output pixels that read an input pixel.
template <class Body>
NASP_HOST_DEVICE void for_taps_to_output(const BlockGeometry& g, const PixelPlace& in,
                                         const Body& body) {
  if (in.image < 0) return;
  for (int i = 0; i < g.kernel_h; ++i) {
    const int y = step_at(in.y + g.pad_h - i * g.dilation_h, g.stride_h, g.out_height);
    if (y < 0) continue;
    const int64_t row = pixel_at(in.image, y, 0, g.out_height, g.out_width);
    for (int j = 0; j < g.kernel_w; ++j) {
      const int x = step_at(in.x + g.pad_w - j * g.dilation_w, g.stride_w, g.out_width);
      if (x >= 0) body(i * g.kernel_w + j, row, x);
    }
  }
}

// relu(scale * x + shift); a NaN stays one.
template <class T>
struct Activation {
  T scale, shift;
  bool affine, relu;

  NASP_HOST_DEVICE T before_relu(T x) const { return affine ? multiply_add(x, scale, shift) : x; }
  NASP_HOST_DEVICE T operator()(T x) const {
    const T v = before_relu(x);
    return relu && v < T(0) ? T(0) : v;
  }
  // The gradient in front of the ReLU, as PyTorch has it at 0 and NaN.
  NASP_HOST_DEVICE T gradient(T x, T grad) const {
    return relu && before_relu(x) <= T(0) ? T(0) : grad;
  }
};

// The BN before: rows of its norm, (5, channels), or null.
template <class T>
NASP_HOST_DEVICE Activation<T> activation_of(const T* norm, int channels, int channel, bool relu) {
  if (norm == nullptr) return {T(1), T(0), false, relu};
  return {norm[3 * channels + channel], norm[4 * channels + channel], true, relu};
}

}  // namespace nasp_ext
