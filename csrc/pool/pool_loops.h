// SPDX-License-Identifier: MIT
// The loops of a pool, compiled for several instruction sets. csrc/isa chooses when called.
#pragma once

#include "pool_images.h"

namespace nasp_ext {

template <class T>
struct PoolLoops {
  int64_t lanes;  // to which channels are padded
  void (*forward_image)(const PoolShape&, const PoolForwardImage<T>&);
  void (*backward_image)(const PoolShape&, const PoolBackwardImage<T>&);
};

template <class T>
const PoolLoops<T>& pool_loops();

}  // namespace nasp_ext
