// SPDX-License-Identifier: MIT
// The loops of a block, compiled for several instruction sets. csrc/isa chooses when called.
#pragma once

#include "block_images.h"

namespace nasp_ext {

template <class T>
struct BlockLoops {
  int64_t lanes;  // to which channels are padded
  void (*pad_image)(const BlockShape&, const Pixels<const T>&, const Affine<T>&, const Blocked<T>&);
  void (*forward_image)(const BlockShape&, const ForwardImage<T>&);
  void (*backward_image)(const BlockShape&, const BackwardImage<T>&);
};

template <class T>
const BlockLoops<T>& block_loops();

}  // namespace nasp_ext
