// SPDX-License-Identifier: MIT
// A block is what the candidate operations of a cell are made of:
//   z = convolution(relu(scale * x + shift)),   y = BN(z)
// where the first affine map is the BN of the block before (absent for the first), relu may be
// absent, and the convolution is a depthwise one followed by a 1x1, or a plain one. Neither the
// ReLU's nor the depthwise's nor the BN's output is ever stored for a whole batch: z is all that is
// kept.
//
// Memory: pixels of channels (NHWC). A tensor that is a slice of the channels of a larger one is
// described by its pixel pitch, the distance from a pixel to the next in elements.
// No PyTorch and no CUDA here: the kernels of every device share these structs.
#pragma once

#include <cstdint>

namespace nasp_ext {

struct BlockShape {
  int64_t in_channels, out_channels;
  int64_t height, width;          // of x
  int64_t out_height, out_width;  // of z
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  // 1, or 2 for FactorizedReduce: part i gives half of the output channels and reads x shifted by
  // i.
  int64_t parts;
  bool depthwise;  // the kernel above is depthwise, a 1x1 follows
  bool relu;

  int64_t taps() const { return kernel_h * kernel_w; }
  int64_t part_channels() const { return out_channels / parts; }
  int64_t out_pixels() const { return out_height * out_width; }
  // Rows and columns of the padded input that the taps reach.
  int64_t reach_h() const {
    const int64_t last = (out_height - 1) * stride_h + (kernel_h - 1) * dilation_h + parts;
    return last > height + 2 * pad_h ? last : height + 2 * pad_h;
  }
  int64_t reach_w() const {
    const int64_t last = (out_width - 1) * stride_w + (kernel_w - 1) * dilation_w + parts;
    return last > width + 2 * pad_w ? last : width + 2 * pad_w;
  }
  // A 1x1 convolution of stride 1: pixels do not see each other.
  bool is_pointwise() const {
    return !depthwise && parts == 1 && taps() == 1 && stride_h == 1 && stride_w == 1 &&
           pad_h == 0 && pad_w == 0;
  }
};

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Pixels of one image: a pointer and the pitch.
template <class T>
struct Pixels {
  T* data = nullptr;
  int64_t pitch = 0;  // elements from a pixel to the next

  Pixels image(int64_t number, int64_t pixels) const {
    return data ? Pixels{data + number * pixels * pitch, pitch} : Pixels{};
  }
};

// Scratch images keep a vector of channels of all pixels together, then the next vector: (blocks,
// height, width, lanes). So neighbours in a row lie a constant distance apart, which the inner
// loops need. `data` is the top left corner of the padded image.
template <class T>
struct Blocked {
  T* data = nullptr;
  int64_t block = 0, row = 0;  // elements from a block of channels, a row, to the next
};

// One affine map per channel; null: none.
template <class T>
struct Affine {
  const T* scale = nullptr;
  const T* shift = nullptr;
};

// Sums over the pixels of one image, per channel, of z less `shift` (the z of the first pixel,
// which keeps the variance exact for channels far from 0): Channels are laid out as the packed
// weights are.
template <class T>
struct ImageSums {
  T* shift;
  double* sum;
  double* square;
  double* dot;  // with the gradient, if there is one
};

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

// gz = scale_g * grad + scale_z * (z - mean) + offset: the gradient behind a BN. (parts, part_pad)
// each.
template <class T>
struct BehindNorm {
  const T* scale_g;
  const T* scale_z;
  const T* mean;
  const T* offset;
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

constexpr int64_t kGroupPixels = 64;  // worked on at a time: their channels stay in L1

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
