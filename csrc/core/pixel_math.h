// SPDX-License-Identifier: MIT
// The pixels of a batch of images on the device: where they lie, and the tiles that are worked on.
#pragma once

#include <math.h>

#include "host_device.h"

namespace nasp_ext {

// Pixels that a thread block works on at a time: the tiles in which sums leave the kernels. 64
// images of 8 x 8 make 64 tiles, half of the multiprocessors of an H100; smaller ones would read
// the weights more often than the pixels.
constexpr int kTilePixels = 64;

NASP_HOST_DEVICE int64_t tiles_of(int64_t pixels, int64_t tile) {
  return (pixels + tile - 1) / tile;
}

// A pixel of a batch of images; image = -1: no pixel.
struct PixelPlace {
  int image, y, x;
};

NASP_HOST_DEVICE PixelPlace place_of(int64_t pixel, int64_t pixels, int height, int width) {
  if (pixel >= pixels) return {-1, 0, 0};
  const int64_t row = pixel / width;
  return {static_cast<int>(row / height), static_cast<int>(row % height),
          static_cast<int>(pixel % width)};
}

NASP_HOST_DEVICE int64_t pixel_at(int image, int y, int x, int height, int width) {
  return (static_cast<int64_t>(image) * height + y) * width + x;
}

// Fused by hand: the builds keep the compilers from doing it.
NASP_HOST_DEVICE float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
NASP_HOST_DEVICE double multiply_add(double a, double b, double c) { return fma(a, b, c); }

}  // namespace nasp_ext
