// SPDX-License-Identifier: MIT
// The architecture gradient at one state of a cell.
#pragma once

#include "../program/cell_sources.h"
#include "cell.h"

namespace nasp_ext {

// The dots of the options of a source at one state; none if no node behind it has a gradient.
// of_states: the gradient of each state, where it has one; the nodes follow `inputs` others.
template <class Device>
MaybeTensor dots_of(StateSource& source, const Tensor& state,
                    const std::vector<MaybeTensor>& of_states, int64_t inputs) {
  const auto grad_of = [&](int64_t node) -> const MaybeTensor& {
    return of_states[static_cast<size_t>(inputs + node)];
  };
  const auto some = std::find_if(source.nodes.begin(), source.nodes.end(),
                                 [&](int64_t node) { return grad_of(node).has_value(); });
  if (some == source.nodes.end()) return std::nullopt;
  const Tensor& like = *grad_of(*some);
  Tensors grads;
  for (const int64_t node : source.nodes) {
    if (grad_of(node)) {
      grads.push_back(*grad_of(node));
      continue;
    }
    grads.push_back(new_images_like<Device>(like));
    torch::stable::zero_(grads.back());
  }
  return option_dots<Device>(state, grads, source.options);
}

}  // namespace nasp_ext
