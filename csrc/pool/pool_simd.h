// SPDX-License-Identifier: MIT
// Pools of one image. Ties and NaN as in PyTorch: the first maximum of a window in reading order,
// and a NaN beats every number.
#pragma once

#include "../norm/sums_simd.h"
#include "pool_images.h"

namespace nasp_ext {
namespace NASP_ISA {

// The part of a window that lies inside the image.
struct Window {
  int64_t begin, end;
  NASP_INLINE Window(const PoolShape& s, int64_t out, int64_t size) {
    const int64_t first = out * s.stride - s.pad, last = first + s.kernel;
    begin = first < 0 ? 0 : first;
    end = last > size ? size : last;
  }
  NASP_INLINE int64_t size() const { return end - begin; }
};

// The larger of two, a NaN if one is.
template <class V>
NASP_INLINE V larger(V a, V b) {
  return b <= a || a != a ? a : b;
}

// One row of a pool, a vector of channels: first every column of the input over the rows of the
// window, then every output pixel over the columns. column: (width, lanes), out: (out_width,
// lanes).
template <bool kMax, class T>
NASP_INLINE void pool_row(const PoolShape& s, int64_t row, const T* x, int64_t pitch, int64_t n,
                          T* column, T* out) {
  const auto join = [](Vec<T> a, Vec<T> b) __attribute__((always_inline)) {
    if constexpr (kMax)
      return larger(a, b);
    else
      return a + b;
  };
  const Window rows(s, row, s.height);
  const auto columns = [&](auto some) __attribute__((always_inline)) {
    const auto at = [&](int64_t h, int64_t w) __attribute__((always_inline)) {
      const T* const p = x + (h * s.width + w) * pitch;
      return some.value ? load_some(p, n) : load(p);
    };
    if (rows.size() == 3)
      for (int64_t w = 0; w < s.width; ++w)
        store(column + w * kLanes<T>,
              join(join(at(rows.begin, w), at(rows.begin + 1, w)), at(rows.begin + 2, w)));
    else
      for (int64_t w = 0; w < s.width; ++w) {
        Vec<T> v = at(rows.begin, w);
        for (int64_t h = rows.begin + 1; h < rows.end; ++h) v = join(v, at(h, w));
        store(column + w * kLanes<T>, v);
      }
  };
  n < kLanes<T> ? columns(Count<1>{}) : columns(Count<0>{});
  for (int64_t w = 0; w < s.out_width; ++w) {
    const Window window(s, w, s.width);
    const T* const p = column + window.begin * kLanes<T>;
    Vec<T> v = load(p);
    if (window.size() == 3)
      v = join(join(v, load(p + kLanes<T>)), load(p + 2 * kLanes<T>));
    else
      for (int64_t i = 1; i < window.size(); ++i) v = join(v, load(p + i * kLanes<T>));
    if constexpr (!kMax) v = v * splat(T(1) / static_cast<T>(rows.size() * window.size()));
    store(out + w * kLanes<T>, v);
  }
}

// A group of rows of a pool, a vector of channels, into scratch behind the columns.
template <class T>
NASP_INLINE T* pool_group(const PoolShape& s, int64_t row, int64_t rows, const Pixels<const T>& x,
                          int64_t c, T* scratch) {
  T* const out = scratch + s.width * kLanes<T>;
  for (int64_t r = 0; r < rows; ++r) {
    T* const to = out + r * s.out_width * kLanes<T>;
    s.max ? pool_row<true>(s, row + r, x.data + c, x.pitch, s.channels - c, scratch, to)
          : pool_row<false>(s, row + r, x.data + c, x.pitch, s.channels - c, scratch, to);
  }
  return out;
}

template <class T>
void pool_forward_image(const PoolShape& s, const PoolForwardImage<T>& f) {
  const int64_t step = pool_rows(s);
  for (int64_t c = 0; c < s.channels; c += kLanes<T>) {
    const int64_t n = s.channels - c;
    if (f.sums.sum) clear_sums(f.sums, c);
    for (int64_t row = 0; row < s.out_height; row += step) {
      const int64_t rows = step < s.out_height - row ? step : s.out_height - row;
      const int64_t pixels = rows * s.out_width;
      T* const z = pool_group(s, row, rows, f.x, c, f.scratch);
      T* const to = f.z.data + row * s.out_width * f.z.pitch + c;
      if (n < kLanes<T>)
        for (int64_t p = 0; p < pixels; ++p)
          store_some(to + p * f.z.pitch, load(z + p * kLanes<T>), n);
      else
        for (int64_t p = 0; p < pixels; ++p) store(to + p * f.z.pitch, load(z + p * kLanes<T>));
      if (f.sums.sum) add_shifted_sums(z, pixels, row == 0, c, f.sums);
    }
  }
}

// Adds gz to the pixel of the window that was the maximum: the first one in reading order, or the
// last NaN. The first pixel is taken unseen: all may be -inf.
template <class T, class Lanes>
NASP_INLINE void send_to_maximum(const Window& rows, const Window& columns, int64_t width,
                                 const T* x, int64_t x_pitch, Vec<T> gz, T* to, int64_t to_pitch,
                                 const Lanes& lanes) {
  Vec<T> most = lanes.read(x + (rows.begin * width + columns.begin) * x_pitch), place = {};
  Vec<T> number = {};
  for (int64_t h = rows.begin; h < rows.end; ++h)
    for (int64_t w = columns.begin; w < columns.end; ++w) {
      const Vec<T> v = lanes.read(x + (h * width + w) * x_pitch);
      const auto worse = v <= most;  // false for a NaN, and so is most <= v for a NaN before
      const auto keeps = worse || (most != most && v == v);
      most = keeps ? most : v;
      place = keeps ? place : number;
      number = number + 1;
    }
  number = Vec<T>{};
  for (int64_t h = rows.begin; h < rows.end; ++h)
    for (int64_t w = columns.begin; w < columns.end; ++w) {
      T* const at = to + (h * width + w) * to_pitch;
      lanes.write(at, lanes.read(at) + (place == number ? gz : Vec<T>{}));
      number = number + 1;
    }
}

// How a vector of channels is read and written: all lanes, or those that exist.
template <class T>
struct AllLanes {
  NASP_INLINE Vec<T> read(const T* p) const { return load(p); }
  NASP_INLINE void write(T* p, Vec<T> v) const { store(p, v); }
};
template <class T>
struct SomeLanes {
  int64_t n;
  NASP_INLINE Vec<T> read(const T* p) const { return load_some(p, n); }
  NASP_INLINE void write(T* p, Vec<T> v) const { store_some(p, v, n); }
};

// One vector of channels of an image; the gradient of x was set to the base before.
template <bool kMax, class T, class Lanes>
NASP_INLINE void pool_backward_channels(const PoolShape& s, const PoolBackwardImage<T>& b,
                                        int64_t c, const Lanes& lanes) {
  const Vec<T> scale_g = load(b.norm.scale_g + c), scale_z = load(b.norm.scale_z + c);
  const Vec<T> mean = load(b.norm.mean + c), offset = load(b.norm.offset + c);
  T* const to = b.grad_x.data + c;
  for (int64_t h = 0; h < s.out_height; ++h) {
    const Window rows(s, h, s.height);
    for (int64_t w = 0; w < s.out_width; ++w) {
      const Window columns(s, w, s.width);
      const int64_t pixel = h * s.out_width + w;
      Vec<T> gz = scale_g * lanes.read(b.grad.data + pixel * b.grad.pitch + c);
      if (b.z.data)
        gz = gz + fma(scale_z, lanes.read(b.z.data + pixel * b.z.pitch + c) - mean, offset);
      if constexpr (kMax) {
        send_to_maximum(rows, columns, s.width, b.x.data + c, b.x.pitch, gz, to, b.grad_x.pitch,
                        lanes);
      } else {
        const Vec<T> share = gz * splat(T(1) / static_cast<T>(rows.size() * columns.size()));
        for (int64_t y = rows.begin; y < rows.end; ++y)
          for (int64_t x = columns.begin; x < columns.end; ++x) {
            T* const at = to + (y * s.width + x) * b.grad_x.pitch;
            lanes.write(at, lanes.read(at) + share);
          }
      }
    }
  }
}

template <class T>
void pool_backward_image(const PoolShape& s, const PoolBackwardImage<T>& b) {
  for (int64_t c = 0; c < s.channels; c += kLanes<T>) {
    const auto channels = [&](const auto& lanes) __attribute__((always_inline)) {
      if (b.base.data != b.grad_x.data || b.base.pitch != b.grad_x.pitch)
        for (int64_t p = 0; p < s.height * s.width; ++p)
          lanes.write(b.grad_x.data + p * b.grad_x.pitch + c,
                      b.base.data ? lanes.read(b.base.data + p * b.base.pitch + c) : Vec<T>{});
      s.max ? pool_backward_channels<true>(s, b, c, lanes)
            : pool_backward_channels<false>(s, b, c, lanes);
    };
    const int64_t n = s.channels - c;
    n < kLanes<T> ? channels(SomeLanes<T>{n}) : channels(AllLanes<T>{});
  }
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
