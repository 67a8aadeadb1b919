// SPDX-License-Identifier: MIT
// Sums over the pixels of an image: moments, and inner products with a gradient.
#pragma once

#include "../core/pixels.h"
#include "../core/vector.h"

namespace nasp_ext {
namespace NASP_ISA {

constexpr int64_t kRunPixels = 64;  // added up in T before the sum goes on in double

template <class T>
NASP_INLINE void clear_sums(const ImageSums<T>& sums, int64_t c) {
  for (int64_t i = c; i < c + kLanes<T>; ++i) sums.shift[i] = 0, sums.sum[i] = sums.square[i] = 0;
}

// Takes the shift off a run of pixels, one vector of channels each, and adds them and their squares
// to the sums. `first`: the run starts the image, its first pixel becomes the shift.
template <class T>
NASP_INLINE void add_shifted_sums(T* z, int64_t pixels, bool first, int64_t c,
                                  const ImageSums<T>& sums) {
  if (first) store(sums.shift + c, load(z));
  const Vec<T> shift = load(sums.shift + c);
  Vec<T> sum = {}, square = {};
  for (int64_t p = 0; p < pixels; ++p) {
    const Vec<T> d = load(z + p * kLanes<T>) - shift;
    store(z + p * kLanes<T>, d);
    sum = sum + d;
    square = fma(d, d, square);
  }
  add_to<T>(sums.sum + c, sum);
  add_to<T>(sums.square + c, square);
}

// dot += sum over a run of pixels of grad * (z - less), one vector of channels of which n exist.
template <class T>
NASP_INLINE void add_run_dots(Pixels<const T> z, int64_t z_lanes, Pixels<const T> grad, int64_t n,
                              int64_t pixels, Vec<T> less, double* dot) {
  Vec<T> sum = {}, other = {};
  const auto product = [&](int64_t p, auto some, Vec<T> to) __attribute__((always_inline)) {
    const Vec<T> g =
        some.value ? load_some(grad.data + p * grad.pitch, n) : load(grad.data + p * grad.pitch);
    const Vec<T> v = load_upto(z.data + p * z.pitch, some.value ? z_lanes : kLanes<T>);
    return fma(g, v - less, to);
  };
  if (n < kLanes<T>) {
    for (int64_t p = 0; p < pixels; ++p) sum = product(p, Count<1>{}, sum);
  } else {
    int64_t p = 0;
    for (; p + 1 < pixels; p += 2) {
      sum = product(p, Count<0>{}, sum);
      other = product(p + 1, Count<0>{}, other);
    }
    if (p < pixels) sum = product(p, Count<0>{}, sum);
  }
  add_to<T>(dot, sum + other);
}

// dot[c] += sum over a run of grad * (z - shift); shift null: 0.
template <class T>
NASP_INLINE void add_row_dots(Pixels<const T> z, Pixels<const T> grad, int64_t pixels,
                              int64_t channels, const T* shift, double* dot) {
  for (int64_t c = 0; c < channels; c += kLanes<T>) {
    const int64_t n = channels - c;
    add_run_dots<T>({z.data + c, z.pitch}, n, {grad.data + c, grad.pitch}, n, pixels,
                    shift ? load(shift + c) : Vec<T>{}, dot + c);
  }
}

template <class T>
NASP_INLINE void add_row(Pixels<const T> x, int64_t pixels, int64_t channels, double* sum) {
  for (int64_t c = 0; c < channels; c += kLanes<T>) {
    Vec<T> total = {};
    for (int64_t p = 0; p < pixels; ++p)
      total = total + load_upto(x.data + p * x.pitch + c, channels - c);
    add_to<T>(sum + c, total);
  }
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
