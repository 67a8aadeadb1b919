// SPDX-License-Identifier: MIT
// Launchers of node sums on the device, on raw pointers. Images are dense in their pixels.
#pragma once

#include "../core/stream.h"
#include "node_images.h"

namespace nasp_ext {

template <class T>
struct NodeTerm {
  const T* z;     // (pixels, pitch)
  const T* norm;  // (5, C); null: the term is added as it is
  int64_t pitch;
};

template <class T>
struct NodeTerms {  // by value in a kernel's parameters
  NodeTerm<T> term[kMaxTerms];
  int count, channels;
  int64_t pixels, pixels_of_image;
  const T* factors;  // (count, images) or null
  int64_t images;
};
static_assert(sizeof(NodeTerms<double>) <= 4000, "kernel parameters over 4 KiB");

// out = base + sum_e factors[e] * norm_e(term_e); at least one pixel. base: null = 0; may be `out`.
template <class T>
void launch_node_sum(const NodeTerms<T>& terms, T* out, int64_t out_pitch, const T* base,
                     int64_t base_pitch, stream_t stream);

constexpr int64_t kNodeTile = 128;  // pixels of a thread block

// Sums of every tile of kNodeTile pixels, (tiles, count, 2, C): of factors[e] * grad, and of that
// times the normalised term.
template <class T>
void launch_node_gradient_sums(const NodeTerms<T>& terms, const T* grad, int64_t grad_pitch,
                               T* sums, stream_t stream);

}  // namespace nasp_ext
