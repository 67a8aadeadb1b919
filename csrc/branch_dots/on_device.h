// SPDX-License-Identifier: MIT
// From tensors side by side to what the kernels of branches take.
#pragma once

#include "branch_dots_kernel.h"
#include "branches.h"

namespace nasp_ext {

template <class T>
Branches<const T> read_branches(const std::vector<Tensor>& tensors, size_t first) {
  Branches<const T> branches{};
  for (size_t k = first; k < tensors.size(); ++k) {
    branches.pointer[k - first] = static_cast<const T*>(tensors[k].const_data_ptr());
  }
  return branches;
}

// tensors: grad, then the outputs, side by side.
template <class T>
Dots<T> dots_of(const std::vector<Tensor>& tensors, const Tensor& block_sums, const Tensor& dots) {
  using Acc = accumulate_t<T>;
  return {static_cast<const T*>(tensors[0].const_data_ptr()),
          read_branches<T>(tensors, 1),
          static_cast<int>(tensors.size()) - 1,
          tensors[0].numel(),
          static_cast<Acc*>(block_sums.mutable_data_ptr()),
          static_cast<Acc*>(dots.mutable_data_ptr())};
}

}  // namespace nasp_ext
