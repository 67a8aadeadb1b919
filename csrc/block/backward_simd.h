// SPDX-License-Identifier: MIT
// The gradients of one image of a block: behind the BN, through the products and the depthwise
// taps, to the weights and to x.
#pragma once

#include "forward_simd.h"

namespace nasp_ext {
namespace NASP_ISA {

// gz of a run of pixels, laid out as (parts, blocks of a part, pixels, lanes).
template <class T>
NASP_INLINE void behind_norm(const BlockShape& s, const BackwardImage<T>& b, int64_t pixel,
                             int64_t pixels, T* out) {
  const int64_t channels = s.part_channels();
  const int64_t part_pad = round_up(channels, kLanes<T>);
  for (int64_t part = 0; part < s.parts; ++part)
    for (int64_t c = 0; c < part_pad; c += kLanes<T>) {
      const int64_t k = part * part_pad + c, n = channels - c;
      const Vec<T> scale_g = load(b.norm.scale_g + k), scale_z = load(b.norm.scale_z + k);
      const Vec<T> mean = load(b.norm.mean + k), offset = load(b.norm.offset + k);
      const T* const grad = b.grad.data + pixel * b.grad.pitch + part * channels + c;
      T* const to = out + k * pixels;
      if (!b.z.data) {
        for (int64_t p = 0; p < pixels; ++p)
          store(to + p * kLanes<T>, scale_g * load_upto(grad + p * b.grad.pitch, n));
        continue;
      }
      const T* const z = b.z.data + pixel * b.z.pitch + part * channels + c;
      for (int64_t p = 0; p < pixels; ++p) {
        const Vec<T> d = load_upto(z + p * b.z.pitch, n) - mean;
        const Vec<T> g = load_upto(grad + p * b.grad.pitch, n);
        store(to + p * kLanes<T>, fma(scale_g, g, fma(scale_z, d, offset)));
      }
    }
}

// What becomes of the gradient of an activated input: the ReLU's mask, the sums for the BN before,
// and the place where it is added.
template <class T>
class InputGradient {
 public:
  NASP_INLINE InputGradient(const BlockShape& s, const BackwardImage<T>& b) : s_(s), b_(b) {}

  // `count` pixels from `pixel` on, one vector of channels; gradient(t) gives that of the t-th.
  template <int kCount, class Gradient>
  NASP_INLINE void finish(int64_t pixel, int64_t c, const Gradient& gradient) const {
    const int64_t n = s_.in_channels - c;
    const bool affine = b_.in.scale != nullptr;
    const Vec<T> scale = affine ? load(b_.in.scale + c) : Vec<T>{};
    const Vec<T> shift = affine ? load(b_.in.shift + c) : Vec<T>{};
    Vec<T> sum = {}, dot = {};
#pragma GCC unroll 16
    for (int t = 0; t < kCount; ++t) {
      Vec<T> g = gradient(t);
      const Vec<T> x = load_upto(b_.x.data + (pixel + t) * b_.x.pitch + c, n);
      if (s_.relu) g = relu_gradient(affine ? fma(x, scale, shift) : x, g);
      if (b_.in_sum) {
        sum = sum + g;
        dot = fma(g, (x - load(b_.in_mean + c)) * load(b_.in_rstd + c), dot);
      }
      if (b_.base.data) g = g + load_upto(b_.base.data + (pixel + t) * b_.base.pitch + c, n);
      store_upto(b_.grad_x.data + (pixel + t) * b_.grad_x.pitch + c, g, n);
    }
    if (b_.in_sum) {
      add_to<T>(b_.in_sum + c, sum);
      add_to<T>(b_.in_dot + c, dot);
    }
  }

 private:
  const BlockShape& s_;
  const BackwardImage<T>& b_;
};

// The gradient of the packed 1x1 or plain weights, from one group of rows.
template <class T>
NASP_INLINE void product_weights_gradient(const BlockShape& s, const BackwardImage<T>& b,
                                          const ProductInput<T>& input, const T* gz,
                                          int64_t gz_block) {
  const int64_t part_pad = round_up(s.part_channels(), kLanes<T>);
  constexpr int kMostRows = kLanes<T> < 8 ? static_cast<int>(kLanes<T>) : 8;
  const auto rows_of_block = [&](int64_t part, int64_t tap, int64_t first, int64_t column, T* out,
                                 auto vectors) __attribute__((always_inline)) {
    constexpr int kRows =
        kTilePixels<vectors.value> < kMostRows ? kTilePixels<vectors.value> : kMostRows;
    const int64_t count = s.in_channels - first < kLanes<T> ? s.in_channels - first : kLanes<T>;
    for_tiles<kRows>(count, [&](int64_t i, auto tile) __attribute__((always_inline)) {
      for (int64_t run = 0; run < input.runs; ++run)
        outer_tile<tile.value, vectors.value>(
            input.at(run, tap, part) + first / kLanes<T> * input.block + i, input.pitch,
            gz + (part * part_pad + column) / kLanes<T> * gz_block + run * input.pixels * kLanes<T>,
            gz_block, input.pixels, out + (first + i) * part_pad + column, part_pad);
    });
  };
  for (int64_t part = 0; part < s.parts; ++part)
    for (int64_t tap = 0; tap < input.taps; ++tap)
      for_vectors(
          part_pad / kLanes<T>, [&](int64_t v, auto vectors) __attribute__((always_inline)) {
            for (int64_t first = 0; first < s.in_channels; first += kLanes<T>)
              rows_of_block(part, tap, first, v * kLanes<T>,
                            b.grad_pointwise + (part * input.taps + tap) * s.in_channels * part_pad,
                            vectors);
          });
}

// One group through the product, backwards: out(pixel of the run, channel, tile sums, tile,
// vectors).
template <class T, class Out>
NASP_INLINE void product_back(const BlockShape& s, Factor<T> gz, const T* weights, int64_t pixels,
                              const Out& out) {
  const int64_t in_pad = round_up(s.in_channels, kLanes<T>);
  for_vectors(in_pad / kLanes<T>, [&](int64_t v, auto vectors) __attribute__((always_inline)) {
    for_tiles<kTilePixels<vectors.value>>(
        pixels, [&](int64_t p, auto tile) __attribute__((always_inline)) {
          Vec<T> sum[tile.value][vectors.value] = {};
          multiply_tile(gz.at(p), s.part_channels(), weights + v * kLanes<T>, in_pad, sum);
          out(p, v * kLanes<T>, sum, tile, vectors);
        });
  });
}

template <class T>
NASP_INLINE void pointwise_input_gradient(const BlockShape& s, const BackwardImage<T>& b,
                                          Factor<T> gz, int64_t pixel, int64_t pixels) {
  const InputGradient<T> input(s, b);
  product_back(s, gz, b.pointwise, pixels,
               [&](int64_t p, int64_t c, auto& sum, auto tile, auto vectors)
                   __attribute__((always_inline)) {
#pragma GCC unroll 4
                     for (int v = 0; v < vectors.value; ++v)
                       input.template finish<tile.value>(
                           pixel + p, c + v * kLanes<T>,
                           [&](int t) __attribute__((always_inline)) { return sum[t][v]; });
                   });
}

// In front of the 1x1 of a depthwise block: written where the strides of its pixels are.
template <class T>
NASP_INLINE void spread_depthwise(const BlockShape& s, const BackwardImage<T>& b, Factor<T> gz,
                                  int64_t row, int64_t rows) {
  const int64_t edge_h = s.dilation_h * (s.kernel_h - 1) - s.pad_h;
  const int64_t edge_w = s.dilation_w * (s.kernel_w - 1) - s.pad_w;
  for (int64_t h = 0; h < rows; ++h) {
    T* const to =
        b.spread.data + ((row + h) * s.stride_h + edge_h) * b.spread.row + edge_w * kLanes<T>;
    product_back(s, gz.at(h * s.out_width), b.pointwise, s.out_width,
                 [&](int64_t p, int64_t c, auto& sum, auto tile, auto vectors)
                     __attribute__((always_inline)) {
                       for (int v = 0; v < vectors.value; ++v) {
                         T* const block = to + (c / kLanes<T> + v) * b.spread.block;
                         for (int t = 0; t < tile.value; ++t)
                           store(block + (p + t) * s.stride_w * kLanes<T>, sum[t][v]);
                       }
                     });
  }
}

// The gradient of the padded input of a plain convolution: every tap adds its share.
template <class T>
NASP_INLINE void spread_taps(const BlockShape& s, const BackwardImage<T>& b, Factor<T> gz,
                             int64_t row, int64_t rows) {
  const int64_t part_blocks = round_up(s.part_channels(), kLanes<T>) / kLanes<T>;
  const int64_t in_pad = round_up(s.in_channels, kLanes<T>);
  for (int64_t part = 0; part < s.parts; ++part)
    for (int64_t tap = 0; tap < s.taps(); ++tap)
      for (int64_t h = 0; h < rows; ++h) {
        const int64_t y = (row + h) * s.stride_h + tap / s.kernel_w * s.dilation_h + part;
        const int64_t x = tap % s.kernel_w * s.dilation_w + part;
        T* const to = b.spread.data + y * b.spread.row + x * kLanes<T>;
        const T* const weights = b.pointwise + (part * s.taps() + tap) * s.part_channels() * in_pad;
        const Factor<T> from{gz.data + part * part_blocks * gz.block, gz.block, 0};
        product_back(s, from.at(h * s.out_width), weights, s.out_width,
                     [&](int64_t p, int64_t c, auto& sum, auto tile, auto vectors)
                         __attribute__((always_inline)) {
                           for (int v = 0; v < vectors.value; ++v) {
                             T* const block = to + (c / kLanes<T> + v) * b.spread.block;
                             for (int t = 0; t < tile.value; ++t) {
                               T* const at = block + (p + t) * s.stride_w * kLanes<T>;
                               store(at, load(at) + sum[t][v]);
                             }
                           }
                         });
      }
}

template <class T>
NASP_INLINE void depthwise_weights_gradient(const BlockShape& s, const BackwardImage<T>& b) {
  const int64_t edge_h = s.dilation_h * (s.kernel_h - 1) - s.pad_h;
  const int64_t edge_w = s.dilation_w * (s.kernel_w - 1) - s.pad_w;
  with_kernel(s.kernel_h, [&](auto kernel) __attribute__((always_inline)) {
    constexpr int kKernel = kernel.value;
    // Rows of the kernel whose sums fit the registers together.
    constexpr int kRows =
        kManyRegisters ? (kKernel <= 5 ? kKernel : 3) : (kKernel <= 3 ? kKernel : 2);
    const auto rows_of_kernel = [&](int64_t i, int64_t block,
                                    auto count) __attribute__((always_inline)) {
      Vec<T> sum[count.value][kKernel];
      T* const out = b.grad_depthwise + (block * kKernel + i) * kKernel * kLanes<T>;
      for (int k = 0; k < count.value; ++k)
        for (int j = 0; j < kKernel; ++j) sum[k][j] = load(out + (k * kKernel + j) * kLanes<T>);
      for (int64_t h = 0; h < s.out_height; ++h)
        depthwise_gradient_row<kKernel, count.value>(
            b.input.data + block * b.input.block +
                (h * s.stride_h + i * s.dilation_h) * b.input.row,
            s.dilation_h * b.input.row, s.stride_w, s.dilation_w,
            static_cast<const T*>(b.spread.data) + block * b.spread.block +
                (h * s.stride_h + edge_h) * b.spread.row + edge_w * kLanes<T>,
            s.out_width, sum);
      for (int k = 0; k < count.value; ++k)
        for (int j = 0; j < kKernel; ++j) store(out + (k * kKernel + j) * kLanes<T>, sum[k][j]);
    };
    for (int64_t block = 0; block * kLanes<T> < s.in_channels; ++block) {
      int64_t i = 0;
      for (; i + kRows <= kKernel; i += kRows) rows_of_kernel(i, block, Count<kRows>{});
      for (; i < kKernel; ++i) rows_of_kernel(i, block, Count<1>{});
    }
  });
}

template <class T>
NASP_INLINE void depthwise_input_gradient(const BlockShape& s, const BackwardImage<T>& b) {
  const InputGradient<T> input(s, b);
  with_kernel(s.kernel_h, [&](auto kernel) __attribute__((always_inline)) {
    for (int64_t block = 0; block * kLanes<T> < s.in_channels; ++block)
      for (int64_t h = 0; h < s.height; ++h)
        depthwise_row<kernel.value>(
            static_cast<const T*>(b.spread.data) + block * b.spread.block + h * b.spread.row,
            s.dilation_h * b.spread.row, 1, s.dilation_w, b.flipped + block * s.taps() * kLanes<T>,
            s.width, [&](int64_t w, auto& sum, auto tile) __attribute__((always_inline)) {
              input.template finish<tile.value>(
                  h * s.width + w, block * kLanes<T>,
                  [&](int t) __attribute__((always_inline)) { return sum[t]; });
            });
  });
}

template <class T>
NASP_INLINE void padded_input_gradient(const BlockShape& s, const BackwardImage<T>& b) {
  const InputGradient<T> input(s, b);
  for (int64_t h = 0; h < s.height; ++h)
    for (int64_t block = 0; block * kLanes<T> < s.in_channels; ++block) {
      const T* const row = b.spread.data + block * b.spread.block + (h + s.pad_h) * b.spread.row +
                           s.pad_w * kLanes<T>;
      for_tiles<8>(s.width, [&](int64_t w, auto tile) __attribute__((always_inline)) {
        const auto at = [&](int t) __attribute__((always_inline)) {
          return load(row + (w + t) * kLanes<T>);
        };
        input.template finish<tile.value>(h * s.width + w, block * kLanes<T>, at);
      });
    }
}

template <class T>
void backward_image(const BlockShape& s, const BackwardImage<T>& b) {
  const int64_t in_pad = round_up(s.in_channels, kLanes<T>);
  const int64_t packed = s.parts * round_up(s.part_channels(), kLanes<T>);
  const int64_t step = group_rows(s);
  T* const gz = b.scratch;
  T* const group_input = gz + step * s.out_width * packed;
  const bool pointwise = s.is_pointwise();
  if (b.in_sum)
    for (int64_t c = 0; c < in_pad; ++c) b.in_sum[c] = b.in_dot[c] = 0;
  if (!s.depthwise && !pointwise && b.grad_x.data)
    for (int64_t i = 0; i < b.spread.block * (in_pad / kLanes<T>); i += kLanes<T>)
      store(b.spread.data + i, Vec<T>{});
  for (int64_t row = 0; row < s.out_height; row += step) {
    const int64_t rows = step < s.out_height - row ? step : s.out_height - row;
    const int64_t pixel = row * s.out_width, pixels = rows * s.out_width;
    const int64_t block = pixels * kLanes<T>;
    const Factor<T> factor{gz, block, 0};
    behind_norm(s, b, pixel, pixels, gz);
    if (b.grad_pointwise) {
      const T* flat = nullptr;
      if (s.depthwise) {
        depthwise_rows(s, b.input, b.depthwise, row, rows, group_input, block);
        flat = group_input;
      } else if (pointwise) {
        activate(b.x.data + pixel * b.x.pitch, b.x.pitch, s.in_channels, pixels, b.in, s.relu,
                 group_input, block);
        flat = group_input;
      }
      product_weights_gradient(s, b, product_input(s, b.input, flat, block, row, rows), gz, block);
    }
    if (s.depthwise)
      spread_depthwise(s, b, factor, row, rows);
    else if (b.grad_x.data)
      pointwise ? pointwise_input_gradient(s, b, factor, pixel, pixels)
                : spread_taps(s, b, factor, row, rows);
  }
  if (s.depthwise && b.grad_depthwise) depthwise_weights_gradient(s, b);
  if (!b.grad_x.data || pointwise) return;
  s.depthwise ? depthwise_input_gradient(s, b) : padded_input_gradient(s, b);
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
