// SPDX-License-Identifier: MIT
// The shapes of blocks and pools, plain numbers that every device shares. No PyTorch.
//
// A block is what the candidate operations of a cell are made of:
//   z = convolution(relu(scale * x + shift)),   y = BN(z)
// where the first affine map is the BN of the block before (absent for the first), relu may be
// absent, and the convolution is a depthwise one followed by a 1x1, or a plain one. Neither the
// ReLU's nor the depthwise's nor the BN's output is ever stored for a whole batch: z is all that is
// kept.
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

// Of a max or average pool, padded to keep the size.
struct PoolShape {
  int64_t channels, height, width, out_height, out_width;
  int64_t kernel, stride, pad;
  bool max;  // else the average over the pixels that exist

  int64_t out_pixels() const { return out_height * out_width; }
};

}  // namespace nasp_ext
