// SPDX-License-Identifier: MIT
// What the loops of the CPU see of images. Memory: pixels of channels (NHWC). A tensor that is a
// slice of the channels of a larger one is described by its pixel pitch, the distance from a pixel
// to the next in elements. No PyTorch and no standard header but <cstdint>, see core/vector.h.
#pragma once

#include <cstdint>

namespace nasp_ext {

constexpr int64_t kGroupPixels = 64;  // worked on at a time: their channels stay in L1

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

// gz = scale_g * grad + scale_z * (z - mean) + offset: the gradient behind a BN. (parts, part_pad)
// each.
template <class T>
struct BehindNorm {
  const T* scale_g;
  const T* scale_z;
  const T* mean;
  const T* offset;
};

}  // namespace nasp_ext
