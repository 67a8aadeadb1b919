// SPDX-License-Identifier: MIT
// Windows of pools, and which pixel of a window gives its maximum: the first in reading order, or
// the last NaN, as in PyTorch.
#pragma once

#include "../core/pixel_math.h"

namespace nasp_ext {

// PoolShape in the 32-bit numbers that a kernel's parameters carry.
struct PoolGeometry {
  int images, channels, height, width, out_height, out_width, kernel, stride, pad;
  bool max;

  NASP_HOST_DEVICE int64_t in_pixels() const { return int64_t(images) * height * width; }
  NASP_HOST_DEVICE int64_t out_pixels() const { return int64_t(images) * out_height * out_width; }
};

struct Range {
  int begin, end;
  NASP_HOST_DEVICE int size() const { return end - begin; }
};

// The pixels of a window that exist, along one side.
NASP_HOST_DEVICE Range window_of(const PoolGeometry& g, int out, int size) {
  const int first = out * g.stride - g.pad, last = first + g.kernel;
  return {first < 0 ? 0 : first, last < size ? last : size};
}

// The windows that hold a pixel, along one side.
NASP_HOST_DEVICE Range windows_with(const PoolGeometry& g, int in, int out_size) {
  const int least = in + g.pad - g.kernel + 1, last = (in + g.pad) / g.stride + 1;
  return {least <= 0 ? 0 : (least + g.stride - 1) / g.stride, last < out_size ? last : out_size};
}

template <class T>
NASP_HOST_DEVICE bool takes_over(T value, T most) {
  return value > most || is_nan(value);
}

// at(y, x) reads the image.
template <class T, class At>
NASP_HOST_DEVICE T pool_window(bool max, const Range& rows, const Range& columns, const At& at) {
  T most = at(rows.begin, columns.begin), sum = T(0);
  for (int y = rows.begin; y < rows.end; ++y) {
    for (int x = columns.begin; x < columns.end; ++x) {
      const T value = at(y, x);
      if (takes_over(value, most)) most = value;
      sum += value;
    }
  }
  return max ? most : sum / static_cast<T>(rows.size() * columns.size());
}

// Whether the pixel (y, x) of a window with this maximum is the one that gave it.
template <class T, class At>
NASP_HOST_DEVICE bool gave_maximum(int y, int x, const Range& rows, const Range& columns, T maximum,
                                   const At& at) {
  const T value = at(y, x);
  if (is_nan(value)) {
    for (int v = y; v < rows.end; ++v) {
      for (int u = v == y ? x + 1 : columns.begin; u < columns.end; ++u) {
        if (is_nan(at(v, u))) return false;
      }
    }
    return true;
  }
  if (value != maximum) return false;
  for (int v = rows.begin; v <= y; ++v) {
    for (int u = columns.begin; u < (v == y ? x : columns.end); ++u) {
      if (at(v, u) == value) return false;
    }
  }
  return true;
}

}  // namespace nasp_ext
