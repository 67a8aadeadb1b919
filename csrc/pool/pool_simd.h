// SPDX-License-Identifier: MIT
// Pools of one image. Ties and NaN as in PyTorch: the first maximum of a window in reading order, and a
// NaN beats every number.
#pragma once

#include "../node/node_simd.h"
#include "pool.h"

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

// One row of a pool, a vector of channels: first every column of the input over the rows of the window,
// then every output pixel over the columns. column: (width, lanes), out: (out_width, lanes).
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

template <class T>
void pool_forward_image(const PoolShape& s, const PoolForwardImage<T>& f) {
  const int64_t pad = round_up(s.channels, kLanes<T>);
  T* const row = f.scratch + s.width * kLanes<T>;  // behind the columns
  if (f.sums.sum)
    for (int64_t c = 0; c < pad; ++c) f.sums.shift[c] = 0, f.sums.sum[c] = f.sums.square[c] = 0;
  for (int64_t i = 0; i < f.grad_count * pad; ++i) f.sums.dot[i] = 0;
  for (int64_t c = 0; c < s.channels; c += kLanes<T>) {
    const int64_t n = s.channels - c;
    for (int64_t h = 0; h < s.out_height; ++h) {
      const int64_t first = h * s.out_width;
      s.max ? pool_row<true>(s, h, f.x.data + c, f.x.pitch, n, f.scratch, row)
            : pool_row<false>(s, h, f.x.data + c, f.x.pitch, n, f.scratch, row);
      if (f.z.data)
        for (int64_t w = 0; w < s.out_width; ++w)
          store_upto(f.z.data + (first + w) * f.z.pitch + c, load(row + w * kLanes<T>), n);
      if (!f.sums.sum) continue;
      if (h == 0) store(f.sums.shift + c, load(row));
      const Vec<T> shift = load(f.sums.shift + c);
      add_run_sums<T>(row, s.out_width, shift, f.sums.sum + c, f.sums.square + c);
      for (int64_t g = 0; g < f.grad_count; ++g)
        add_run_dots<T>({row, kLanes<T>}, kLanes<T>,
                        {f.grads[g].data + first * f.grads[g].pitch + c, f.grads[g].pitch}, n,
                        s.out_width, shift, f.sums.dot + g * pad + c);
    }
  }
}

template <class T>
NASP_INLINE void add_some(T* p, Vec<T> v, int64_t n) {
  store_upto(p, load_upto(p, n) + v, n);
}

template <class T>
void pool_backward_image(const PoolShape& s, const PoolBackwardImage<T>& b) {
  const int64_t pad = round_up(s.channels, kLanes<T>);
  for (int64_t p = 0; p < s.height * s.width; ++p)
    for (int64_t c = 0; c < pad; c += kLanes<T>) {
      const int64_t n = s.channels - c;
      const Vec<T> base = b.base.data ? load_upto(b.base.data + p * b.base.pitch + c, n) : Vec<T>{};
      store_upto(b.grad_x.data + p * b.grad_x.pitch + c, base, n);
    }
  for (int64_t h = 0; h < s.out_height; ++h) {
    const Window rows(s, h, s.height);
    for (int64_t w = 0; w < s.out_width; ++w) {
      const Window columns(s, w, s.width);
      const int64_t pixel = h * s.out_width + w;
      for (int64_t c = 0; c < pad; c += kLanes<T>) {
        const int64_t n = s.channels - c;
        Vec<T> gz = load(b.norm.scale_g + c) * load_upto(b.grad.data + pixel * b.grad.pitch + c, n);
        if (b.z.data) {
          const Vec<T> d = load_upto(b.z.data + pixel * b.z.pitch + c, n) - load(b.norm.mean + c);
          gz = gz + fma(load(b.norm.scale_z + c), d, load(b.norm.offset + c));
        }
        T* const to = b.grad_x.data + c;
        if (s.max) {
          // The first pixel is taken unseen: all may be -inf.
          const T* const x = b.x.data + c;
          Vec<T> most = load_upto(x + (rows.begin * s.width + columns.begin) * b.x.pitch, n);
          Vec<T> place = {};
          T number = 0;
          for (int64_t y = rows.begin; y < rows.end; ++y)
            for (int64_t w1 = columns.begin; w1 < columns.end; ++w1, number += 1) {
              const Vec<T> v = load_upto(x + (y * s.width + w1) * b.x.pitch, n);
              const auto better = v > most || v != v;
              most = better ? v : most;
              place = better ? splat(number) : place;
            }
          number = 0;
          for (int64_t y = rows.begin; y < rows.end; ++y)
            for (int64_t w1 = columns.begin; w1 < columns.end; ++w1, number += 1)
              add_some(to + (y * s.width + w1) * b.grad_x.pitch,
                       place == splat(number) ? gz : Vec<T>{}, n);
        } else {
          const Vec<T> share = gz / splat(static_cast<T>(rows.size() * columns.size()));
          for (int64_t y = rows.begin; y < rows.end; ++y)
            for (int64_t x = columns.begin; x < columns.end; ++x)
              add_some(to + (y * s.width + x) * b.grad_x.pitch, share, n);
        }
      }
    }
  }
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
