// SPDX-License-Identifier: MIT
// What cell_forward kept, sorted by whom it belongs to.
#pragma once

#include "cell_run.h"

namespace nasp_ext {

// kept: the output, then the rest as csrc/cell/cell.h lists it.
struct CellTape {
  Tensors states;  // the inputs, preprocessed, and the nodes
  std::vector<std::vector<Kept>> of_input, of_edge;

  CellTape(const CellProgram& cell, const Tensors& inputs, const Tensors& kept, const char* op)
      : states(inputs) {
    size_t next = 0;
    const auto take = [&]() -> const Tensor& {
      if (next >= kept.size())
        fail(op, ": expected more tensors of the forward than ", kept.size());
      return kept[next++];
    };
    const auto take_option = [&](const ProgramOption& o, bool norms_alone) {
      std::vector<Kept> found(o.kind == OptionKind::kPool ? 1 : o.blocks.size());
      for (Kept& k : found) {
        if (!norms_alone) k.z = take();
        k.norm = take();
      }
      return found;
    };
    const Tensor& output = take();
    const int64_t nodes = static_cast<int64_t>(cell.concat.size());
    if (as_images(output, op, "kept output").channels % nodes != 0)
      fail(op, ": expected the kept output of ", nodes, " nodes, found ", shape_text(output));
    for (size_t i = 0; i < inputs.size(); ++i) {
      of_input.emplace_back();
      if (!cell.preprocess[i]) continue;
      of_input[i] = take_option(*cell.preprocess[i], false);
      states[i] = of_input[i].back().norm.numel() ? take() : of_input[i].back().z;
    }
    size_t edge = 0;
    for (int64_t node = 0; node < cell.nodes; ++node) {
      for (; edge < cell.edges.size() && cell.edges[edge].node == node; ++edge)
        of_edge.push_back(take_option(cell.edges[edge].option, cell.edges[edge].mixed));
      const int64_t state = cell.inputs + node;
      states.push_back(cell.position(state) >= 0 ? state_slice(output, cell, state) : take());
    }
    if (next != kept.size())
      fail(op, ": expected ", next, " tensors of the forward, found ", kept.size());
  }
};

}  // namespace nasp_ext
