// SPDX-License-Identifier: MIT
// What a cell runs with one choice of options, and what its forward keeps for its backward.
//
// program: inputs, nodes, length of concat, the states of concat; for each input whether a chain
// preprocesses it, and that option; the number of edges that run, for each, in the order of their
// nodes: node, source, whether it is one of several options between them, option. States are the
// inputs, then the nodes. An option is its kind and what csrc/cell/option.h says.
//
// kept: for each preprocessed input z and norm of its blocks, then the state if that is not z; for
// each node z and norm of the blocks or the pool of its edges, then the node if it is no part of
// the output. Of one of several options only the norms are kept, and the backward computes z anew:
// so a mixture of all options takes the memory of one.
#pragma once

#include "operators.h"
#include "option.h"

namespace nasp_ext {

struct CellEdge {
  int64_t node, source;
  bool mixed;  // one of several options
  ProgramOption option;
};

constexpr int64_t kMostNodes = 4096;  // one without edges takes memory, but no line of a program

struct CellProgram {
  int64_t inputs, nodes;
  std::vector<int64_t> concat;
  std::vector<std::optional<ProgramOption>> preprocess;
  std::vector<CellEdge> edges;

  int64_t states() const { return inputs + nodes; }
  // Of a state in the output, -1 if it is not there.
  int64_t position(int64_t state) const {
    const auto found = std::find(concat.begin(), concat.end(), state);
    return found == concat.end() ? -1 : found - concat.begin();
  }
};

inline CellProgram read_cell(const char* op, size_t inputs, const std::vector<int64_t>& program,
                             const Tensors& weights, const Tensors* statistics,
                             const std::vector<double>& numbers) {
  OptionReader reader(op, program, weights, statistics, numbers);
  CellProgram cell;
  cell.inputs = reader.number();
  cell.nodes = reader.number();
  if (cell.inputs < 1 || cell.inputs != static_cast<int64_t>(inputs) || cell.nodes < 1 ||
      cell.nodes > kMostNodes)
    fail(op, ": expected the program of a cell with ", inputs, " inputs and 1 to ", kMostNodes,
         " nodes, found one with ", cell.inputs, " and ", cell.nodes);
  const int64_t length = reader.count("nodes in concat");
  for (int64_t i = 0; i < length; ++i) {
    const int64_t state = reader.number();
    if (state < cell.inputs || state >= cell.states() || cell.position(state) >= 0)
      fail(op, ": expected different nodes in concat, ", cell.inputs, "..", cell.states() - 1,
           ", found ", state);
    cell.concat.push_back(state);
  }
  if (length < 1) fail(op, ": expected at least one node in concat, found none");
  for (int64_t i = 0; i < cell.inputs; ++i) {
    cell.preprocess.emplace_back();
    if (!reader.flag()) continue;
    cell.preprocess.back() = reader.option(reader.number());
    if (cell.preprocess.back()->kind != OptionKind::kChain)
      fail(op, ": expected a chain in front of an input, found another kind");
  }
  const int64_t edges = reader.count("edges");
  for (int64_t i = 0, last = 0; i < edges; ++i) {
    const int64_t node = reader.number(), source = reader.number();
    if (node < last || node >= cell.nodes || source < 0 || source >= cell.inputs + node)
      fail(op, ": expected edges in the order of their nodes 0..", cell.nodes - 1,
           ", from states before them, found ", source, " -> ", node);
    last = node;
    const bool mixed = reader.flag();
    cell.edges.push_back({node, source, mixed, reader.option(reader.number())});
  }
  if (!reader.at_end()) fail(op, ": expected the program to end after its edges, found more");
  reader.check_all_used();
  return cell;
}

// The end of the edges that are treated together from `first` on: of one node, and if they are
// mixed at most `most`.
inline size_t group_end(const CellProgram& cell, size_t first, size_t most) {
  const CellEdge& one = cell.edges[first];
  size_t end = first + 1;
  while (end < cell.edges.size() && cell.edges[end].node == one.node &&
         cell.edges[end].mixed == one.mixed && !(one.mixed && end - first >= most))
    ++end;
  return end;
}

// The channels of a state in the output of a cell, or in its gradient.
inline Tensor state_slice(Tensor images, const CellProgram& cell, int64_t state) {
  const int64_t channels = images.size(1) / static_cast<int64_t>(cell.concat.size());
  return torch::stable::narrow(images, 1, cell.position(state) * channels, channels);
}

// (edges, N) -> (end - first, N) of the edges from `first` on; none = 1.
inline MaybeTensor factor_rows(MaybeTensor factors, size_t first, size_t end) {
  if (!factors) return std::nullopt;
  return torch::stable::narrow(*factors, 0, static_cast<int64_t>(first),
                               static_cast<int64_t>(end - first));
}

inline void check_factors(const MaybeTensor& factors, const CellProgram& cell, const Tensor& like,
                          const char* op) {
  if (!factors) return;
  check_like(*factors, like, op, "factors");
  const auto edges = static_cast<int64_t>(cell.edges.size());
  if ((factors->dim() != 2 || factors->size(0) != edges || !factors->is_contiguous() ||
       factors->size(1) != like.size(0)))
    fail(op, ": expected factors of shape (", edges, ", ", like.size(0), "), contiguous, found ",
         shape_text(*factors));
}

}  // namespace nasp_ext
