// SPDX-License-Identifier: MIT
// Which rows belong to which node, and how many of them a node keeps.
#pragma once

#include <optional>
#include <vector>

#include "../core/tensors.h"

namespace nasp_ext {

struct NodeSpan {
  const int64_t* offsets;  // (count + 1,): node i owns rows [offsets[i], offsets[i + 1])
  int64_t count;
  int64_t edges;  // rows kept per node; 0: all of them
};

struct Nodes {
  std::vector<int64_t> offsets;
  int64_t edges = 0;

  bool prune() const { return edges > 0; }
  int64_t count() const { return static_cast<int64_t>(offsets.size()) - 1; }
  NodeSpan span() const { return {offsets.data(), count(), edges}; }
};

inline Nodes as_nodes(std::optional<std::vector<int64_t>> offsets, std::optional<int64_t> edges,
                      int64_t rows, const char* op) {
  if (edges && !offsets)
    fail(op, ": expected node_offsets with edges_per_node=", *edges,
         ", found None; give the row bounds of the nodes, (0, 2, 5, 9, 14) for a DARTS cell");
  if (edges && *edges < 1)
    fail(op, ": expected edges_per_node to be 1 or more, found ", *edges, "; None keeps all rows");
  if (!offsets) return {};
  bool fits = !offsets->empty() && offsets->front() == 0 && offsets->back() == rows;
  for (size_t i = 1; i < offsets->size(); ++i) fits &= (*offsets)[i - 1] < (*offsets)[i];
  if (!fits) {
    std::string found;
    for (int64_t bound : *offsets) found += (found.empty() ? "" : ", ") + std::to_string(bound);
    fail(op, ": expected node_offsets to increase from 0 to the number of rows, ", rows,
         ", found (", found, ")");
  }
  return {std::move(*offsets), edges.value_or(0)};
}

}  // namespace nasp_ext
