// SPDX-License-Identifier: MIT
// The weights of a block: checked, and packed for the tiles.
#pragma once

#include <vector>

#include "images.h"
#include "norm.h"

namespace nasp_ext {

struct BlockWeights {
  std::optional<Tensor> depthwise;  // (C, 1, kh, kw)
  std::vector<Tensor>
      products;  // parts of (out / parts, in, kh, kw); behind a depthwise (out, in, 1, 1)
};

constexpr int64_t kGeometry = 8;  // kernel, stride, padding, dilation, each height before width

inline const int64_t* check_geometry(const std::vector<int64_t>& geometry, const char* op) {
  if (static_cast<int64_t>(geometry.size()) != kGeometry)
    fail(op,
         ": expected 8 numbers in geometry (kernel, stride, padding, dilation, each height before ",
         "width), found ", geometry.size());
  return geometry.data();
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
inline BlockShape block_shape(const Images& x, BlockWeights& weights, const int64_t* geometry,
                              bool relu, const Tensor& like, const char* op) {
  check_pixels(x, op, "x");
  BlockShape s{};
  s.in_channels = x.channels;
  s.height = x.height;
  s.width = x.width;
  int64_t* const fields[kGeometry] = {&s.kernel_h, &s.kernel_w, &s.stride_h,   &s.stride_w,
                                      &s.pad_h,    &s.pad_w,    &s.dilation_h, &s.dilation_w};
  for (int64_t i = 0; i < kGeometry; ++i) {
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

// (parts, taps, in, part_pad), for the forward.
template <class T>
std::vector<T> pack_forward(const BlockShape& s, const BlockWeights& weights, int64_t lanes) {
  const int64_t taps = product_taps(s), out = s.part_channels(), pad = round_up(out, lanes);
  std::vector<T> packed(static_cast<size_t>(s.parts * taps * s.in_channels * pad), T(0));
  for (int64_t part = 0; part < s.parts; ++part) {
    const T* const w = data_of<T>(weights.products[static_cast<size_t>(part)]);
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t i = 0; i < s.in_channels; ++i) {
        T* const to = packed.data() + ((part * taps + tap) * s.in_channels + i) * pad;
        for (int64_t o = 0; o < out; ++o) to[o] = w[(o * s.in_channels + i) * taps + tap];
      }
  }
  return packed;
}

// (parts, taps, out of the part, in_pad), for the gradient of the input.
template <class T>
std::vector<T> pack_backward(const BlockShape& s, const BlockWeights& weights, int64_t lanes) {
  const int64_t taps = product_taps(s), out = s.part_channels(),
                pad = round_up(s.in_channels, lanes);
  std::vector<T> packed(static_cast<size_t>(s.parts * taps * out * pad), T(0));
  for (int64_t part = 0; part < s.parts; ++part) {
    const T* const w = data_of<T>(weights.products[static_cast<size_t>(part)]);
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t o = 0; o < out; ++o) {
        T* const to = packed.data() + ((part * taps + tap) * out + o) * pad;
        for (int64_t i = 0; i < s.in_channels; ++i) to[i] = w[(o * s.in_channels + i) * taps + tap];
      }
  }
  return packed;
}

// Where a tap of a channel lies in packed depthwise weights, (blocks, taps, lanes).
inline int64_t depthwise_index(int64_t channel, int64_t tap, int64_t taps, int64_t lanes) {
  return (channel / lanes * taps + tap) * lanes + channel % lanes;
}

// (blocks, taps, lanes); flipped: the last tap first, for the gradient of the input.
template <class T>
std::vector<T> pack_depthwise(const BlockShape& s, const BlockWeights& weights, int64_t lanes,
                              bool flipped) {
  if (!s.depthwise) return {};
  const int64_t taps = s.taps(), pad = round_up(s.in_channels, lanes);
  const T* const w = data_of<T>(*weights.depthwise);
  std::vector<T> packed(static_cast<size_t>(taps * pad), T(0));
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t c = 0; c < s.in_channels; ++c)
      packed[static_cast<size_t>(depthwise_index(c, flipped ? taps - 1 - tap : tap, taps, lanes))] =
          w[c * taps + tap];
  return packed;
}

// The gradients of the packed weights of all chunks, added in their order and laid out as the
// weights.
template <class T>
void unpack_products(const BlockShape& s, const std::vector<T>& chunks, int64_t count,
                     int64_t stride, int64_t lanes, const std::vector<Tensor>& out) {
  const int64_t taps = product_taps(s), channels = s.part_channels(),
                pad = round_up(channels, lanes);
  for (int64_t part = 0; part < s.parts; ++part) {
    T* const to = mutable_data_of<T>(out[static_cast<size_t>(part)]);
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t i = 0; i < s.in_channels; ++i)
        for (int64_t o = 0; o < channels; ++o) {
          const int64_t at = ((part * taps + tap) * s.in_channels + i) * pad + o;
          T sum = T(0);
          for (int64_t c = 0; c < count; ++c) sum += chunks[static_cast<size_t>(c * stride + at)];
          to[(o * s.in_channels + i) * taps + tap] = sum;
        }
  }
}

template <class T>
void unpack_depthwise(const BlockShape& s, const T* chunks, int64_t count, int64_t stride,
                      int64_t lanes, T* out) {
  const int64_t taps = s.taps();
  for (int64_t c = 0; c < s.in_channels; ++c)
    for (int64_t tap = 0; tap < taps; ++tap) {
      T sum = T(0);
      for (int64_t k = 0; k < count; ++k)
        sum += chunks[k * stride + depthwise_index(c, tap, taps, lanes)];
      out[c * taps + tap] = sum;
    }
}

}  // namespace nasp_ext
