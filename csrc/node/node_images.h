// SPDX-License-Identifier: MIT
// What the loops of the CPU take for one image of a node of a cell: the sum of what its edges give
// (Yao et al. 2020, eq. 7), each with a BN that is applied here and with a factor.
#pragma once

#include "../core/pixels.h"

namespace nasp_ext {

constexpr int64_t kMaxTerms = 64;

template <class T>
struct Term {
  Pixels<const T> z;
  Affine<T> norm;  // (pad) each; null: the term is added as it is
  T factor;
  const T* mean;  // (pad), for the sums of the backward; null: 0
  double* sum;    // (pad)
  double* dot;    // (pad)
};

template <class T>
struct NodeImage {
  int64_t channels, pixels;
  const Term<T>* terms;
  int64_t count;
  Pixels<T> out;         // forward: base + sum of factor * (scale * z + shift)
  Pixels<const T> base;  // data null: 0; may be `out`
  Pixels<const T> grad;  // backward: sum = sum of grad, dot = sum of grad * (z - mean)
};

}  // namespace nasp_ext
