// SPDX-License-Identifier: MIT
// A block with random inputs, and what it gives by plain loops in double.
#pragma once
#include <cmath>

#include "../block/block_kernel.h"
#include "kernel_testing.h"

namespace nasp_ext::testing {

// |a - b| within a share of the largest |b|.
template <class T>
bool close(const Array<T>& a, const std::vector<double>& b, double tolerance) {
  double most = 1e-3;
  for (const double v : b) most = std::fabs(v) > most ? std::fabs(v) : most;
  for (int64_t i = 0; i < a.size(); ++i) {
    const double apart = std::fabs(static_cast<double>(a[i]) - b[static_cast<size_t>(i)]);
    if (!(apart <= tolerance * most)) return false;
  }
  return a.size() == static_cast<int64_t>(b.size());
}
template <class T>
constexpr double kClose = sizeof(T) == 4 ? 2e-5 : 1e-12;

// Fills the size of the output.
inline BlockGeometry sized(BlockGeometry g) {
  g.out_height = (g.height + 2 * g.pad_h - g.dilation_h * (g.kernel_h - 1) - 1) / g.stride_h + 1;
  g.out_width = (g.width + 2 * g.pad_w - g.dilation_w * (g.kernel_w - 1) - 1) / g.stride_w + 1;
  return g;
}
inline BlockGeometry depthwise_block(int images, int channels, int out, int height, int width,
                                     int kernel, int stride, int dilation) {
  const int pad = dilation * (kernel / 2);
  return sized({images, channels, out, height, width, 0, 0, kernel, kernel, stride, stride, pad,
                pad, dilation, dilation, 1, true, true});
}
inline BlockGeometry plain_block(int images, int channels, int out, int height, int width,
                                 int kernel, int stride) {
  return sized({images, channels, out, height, width, 0, 0, kernel, kernel, stride, stride,
                kernel / 2, kernel / 2, 1, 1, 1, false, true});
}
inline BlockGeometry factorized_block(int images, int channels, int out, int height, int width) {
  return sized(
      {images, channels, out, height, width, 0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, false, true});
}

// Pixels have a pitch of one more than the channels.
template <class T>
struct BlockCase {
  BlockGeometry g;
  bool with_norm;
  int x_pitch, z_pitch;
  Array<T> x, in_norm, depthwise, products[2];

  BlockCase(const BlockGeometry& geometry, bool norm)
      : g(geometry),
        with_norm(norm),
        x_pitch(g.in_channels + 1),
        z_pitch(g.out_channels + 1),
        x(normal_numbers<T>(g.in_pixels() * x_pitch, 1)),
        in_norm(normal_numbers<T>(5 * g.in_channels, 2)),
        depthwise(normal_numbers<T>(g.in_channels * g.taps(), 3)),
        products{normal_numbers<T>(product_size(), 4), normal_numbers<T>(product_size(), 5)} {
    describe_case(type_name<T>(), "block of", g.images, g.in_channels, g.out_channels, g.height,
                  g.width, "kernel", g.kernel_h, "stride", g.stride_h, "parts", g.parts, "norm",
                  norm);
  }
  int64_t product_size() const {
    return int64_t{g.part_channels()} * g.in_channels * g.product_taps();
  }
  double weight(int part, int o, int i, int tap) const {
    return products[part][(int64_t{o} * g.in_channels + i) * g.product_taps() + tap];
  }
  double activated(int64_t pixel, int c) const {
    double v = x[pixel * x_pitch + c];
    if (with_norm) v = v * in_norm[3 * g.in_channels + c] + in_norm[4 * g.in_channels + c];
    return g.relu && v < 0 ? 0 : v;
  }
  // body(output pixel, input pixel, part, tap) of everything that a tap reads.
  template <class Body>
  void for_taps(const Body& body) const {
    for (int64_t p = 0; p < g.out_pixels(); ++p) {
      const PixelPlace place = place_of(p, g.out_pixels(), g.out_height, g.out_width);
      for (int part = 0; part < g.parts; ++part)
        for (int tap = 0; tap < g.taps(); ++tap) {
          const int64_t q = input_pixel(g, place, part, tap / g.kernel_w, tap % g.kernel_w);
          if (q >= 0) body(p, q, part, tap);
        }
    }
  }
  // The input of the 1x1 of a depthwise block, (out pixels, C).
  std::vector<double> middle() const {
    std::vector<double> d(static_cast<size_t>(g.out_pixels() * g.in_channels), 0.0);
    for_taps([&](int64_t p, int64_t q, int, int tap) {
      for (int c = 0; c < g.in_channels; ++c)
        d[static_cast<size_t>(p * g.in_channels + c)] +=
            static_cast<double>(depthwise[int64_t{c} * g.taps() + tap]) * activated(q, c);
    });
    return d;
  }
  // body(z's index, the value read, part, o, i, tap, input pixel or output pixel) of every product.
  template <class Body>
  void for_products(const Body& body) const {
    const int pc = g.part_channels();
    if (g.depthwise) {
      const auto d = middle();
      for (int64_t p = 0; p < g.out_pixels(); ++p)
        for (int o = 0; o < pc; ++o)
          for (int i = 0; i < g.in_channels; ++i)
            body(p, o, d[static_cast<size_t>(p * g.in_channels + i)], 0, o, i, 0, p);
      return;
    }
    for_taps([&](int64_t p, int64_t q, int part, int tap) {
      for (int o = 0; o < pc; ++o)
        for (int i = 0; i < g.in_channels; ++i)
          body(p, part * pc + o, activated(q, i), part, o, i, tap, q);
    });
  }
  std::vector<double> z() const {
    std::vector<double> z(static_cast<size_t>(g.out_pixels() * g.out_channels), 0.0);
    for_products([&](int64_t p, int channel, double v, int part, int o, int i, int tap, int64_t) {
      z[static_cast<size_t>(p * g.out_channels + channel)] += v * weight(part, o, i, tap);
    });
    return z;
  }
  BlockWeightsOnDevice<T> weights_input() const {
    return {g.depthwise ? depthwise.input("depthwise") : nullptr,
            {products[0].input("products"), g.parts > 1 ? products[1].input("products") : nullptr}};
  }
};

inline std::vector<BlockGeometry> block_geometries() {
  return {depthwise_block(2, 5, 7, 6, 7, 3, 1, 1),   depthwise_block(1, 3, 4, 9, 8, 5, 2, 2),
          depthwise_block(3, 35, 34, 5, 5, 3, 1, 1), plain_block(2, 3, 5, 7, 9, 3, 1),
          plain_block(2, 9, 4, 5, 3, 3, 2),          plain_block(2, 70, 36, 3, 3, 1, 1),
          factorized_block(2, 6, 10, 7, 8)};
}

}  // namespace nasp_ext::testing
