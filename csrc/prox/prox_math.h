// SPDX-License-Identifier: MIT
// The row arithmetic of prox_C and prox_C1 (Yao et al. 2020, eq. 12-13): which entry a row keeps.
//
// An entry is a Candidate; `better` is associative and commutative, so a row may be reduced in any
// order (one thread per row, a shuffle tree, SIMD) and the outcome is the same, bit for bit.
#pragma once

#include <cmath>

#include "../core/ties.h"

namespace nasp_ext {

template <class Acc>
struct Candidate {
  Acc score;
  uint64_t key;
  int64_t index;  // >= 0: an entry; kPruned: no entry; kNanRow: a NaN was met
};

template <class Acc>
NASP_HOST_DEVICE Candidate<Acc> no_candidate() {
  return {Acc(0), 0, kPruned};
}

// Strict total order of candidates with distinct indices: NaN, score, tie key, lowest index.
template <class Acc>
NASP_HOST_DEVICE bool beats(const Candidate<Acc>& a, const Candidate<Acc>& b) {
  if (a.index < 0 || b.index < 0)
    return b.index == kNanRow ? false : (a.index == kNanRow || b.index < a.index);
  if (a.score != b.score) return a.score > b.score;
  if (a.key != b.key) return a.key > b.key;
  return a.index < b.index;
}

template <class Acc>
NASP_HOST_DEVICE Candidate<Acc> better(const Candidate<Acc>& a, const Candidate<Acc>& b) {
  return beats(b, a) ? b : a;
}

// prox_C: the violation is non-decreasing in the entry, so its maximum is the largest unclipped
// entry; what is kept is its nearest point of [0, 1].
struct ProxC {
  template <class Acc>
  NASP_HOST_DEVICE static Acc score(Acc x) {
    return x;
  }
  template <class Acc>
  NASP_HOST_DEVICE static Acc kept(Acc x) {
    return clip01(x);
  }
};

// prox_C1: the entry of largest magnitude, unchanged.
struct ProxC1 {
  template <class Acc>
  NASP_HOST_DEVICE static Acc score(Acc x) {
    return x < Acc(0) ? -x : x;
  }
  template <class Acc>
  NASP_HOST_DEVICE static Acc kept(Acc x) {
    return x;
  }
};

// The discretisation of the NASP authors: the entry that prox_C keeps, set to one.
struct OneHot {
  template <class Acc>
  NASP_HOST_DEVICE static Acc score(Acc x) {
    return x;
  }
  template <class Acc>
  NASP_HOST_DEVICE static Acc kept(Acc) {
    return Acc(1);
  }
};

template <class Prox, class T>
NASP_HOST_DEVICE Candidate<accumulate_t<T>> entry_candidate(T a, bool exists, const Ties& ties,
                                                            int64_t row, int64_t option) {
  using Acc = accumulate_t<T>;
  const Acc x = static_cast<Acc>(a);
  if (!exists) return no_candidate<Acc>();
  return {Prox::score(x), ties.key(row, option), is_nan(x) ? kNanRow : option};
}

// The entry that row `row` keeps. mask: one bool per option (true = exists), or null.
template <class Prox, class T>
NASP_HOST_DEVICE Candidate<accumulate_t<T>> select_entry(const T* a,        // (K,)
                                                         const bool* mask,  // (K,) or null
                                                         int64_t options, const Ties& ties,
                                                         int64_t row) {
  auto best = no_candidate<accumulate_t<T>>();
  for (int64_t k = 0; k < options; ++k)
    best = better(best, entry_candidate<Prox>(a[k], !mask || mask[k], ties, row, k));
  return best;
}

// Element `option` of the projected row whose selection is `index`; a row with a NaN is all NaN.
template <class Prox, class T>
NASP_HOST_DEVICE T projected_entry(T a, int64_t option, int64_t index) {
  using Acc = accumulate_t<T>;
  if (index == kNanRow) return static_cast<T>(static_cast<Acc>(NAN));
  return option == index ? static_cast<T>(Prox::kept(static_cast<Acc>(a))) : static_cast<T>(Acc(0));
}

}  // namespace nasp_ext
