// SPDX-License-Identifier: MIT
// The shapes of all states of a cell, and whether everything it is given fits them. A cell changes
// running statistics on its way, so all of this comes before its first step.
#pragma once

#include "../norm/norm.h"
#include "../program/option_shape.h"
#include "cell_tape.h"

namespace nasp_ext {

// The inputs, preprocessed, then the nodes. without_edges(node): of a node in which no edge ends.
template <class WithoutEdges>
std::vector<Images> state_shapes(CellProgram& cell, const Tensors& inputs, const char* op,
                                 const WithoutEdges& without_edges) {
  const Tensor& like = inputs[0];
  std::vector<Images> states;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Images x = as_first_images(inputs[i], op, "inputs");
    check_like(inputs[i], like, op, "inputs");
    if (x.count != inputs[0].size(0))
      fail(op, ": expected ", inputs[0].size(0), " images in each input, found ", x.count);
    states.push_back(cell.preprocess[i] ? shape_behind(*cell.preprocess[i], x, like, op) : x);
  }
  size_t edge = 0;
  for (int64_t node = 0; node < cell.nodes; ++node) {
    std::optional<Images> sum;
    for (; edge < cell.edges.size() && cell.edges[edge].node == node; ++edge) {
      CellEdge& e = cell.edges[edge];
      const Images found = shape_behind(e.option, states[static_cast<size_t>(e.source)], like, op);
      if (sum) check_same_images(found, *sum, op, "all edges of a node to give images");
      sum = found;
    }
    states.push_back(sum ? *sum : without_edges(node));
  }
  const Images& first = states[static_cast<size_t>(cell.concat[0])];
  for (const int64_t state : cell.concat)
    check_same_images(states[static_cast<size_t>(state)], first, op, "the nodes of concat");
  check_sizes({first.count, first.channels, static_cast<int64_t>(cell.concat.size()), first.height,
               first.width},
              sizeof(double), op);
  return states;
}

inline std::vector<Images> forward_shapes(CellProgram& cell, const Tensors& inputs,
                                          const std::vector<int64_t>& size, const char* op) {
  if (size.size() != 3)
    fail(op, ": expected size as channels, height, width, found ", size.size(), " numbers");
  const int64_t count = inputs[0].dim() == 4 ? inputs[0].size(0) : 0;
  check_sizes({count, size[0], size[1], size[2]}, sizeof(double), op);
  return state_shapes(cell, inputs, op,
                      [&](int64_t) { return Images{count, size[0], size[1], size[2], size[0]}; });
}

// z and norm of an option as its forward kept them; of one of several options there is no z.
inline void check_kept(const ProgramOption& o, const std::vector<Kept>& kept, int64_t images,
                       const Images& behind, bool mixed, const Tensor& like, const char* op) {
  for (size_t i = 0; i < kept.size(); ++i) {
    Images z = behind;
    if (!o.blocks.empty()) {
      const BlockShape& s = o.blocks[i].shape;
      z = {images, s.out_channels, s.out_height, s.out_width, 0};
    }
    if (!mixed) {
      check_like(kept[i].z, like, op, "kept images");
      check_same_images(as_images(kept[i].z, op, "kept images"), z, op, "kept images");
    }
    const ProgramNorm& norm = o.blocks.empty() ? o.norm : o.blocks[i].norm;
    if (norm.exists)
      check_some_norm(kept[i].norm, z.channels, like, op, "kept norms");
    else if (check_norm(kept[i].norm, z.channels, like, op, "kept norms").numel() > 0)
      fail(op, ": expected an empty norm where the program has none, found ",
           shape_text(kept[i].norm));
  }
}

inline std::vector<Images> backward_shapes(CellProgram& cell, const CellBackwardCall& a,
                                           const CellTape& tape, const char* op) {
  const Tensor& like = a.inputs[0];
  const auto images_of = [&](size_t state) {
    check_like(tape.states[state], like, op, "kept states");
    return as_images(tape.states[state], op, "kept states");
  };
  const std::vector<Images> states = state_shapes(cell, a.inputs, op, [&](int64_t node) {
    return images_of(static_cast<size_t>(cell.inputs + node));
  });
  for (size_t i = 0; i < states.size(); ++i)
    check_same_images(images_of(i), states[i], op, "kept states");
  for (size_t i = 0; i < a.inputs.size(); ++i)
    if (cell.preprocess[i])
      check_kept(*cell.preprocess[i], tape.of_input[i], states[i].count, states[i], false, like,
                 op);
  for (size_t i = 0; i < cell.edges.size(); ++i) {
    const CellEdge& e = cell.edges[i];
    const Images& behind = states[static_cast<size_t>(cell.inputs + e.node)];
    check_kept(e.option, tape.of_edge[i], behind.count, behind, e.mixed, like, op);
  }
  check_like(a.grad, like, op, "grad");
  check_same_images(as_images(a.grad, op, "grad"), as_images(a.kept[0], op, "kept output"), op,
                    "grad");
  return states;
}

}  // namespace nasp_ext
