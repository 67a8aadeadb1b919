// SPDX-License-Identifier: MIT
// One image through a block, a group of rows at a time: activation, depthwise, product, sums.
#pragma once

#include "tiles_simd.h"

namespace nasp_ext {
namespace NASP_ISA {

// relu(scale * x + shift) of `count` pixels in a row, into blocks of channels; the lanes behind the
// channels are 0.
template <class T>
NASP_INLINE void activate(const T* x, int64_t x_pitch, int64_t channels, int64_t count,
                          const Affine<T>& in, bool with_relu, T* out, int64_t block) {
  const auto run = [&](auto affine, auto rectify) __attribute__((always_inline)) {
    for (int64_t c = 0; c < channels; c += kLanes<T>) {
      const int64_t n = channels - c;
      const Vec<T> scale = affine.value ? load(in.scale + c) : Vec<T>{};
      const Vec<T> shift = affine.value ? load(in.shift + c) : Vec<T>{};
      T* const to = out + c / kLanes<T> * block;
      const auto pixel = [&](int64_t p, Vec<T> v) __attribute__((always_inline)) {
        if constexpr (affine.value) v = fma(v, scale, shift);
        if constexpr (rectify.value) v = relu(v);
        store(to + p * kLanes<T>, v);
      };
      if (n >= kLanes<T>)
        for (int64_t p = 0; p < count; ++p) pixel(p, load(x + p * x_pitch + c));
      else
        for (int64_t p = 0; p < count; ++p) pixel(p, load_some(x + p * x_pitch + c, n));
    }
  };
  if (in.scale)
    with_relu ? run(Count<1>{}, Count<1>{}) : run(Count<1>{}, Count<0>{});
  else
    with_relu ? run(Count<0>{}, Count<1>{}) : run(Count<0>{}, Count<0>{});
}

// Fills the inside of a padded input; its border stays as it is, 0.
template <class T>
void pad_image(const BlockShape& s, const Pixels<const T>& x, const Affine<T>& in,
               const Blocked<T>& out) {
  for (int64_t h = 0; h < s.height; ++h)
    activate(x.data + h * s.width * x.pitch, x.pitch, s.in_channels, s.width, in, s.relu,
             out.data + (h + s.pad_h) * out.row + s.pad_w * kLanes<T>, out.block);
}

// A group of rows through the depthwise convolution, into (blocks, pixels, lanes).
template <class T>
NASP_INLINE void depthwise_rows(const BlockShape& s, const Blocked<const T>& input,
                                const T* weights, int64_t row, int64_t rows, T* out,
                                int64_t block) {
  with_kernel(s.kernel_h, [&](auto kernel) __attribute__((always_inline)) {
    for (int64_t b = 0; b * kLanes<T> < s.in_channels; ++b)
      for (int64_t h = 0; h < rows; ++h) {
        T* const to = out + b * block + h * s.out_width * kLanes<T>;
        depthwise_row<kernel.value>(
            input.data + b * input.block + (row + h) * s.stride_h * input.row,
            s.dilation_h * input.row, s.stride_w, s.dilation_w, weights + b * s.taps() * kLanes<T>,
            s.out_width, [&](int64_t w, auto& sum, auto tile) __attribute__((always_inline)) {
#pragma GCC unroll 8
              for (int t = 0; t < tile.value; ++t) store(to + (w + t) * kLanes<T>, sum[t]);
            });
      }
  });
}

// Where the products of a group of rows read: runs of pixels, one start for each tap and part.
template <class T>
struct ProductInput {
  const T* data;       // of tap 0 and part 0
  int64_t block;       // from a block of channels to the next
  int64_t pitch, run;  // from a pixel, a run of pixels, to the next
  int64_t pixels, runs;
  int64_t taps, kernel_w, tap_row, tap_column, part;

  NASP_INLINE const T* at(int64_t run_number, int64_t tap, int64_t part_number) const {
    return data + run_number * run + tap / kernel_w * tap_row + tap % kernel_w * tap_column +
           part_number * part;
  }
};

// flat: all pixels of the group side by side, one tap; null: the padded input.
template <class T>
NASP_INLINE ProductInput<T> product_input(const BlockShape& s, const Blocked<const T>& input,
                                          const T* flat, int64_t flat_block, int64_t row,
                                          int64_t rows) {
  if (flat) return {flat, flat_block, kLanes<T>, 0, rows * s.out_width, 1, 1, 1, 0, 0, 0};
  return {input.data + row * s.stride_h * input.row,
          input.block,
          s.stride_w * kLanes<T>,
          s.stride_h * input.row,
          s.out_width,
          rows,
          s.taps(),
          s.kernel_w,
          s.dilation_h * input.row,
          s.dilation_w * kLanes<T>,
          input.row + kLanes<T>};
}

// The products of a group for kVectors vectors of output channels of a part, and their sums.
template <int kVectors, bool kDots, class T>
NASP_INLINE void forward_columns(const BlockShape& s, const ForwardImage<T>& f,
                                 const ProductInput<T>& input, int64_t row, int64_t part,
                                 int64_t column) {
  constexpr int64_t kLane = kLanes<T>;
  const int64_t part_pad = round_up(s.part_channels(), kLane);
  const int64_t packed = part * part_pad + column, channel = part * s.part_channels() + column;
  const int64_t left = s.part_channels() - column;  // channels from here on
  const T* const weights = f.pointwise + part * input.taps * s.in_channels * part_pad + column;
  Vec<T> shift[kVectors], sum[kVectors] = {}, square[kVectors] = {}, dot[kVectors] = {};
  for (int v = 0; v < kVectors; ++v) shift[v] = load(f.sums.shift + packed + v * kLane);
  for (int64_t run = 0; run < input.runs; ++run) {
    const int64_t first = row * s.out_width + run * input.pixels;  // pixel of the image
    for_tiles<kTilePixels<kVectors>>(input.pixels, [&](int64_t p,
                                                       auto tile) __attribute__((always_inline)) {
      Vec<T> z[tile.value][kVectors] = {};
      if (input.pitch == kLanes<T>)
        for (int64_t tap = 0; tap < input.taps; ++tap)
          multiply_tile(Factor<T>{input.at(run, tap, part), input.block, 0}.at(p), s.in_channels,
                        weights + tap * s.in_channels * part_pad, part_pad, z);
      else
        for (int64_t tap = 0; tap < input.taps; ++tap)
          multiply_tile(Factor<T, 0>{input.at(run, tap, part), input.block, input.pitch}.at(p),
                        s.in_channels, weights + tap * s.in_channels * part_pad, part_pad, z);
      if (first + p == 0)
        for (int v = 0; v < kVectors; ++v) {
          shift[v] = z[0][v];
          store(f.sums.shift + packed + v * kLane, shift[v]);
        }
#pragma GCC unroll 16
      for (int t = 0; t < tile.value; ++t) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          const int64_t n = left - v * kLane;
          if (f.z.data)
            store_upto(f.z.data + (first + p + t) * f.z.pitch + channel + v * kLane, z[t][v], n);
          const Vec<T> d = z[t][v] - shift[v];
          sum[v] = sum[v] + d;
          square[v] = fma(d, d, square[v]);
          if constexpr (kDots)
            dot[v] = fma(
                load_upto(f.grad.data + (first + p + t) * f.grad.pitch + channel + v * kLane, n), d,
                dot[v]);
        }
      }
    });
  }
  for (int v = 0; v < kVectors; ++v) {
    add_to<T>(f.sums.sum + packed + v * kLane, sum[v]);
    add_to<T>(f.sums.square + packed + v * kLane, square[v]);
    if constexpr (kDots) add_to<T>(f.sums.dot + packed + v * kLane, dot[v]);
  }
}

template <bool kDots, class T>
NASP_INLINE void forward_groups(const BlockShape& s, const ForwardImage<T>& f) {
  const int64_t part_vectors = round_up(s.part_channels(), kLanes<T>) / kLanes<T>;
  const int64_t step = group_rows(s);
  for (int64_t row = 0; row < s.out_height; row += step) {
    const int64_t rows = step < s.out_height - row ? step : s.out_height - row;
    const int64_t block = rows * s.out_width * kLanes<T>;
    const T* flat = nullptr;
    if (s.depthwise) {
      depthwise_rows(s, f.input, f.depthwise, row, rows, f.scratch, block);
      flat = f.scratch;
    } else if (s.is_pointwise()) {
      activate(f.x.data + row * s.width * f.x.pitch, f.x.pitch, s.in_channels, rows * s.width, f.in,
               s.relu, f.scratch, block);
      flat = f.scratch;
    }
    const ProductInput<T> input = product_input(s, f.input, flat, block, row, rows);
    for (int64_t part = 0; part < s.parts; ++part)
      for_vectors(part_vectors, [&](int64_t v, auto vectors) __attribute__((always_inline)) {
        forward_columns<vectors.value, kDots>(s, f, input, row, part, v * kLanes<T>);
      });
  }
}

template <class T>
void forward_image(const BlockShape& s, const ForwardImage<T>& f) {
  const int64_t packed = s.parts * round_up(s.part_channels(), kLanes<T>);
  for (int64_t c = 0; c < packed; ++c) f.sums.sum[c] = f.sums.square[c] = 0;
  for (int64_t c = 0; c < packed; ++c) f.sums.shift[c] = 0;
  if (f.grad.data) {
    for (int64_t c = 0; c < packed; ++c) f.sums.dot[c] = 0;
    forward_groups<true>(s, f);
  } else {
    forward_groups<false>(s, f);
  }
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
