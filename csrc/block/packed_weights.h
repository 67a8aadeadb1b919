// SPDX-License-Identifier: MIT
// The weights of a block packed for the tiles of the CPU.
#pragma once

#include <vector>

#include "../core/pixels.h"
#include "../program/block_weights.h"

namespace nasp_ext {

// (parts, taps, in, part_pad), for the forward.
template <class T>
std::vector<T> pack_forward(const BlockShape& s, const BlockWeights& weights, int64_t lanes) {
  const int64_t taps = product_taps(s), out = s.part_channels(), pad = round_up(out, lanes);
  std::vector<T> packed(static_cast<size_t>(s.parts * taps * s.in_channels * pad), T(0));
  for (int64_t part = 0; part < s.parts; ++part) {
    const T* const w = data_of<T>(weights.products[static_cast<size_t>(part)]);
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t i = 0; i < s.in_channels; ++i) {
        T* const to = packed.data() + ((part * taps + tap) * s.in_channels + i) * pad;
        for (int64_t o = 0; o < out; ++o) to[o] = w[(o * s.in_channels + i) * taps + tap];
      }
  }
  return packed;
}

// (parts, taps, out of the part, in_pad), for the gradient of the input.
template <class T>
std::vector<T> pack_backward(const BlockShape& s, const BlockWeights& weights, int64_t lanes) {
  const int64_t taps = product_taps(s), out = s.part_channels(),
                pad = round_up(s.in_channels, lanes);
  std::vector<T> packed(static_cast<size_t>(s.parts * taps * out * pad), T(0));
  for (int64_t part = 0; part < s.parts; ++part) {
    const T* const w = data_of<T>(weights.products[static_cast<size_t>(part)]);
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t o = 0; o < out; ++o) {
        T* const to = packed.data() + ((part * taps + tap) * out + o) * pad;
        for (int64_t i = 0; i < s.in_channels; ++i) to[i] = w[(o * s.in_channels + i) * taps + tap];
      }
  }
  return packed;
}

// Where a tap of a channel lies in packed depthwise weights, (blocks, taps, lanes).
inline int64_t depthwise_index(int64_t channel, int64_t tap, int64_t taps, int64_t lanes) {
  return (channel / lanes * taps + tap) * lanes + channel % lanes;
}

// (blocks, taps, lanes); flipped: the last tap first, for the gradient of the input.
template <class T>
std::vector<T> pack_depthwise(const BlockShape& s, const BlockWeights& weights, int64_t lanes,
                              bool flipped) {
  if (!s.depthwise) return {};
  const int64_t taps = s.taps(), pad = round_up(s.in_channels, lanes);
  const T* const w = data_of<T>(*weights.depthwise);
  std::vector<T> packed(static_cast<size_t>(taps * pad), T(0));
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t c = 0; c < s.in_channels; ++c)
      packed[static_cast<size_t>(depthwise_index(c, flipped ? taps - 1 - tap : tap, taps, lanes))] =
          w[c * taps + tap];
  return packed;
}

// The gradients of the packed weights of all chunks, added in their order and laid out as the
// weights.
template <class T>
void unpack_products(const BlockShape& s, const std::vector<T>& chunks, int64_t count,
                     int64_t stride, int64_t lanes, const std::vector<Tensor>& out) {
  const int64_t taps = product_taps(s), channels = s.part_channels(),
                pad = round_up(channels, lanes);
  for (int64_t part = 0; part < s.parts; ++part) {
    T* const to = mutable_data_of<T>(out[static_cast<size_t>(part)]);
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t i = 0; i < s.in_channels; ++i)
        for (int64_t o = 0; o < channels; ++o) {
          const int64_t at = ((part * taps + tap) * s.in_channels + i) * pad + o;
          T sum = T(0);
          for (int64_t c = 0; c < count; ++c) sum += chunks[static_cast<size_t>(c * stride + at)];
          to[(o * s.in_channels + i) * taps + tap] = sum;
        }
  }
}

template <class T>
void unpack_depthwise(const BlockShape& s, const T* chunks, int64_t count, int64_t stride,
                      int64_t lanes, T* out) {
  const int64_t taps = s.taps();
  for (int64_t c = 0; c < s.in_channels; ++c)
    for (int64_t tap = 0; tap < taps; ++tap) {
      T sum = T(0);
      for (int64_t k = 0; k < count; ++k)
        sum += chunks[k * stride + depthwise_index(c, tap, taps, lanes)];
      out[c * taps + tap] = sum;
    }
}

}  // namespace nasp_ext
