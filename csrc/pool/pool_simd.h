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

// at(vector, number in the window) for every pixel of a window, one vector of channels.
template <class T, class At>
NASP_INLINE void for_window(const Window& rows, const Window& columns, const T* x, int64_t pitch,
                            int64_t width, int64_t n, const At& at) {
  for (int64_t h = rows.begin; h < rows.end; ++h)
    for (int64_t w = columns.begin; w < columns.end; ++w)
      at(load_upto(x + (h * width + w) * pitch, n), h * width + w);
}

template <class T>
NASP_INLINE Vec<T> pool_window(const PoolShape& s, const Window& rows, const Window& columns,
                               const T* x, int64_t pitch, int64_t n) {
  if (s.max) {
    Vec<T> most = load_upto(x + (rows.begin * s.width + columns.begin) * pitch, n);
    for_window(rows, columns, x, pitch, s.width, n, [&](Vec<T> v, int64_t)
                                                        __attribute__((always_inline)) {
                                                          most = v > most || v != v ? v : most;
                                                        });
    return most;
  }
  Vec<T> sum = {};
  for_window(rows, columns, x, pitch, s.width, n,
             [&](Vec<T> v, int64_t) __attribute__((always_inline)) { sum = sum + v; });
  return sum / splat(static_cast<T>(rows.size() * columns.size()));
}

template <class T>
void pool_forward_image(const PoolShape& s, const PoolForwardImage<T>& f) {
  const int64_t pad = round_up(s.channels, kLanes<T>);
  if (f.sums.sum)
    for (int64_t c = 0; c < pad; ++c) f.sums.shift[c] = 0, f.sums.sum[c] = f.sums.square[c] = 0;
  for (int64_t i = 0; i < f.grad_count * pad; ++i) f.sums.dot[i] = 0;
  for (int64_t h = 0; h < s.out_height; ++h) {
    const Window rows(s, h, s.height);
    for (int64_t w = 0; w < s.out_width; ++w) {
      const Window columns(s, w, s.width);
      for (int64_t c = 0; c < pad; c += kLanes<T>) {
        const int64_t n = s.channels - c;
        const Vec<T> z = pool_window(s, rows, columns, f.x.data + c, f.x.pitch, n);
        store(f.scratch + w * pad + c, z);
        if (f.z.data) store_upto(f.z.data + (h * s.out_width + w) * f.z.pitch + c, z, n);
        if (f.sums.sum && h == 0 && w == 0) store(f.sums.shift + c, z);
      }
    }
    if (f.sums.sum) add_row_sums<T>(f.scratch, pad, s.out_width, f.sums);
    for (int64_t g = 0; g < f.grad_count; ++g)
      add_row_dots<T>(Pixels<const T>{f.scratch, pad}, f.grads[g].image(1, h * s.out_width),
                      s.out_width, s.channels, f.sums.shift, f.sums.dot + g * pad);
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
          const T* const x = b.x.data + c;
          Vec<T> most = {}, place = splat(T(-1));
          T number = 0;
          for_window(rows, columns, x, b.x.pitch, s.width, n, [&](Vec<T> v, int64_t)
                                                                  __attribute__((always_inline)) {
            // The first pixel is taken unseen: all may be -inf.
            const auto better = v > most || v != v || place < 0;
            most = better ? v : most;
            place = better ? splat(number) : place;
            number += 1;
          });
          number = 0;
          for_window(rows, columns, x, b.x.pitch, s.width, n, [&](Vec<T>, int64_t at)
                                                                  __attribute__((always_inline)) {
            add_some(to + at * b.grad_x.pitch, place == number ? gz : Vec<T>{}, n);
            number += 1;
          });
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
