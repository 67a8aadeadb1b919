// SPDX-License-Identifier: MIT
// Selection and projection of rows of up to eight options, a row per vector, on the CPU.
#pragma once

#include <type_traits>

#include "../core/simd.h"
#include "prox_math.h"

namespace nasp_ext {

// The largest of eight lanes, in every lane: three halving exchanges.
template <class V>
NASP_HOST_DEVICE V all_lanes_max(V v) {
  V other = permuted<4, 5, 6, 7, 0, 1, 2, 3>(v);
  v = v > other ? v : other;
  other = permuted<2, 3, 0, 1, 6, 7, 4, 5>(v);
  v = v > other ? v : other;
  other = permuted<1, 0, 3, 2, 5, 4, 7, 6>(v);
  return v > other ? v : other;
}

// Rows of `options` <= 8 entries from `begin` on, as long as eight entries can be read and written
// without passing row `end`; `done` is the first row left over. Ties: the lowest index. `nan` tells
// whether an entry that exists is NaN; the results are then meaningless.
// kStream: options == 8 and 16-byte aligned results, written past the caches.
template <class Prox, class T, class Index, bool kMasked, bool kStream>
NASP_SIMD_CLONES bool project_rows8(const T* a, const bool* mask, int64_t mask_rows,
                                    int64_t options, int64_t begin, int64_t end, T* values,
                                    Index* index, int64_t& done) {
  using V = typename Vector8<T>::values;
  using L = typename Vector8<T>::lanes;
  typedef int8_t bytes8 __attribute__((vector_size(8)));
  constexpr auto kInfinity = static_cast<T>(__builtin_inf());
  const L lane = {0, 1, 2, 3, 4, 5, 6, 7};
  const L inside = lane < (L{} + static_cast<std::decay_t<decltype(lane[0])>>(options));
  const V zero = {}, lowest = zero - kInfinity;
  L nan = {};
  int64_t r = begin;
  for (; r * options + 8 <= end * options; ++r) {
    V x;
    __builtin_memcpy(&x, a + r * options, sizeof x);
    L exists = inside;
    if constexpr (kMasked) {
      bytes8 bits = {};  // byte by byte: the last mask row has nothing behind it to read
      for (int64_t k = 0; k < options; ++k) bits[k] = mask[(r % mask_rows) * options + k];
      exists &= __builtin_convertvector(bits, L) != 0;
    }
    nan |= (x != x) & exists;
    V score = x;
    if constexpr (std::is_same_v<Prox, ProxC1>) score = x < 0 ? -x : x;
    const V top = all_lanes_max(exists ? score : lowest);
    const L winner = exists & (score == top);
    const L first = 8 - all_lanes_max(winner ? 8 - lane : L{});  // 8: none exists
    V kept = x;
    if constexpr (std::is_same_v<Prox, ProxC>) {
      kept = x < 0 ? zero : x;
      kept = x > 1 ? zero + 1 : kept;
    } else if constexpr (std::is_same_v<Prox, OneHot>) {
      kept = zero + 1;
    }
    kept = lane == first ? kept : zero;
    Index chosen = static_cast<Index>(first[0]);
    if constexpr (kMasked) chosen = chosen == 8 ? static_cast<Index>(kPruned) : chosen;
    if constexpr (kStream) {
      stream_store(values + 8 * r, kept);
      stream_store(index + r, chosen);
    } else {
      __builtin_memcpy(values + r * options, &kept, sizeof kept);
      index[r] = chosen;
    }
  }
  if constexpr (kStream) stream_fence();
  done = r;
  bool any = false;
  for (int k = 0; k < 8; ++k) any |= nan[k] != 0;
  return any;
}

}  // namespace nasp_ext
