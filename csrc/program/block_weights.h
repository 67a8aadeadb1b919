// SPDX-License-Identifier: MIT
// The weights of a block, and the shape that follows from them and its input.
#pragma once

#include "../core/images.h"
#include "shapes.h"

namespace nasp_ext {

struct BlockWeights {
  std::optional<Tensor> depthwise;  // (C, 1, kh, kw)
  std::vector<Tensor>
      products;  // parts of (out / parts, in, kh, kw); behind a depthwise (out, in, 1, 1)
};

constexpr int64_t kGeometry = 8;  // kernel, stride, padding, dilation, each height before width

inline void check_geometry(const std::vector<int64_t>& geometry, const char* op) {
  if (static_cast<int64_t>(geometry.size()) != kGeometry)
    fail(op,
         ": expected 8 numbers in geometry (kernel, stride, padding, dilation, each height before ",
         "width), found ", geometry.size());
}

inline Tensor contiguous_weights(const Tensor& t) {
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

// The padded image is stored, so that an absurd padding would take absurd memory.
constexpr int64_t kMostPaddedTimes = 256, kMostPaddedPixels = int64_t(1) << 16;

inline void check_padded(const BlockShape& s, const char* op) {
  const int64_t pixels = s.height * s.width;
  if (s.reach_h() > (pixels * kMostPaddedTimes + kMostPaddedPixels) / s.reach_w())
    fail(op, ": expected padding and dilation in proportion to an image of ", s.height, " x ",
         s.width, ", found that the kernel reaches over ", s.reach_h(), " x ", s.reach_w());
}

// The shape of a block from its input and weights; what the kernels cannot run is refused.
inline BlockShape block_shape(const Images& x, BlockWeights& weights,
                              const std::vector<int64_t>& geometry, bool relu, const Tensor& like,
                              const char* op) {
  check_geometry(geometry, op);
  check_pixels(x, op, "x");
  BlockShape s{};
  s.in_channels = x.channels;
  s.height = x.height;
  s.width = x.width;
  int64_t* const fields[kGeometry] = {&s.kernel_h, &s.kernel_w, &s.stride_h,   &s.stride_w,
                                      &s.pad_h,    &s.pad_w,    &s.dilation_h, &s.dilation_w};
  for (size_t i = 0; i < kGeometry; ++i) {
    *fields[i] = geometry[i];
    const bool padding = fields[i] == &s.pad_h || fields[i] == &s.pad_w;
    if (!fits_window(geometry[i], padding ? 0 : 1))
      fail(op, ": expected kernel, stride and dilation >= 1 and padding >= 0 in geometry, below ",
           kMostOfWindow, ", found ", geometry[i]);
  }
  s.depthwise = weights.depthwise.has_value();
  s.relu = relu;
  s.parts = static_cast<int64_t>(weights.products.size());
  if (s.parts < 1 || s.parts > 2)
    fail(op, ": expected 1 or 2 tensors of product weights, found ", s.parts);
  s.out_channels = 0;
  const int64_t tap_h = s.depthwise ? 1 : s.kernel_h, tap_w = s.depthwise ? 1 : s.kernel_w;
  for (Tensor& w : weights.products) {
    check_like(w, like, op, "product weights");
    if (w.dim() != 4 || w.size(1) != s.in_channels || w.size(2) != tap_h || w.size(3) != tap_w ||
        w.size(0) < 1 || w.size(0) != weights.products[0].size(0))
      fail(op, ": expected product weights of shape (out, ", s.in_channels, ", ", tap_h, ", ",
           tap_w, "), found ", shape_text(w));
    s.out_channels += w.size(0);
    w = contiguous_weights(w);
  }
  if (s.depthwise) {
    Tensor& d = *weights.depthwise;
    check_like(d, like, op, "depthwise weights");
    const bool fits = d.dim() == 4 && d.size(0) == s.in_channels && d.size(1) == 1 &&
                      d.size(2) == s.kernel_h && d.size(3) == s.kernel_w;
    const bool square =
        s.kernel_h == s.kernel_w && (s.kernel_h == 3 || s.kernel_h == 5 || s.kernel_h == 7);
    const bool inside =
        s.pad_h <= s.dilation_h * (s.kernel_h - 1) && s.pad_w <= s.dilation_w * (s.kernel_w - 1);
    if (!fits || !square || !inside || s.parts != 1)
      fail(op, ": expected depthwise weights of shape (", s.in_channels,
           ", 1, k, k), k = 3, 5 or 7, ", "padded by at most dilation * (k - 1), found ",
           shape_text(d));
    d = contiguous_weights(d);
  }
  const int64_t room_h = s.height + 2 * s.pad_h - s.dilation_h * (s.kernel_h - 1) - 1;
  const int64_t room_w = s.width + 2 * s.pad_w - s.dilation_w * (s.kernel_w - 1) - 1;
  if (room_h < 0 || room_w < 0)
    fail(op, ": expected an input no smaller than the kernel, found ", s.height, " x ", s.width);
  s.out_height = room_h / s.stride_h + 1;
  s.out_width = room_w / s.stride_w + 1;
  check_padded(s, op);
  check_sizes({x.count, s.out_channels, s.out_height, s.out_width}, sizeof(double), op);
  return s;
}

inline int64_t product_taps(const BlockShape& s) { return s.depthwise ? 1 : s.taps(); }

}  // namespace nasp_ext
