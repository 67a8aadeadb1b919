// SPDX-License-Identifier: MIT
// Sums over the pixels of an image: of the terms of a node, and of what their BNs need backwards.
#pragma once

#include "../norm/sums_simd.h"
#include "node_images.h"

namespace nasp_ext {
namespace NASP_ISA {

template <class T>
void node_sum_image(const NodeImage<T>& node) {
  for (int64_t first = 0; first < node.pixels; first += kRunPixels) {
    const int64_t end = first + kRunPixels < node.pixels ? first + kRunPixels : node.pixels;
    for (int64_t c = 0; c < node.channels; c += kLanes<T>) {
      const int64_t n = node.channels - c;
      for (int64_t e = 0; e < node.count; ++e) {
        const Term<T>& term = node.terms[e];
        const Vec<T> factor = splat(term.factor);
        const Vec<T> scale = term.norm.scale ? factor * load(term.norm.scale + c) : factor;
        const Vec<T> shift = term.norm.shift ? factor * load(term.norm.shift + c) : Vec<T>{};
        for (int64_t p = first; p < end; ++p) {
          T* const out = node.out.data + p * node.out.pitch + c;
          Vec<T> before = shift;
          if (e)
            before = before + load_upto(out, n);
          else if (node.base.data)
            before = before + load_upto(node.base.data + p * node.base.pitch + c, n);
          store_upto(out, fma(load_upto(term.z.data + p * term.z.pitch + c, n), scale, before), n);
        }
      }
    }
  }
}

template <class T>
void node_gradient_sums_image(const NodeImage<T>& node) {
  const int64_t pad = round_up(node.channels, kLanes<T>);
  for (int64_t e = 0; e < node.count; ++e)
    for (int64_t c = 0; c < pad; ++c) node.terms[e].sum[c] = node.terms[e].dot[c] = 0;
  for (int64_t first = 0; first < node.pixels; first += kRunPixels) {
    const int64_t size = first + kRunPixels < node.pixels ? kRunPixels : node.pixels - first;
    const auto run = [&](Pixels<const T> x) __attribute__((always_inline)) {
      return Pixels<const T>{x.data + first * x.pitch, x.pitch};
    };
    add_row<T>(run(node.grad), size, node.channels, node.terms[0].sum);
    for (int64_t e = 0; e < node.count; ++e) {
      const Term<T>& term = node.terms[e];
      add_row_dots<T>(run(term.z), run(node.grad), size, node.channels, term.mean, term.dot);
    }
  }
  for (int64_t e = 1; e < node.count; ++e)
    for (int64_t c = 0; c < pad; ++c) node.terms[e].sum[c] = node.terms[0].sum[c];
}

}  // namespace NASP_ISA
}  // namespace nasp_ext
