// SPDX-License-Identifier: MIT
// The loops of a node, compiled for several instruction sets. csrc/isa chooses when called.
#pragma once

#include "node_images.h"

namespace nasp_ext {

template <class T>
struct NodeLoops {
  int64_t lanes;  // to which channels are padded
  void (*sum_image)(const NodeImage<T>&);
  void (*gradient_sums_image)(const NodeImage<T>&);
};

template <class T>
const NodeLoops<T>& node_loops();

}  // namespace nasp_ext
