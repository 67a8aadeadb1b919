// SPDX-License-Identifier: MIT
// The loops of source_dots beside those of blocks, compiled for several instruction sets. csrc/isa
// chooses when called.
#pragma once

#include "source_images.h"

namespace nasp_ext {

template <class T>
struct SourceLoops {
  int64_t lanes;  // to which channels are padded
  void (*pool_dots_image)(const PoolDotsImage<T>&);
  // Adds up the pixels of an image: (pad,).
  void (*channel_sums_image)(const Pixels<const T>&, int64_t pixels, int64_t channels, double*);
};

template <class T>
const SourceLoops<T>& source_loops();

}  // namespace nasp_ext
