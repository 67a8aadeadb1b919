// SPDX-License-Identifier: MIT
// The options of a cell that do not run, by the state that their edges leave.
#pragma once

#include "cell.h"

namespace nasp_ext {

// The options of the edges out of one state, see Operators::source_dots.
struct StateSource {
  std::vector<int64_t> nodes, program;  // nodes: whose gradient each edge of the program takes
  Tensors weights, statistics;
  std::vector<double> numbers;
};

// sources: for each state how many nodes, entries, weights, statistics and numbers there are, then
// the nodes and the entries; empty if no gradient of the options is asked for.
inline std::vector<StateSource> read_sources(const CellProgram& cell,
                                             const std::vector<int64_t>& sources,
                                             const Tensors& weights, const Tensors& statistics,
                                             const std::vector<double>& numbers, const char* op) {
  std::vector<StateSource> found;
  if (sources.empty()) return found;
  size_t next = 0, weight = 0, statistic = 0, number = 0;
  const auto cut = [op](const auto& list, size_t& from, int64_t count) {
    if (count < 0 || from + static_cast<size_t>(count) > list.size())
      fail(op, ": expected ", count, " more items in the lists of the sources, found ",
           list.size() - from);
    const auto begin = list.begin() + static_cast<std::ptrdiff_t>(from);
    from += static_cast<size_t>(count);
    return std::decay_t<decltype(list)>(begin, begin + count);
  };
  for (int64_t state = 0; state < cell.states(); ++state) {
    const std::vector<int64_t> counts = cut(sources, next, 5);
    StateSource s;
    s.nodes = cut(sources, next, counts[0]);
    s.program = cut(sources, next, counts[1]);
    s.weights = cut(weights, weight, counts[2]);
    s.statistics = cut(statistics, statistic, counts[3]);
    s.numbers = cut(numbers, number, counts[4]);
    for (const int64_t node : s.nodes)
      if (node < 0 || node >= cell.nodes || cell.inputs + node <= state)
        fail(op, ": expected edges to nodes behind state ", state, ", found node ", node);
    found.push_back(std::move(s));
  }
  return found;
}

// The dots of the options of a source at one state; none if no node behind it has a gradient.
// of_states: the gradient of each state, where it has one; the nodes follow `inputs` others.
template <class Device>
MaybeTensor dots_of(const StateSource& source, const Tensor& state,
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
    grads.push_back(Operators<Device>::new_images(like, like.size(0), like.size(1), like.size(2),
                                                  like.size(3)));
    torch::stable::zero_(grads.back());
  }
  return Operators<Device>::source_dots(state, grads, source.program, source.weights,
                                        source.statistics, source.numbers);
}

}  // namespace nasp_ext
