// SPDX-License-Identifier: MIT
// What a cell runs with one choice of options.
//
// program: inputs, nodes, length of concat, the states of concat; for each input whether a chain
// preprocesses it, and that option; the number of edges that run, for each, in the order of their
// nodes: node, source, whether it is one of several options between them, option. States are the
// inputs, then the nodes. An option is its kind and what csrc/program/option.h says.
#pragma once

#include <algorithm>

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

inline CellProgram read_cell(const char* op, size_t inputs, const ProgramLists& lists,
                             Statistics statistics) {
  OptionReader reader(op, lists, statistics);
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

}  // namespace nasp_ext
