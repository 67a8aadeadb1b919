// SPDX-License-Identifier: MIT
// Pools of one image multiplied with the gradients of all edges, and the sums of a gradient.
#pragma once

#include "../pool/pool_simd.h"
#include "source_images.h"

namespace nasp_ext {
namespace NASP_ISA {

// dots[i] += sum of grad * z[i] over a run of pixels, grad_sum += sum of grad; a vector of
// channels.
template <int kPools, class T>
NASP_INLINE void add_pool_dots(const T* const* z, const Pixels<const T>& grad, int64_t n,
                               int64_t pixels, double* const* dots, double* grad_sum) {
  Vec<T> dot[kPools + 1] = {};
  const auto run = [&](auto some) __attribute__((always_inline)) {
    for (int64_t p = 0; p < pixels; ++p) {
      const T* const at = grad.data + p * grad.pitch;
      const Vec<T> g = some.value ? load_some(at, n) : load(at);
      dot[kPools] = dot[kPools] + g;
#pragma GCC unroll 4
      for (int i = 0; i < kPools; ++i) dot[i] = fma(g, load(z[i] + p * kLanes<T>), dot[i]);
    }
  };
  n < kLanes<T> ? run(Count<1>{}) : run(Count<0>{});
  for (int i = 0; i < kPools; ++i) add_to<T>(dots[i], dot[i]);
  if (grad_sum) add_to<T>(grad_sum, dot[kPools]);
}

template <class T>
void pool_dots_image(const PoolDotsImage<T>& f) {
  const PoolShape& s = f.shapes[0];
  const int64_t pad = round_up(s.channels, kLanes<T>), step = pool_rows(s);
  const int64_t scratch = pool_scratch(s, kLanes<T>);
  for (int64_t i = 0; i < f.count; ++i)
    for (int64_t k = 0; k < f.grad_count * pad; ++k) f.sums[i].dot[k] = 0;
  for (int64_t c = 0; c < s.channels; c += kLanes<T>) {
    const T* z[kMaxPools];
    double* dots[kMaxPools];
    for (int64_t i = 0; i < f.count; ++i) clear_sums(f.sums[i], c);
    for (int64_t row = 0; row < s.out_height; row += step) {
      const int64_t rows = step < s.out_height - row ? step : s.out_height - row;
      const int64_t first = row * s.out_width, pixels = rows * s.out_width;
      for (int64_t i = 0; i < f.count; ++i) {
        T* const group = pool_group(f.shapes[i], row, rows, f.x, c, f.scratch + i * scratch);
        add_shifted_sums(group, pixels, row == 0, c, f.sums[i]);
        z[i] = group;
      }
      for (int64_t g = 0; g < f.grad_count; ++g) {
        const Pixels<const T> grad{f.grads[g].data + first * f.grads[g].pitch + c,
                                   f.grads[g].pitch};
        for (int64_t i = 0; i < f.count; ++i) dots[i] = f.sums[i].dot + g * pad + c;
        for_tiles<4>(f.count, [&](int64_t i, auto tile) __attribute__((always_inline)) {
          add_pool_dots<tile.value>(z + i, grad, s.channels - c, pixels, dots + i,
                                    i ? nullptr : f.grad_sums[g] + c);
        });
      }
    }
  }
}

template <class T>
void channel_sums_image(const Pixels<const T>& x, int64_t pixels, int64_t channels, double* sums) {
  for (int64_t c = 0; c < round_up(channels, kLanes<T>); ++c) sums[c] = 0;
  for (int64_t first = 0; first < pixels; first += kRunPixels)
    add_row<T>({x.data + first * x.pitch, x.pitch},
               first + kRunPixels < pixels ? kRunPixels : pixels - first, channels, sums);
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
