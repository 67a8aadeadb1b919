// SPDX-License-Identifier: MIT
// The options of a cell that do not run, by the state that their edges leave.
#pragma once

#include "../source/program.h"
#include "cell.h"

namespace nasp_ext {

// The options of the edges out of one state, see Operators::source_dots.
struct StateSource {
  std::vector<int64_t> nodes;  // whose gradient each edge of the program takes
  std::vector<SourceOption> options;
};

// sources: for each state how many nodes, entries, weights, statistics and numbers there are, then
// the nodes and the entries; empty if no gradient of the options is asked for. shapes: of each
// state.
inline std::vector<StateSource> read_sources(const CellProgram& cell,
                                             const std::vector<Images>& shapes, const Tensor& like,
                                             const std::vector<int64_t>& sources,
                                             const Tensors& weights, const Tensors& statistics,
                                             const std::vector<double>& numbers, const char* op) {
  std::vector<StateSource> found;
  if (sources.empty() && weights.empty() && statistics.empty() && numbers.empty()) return found;
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
    for (const int64_t node : s.nodes)
      if (node < 0 || node >= cell.nodes || cell.inputs + node <= state)
        fail(op, ": expected edges to nodes behind state ", state, ", found node ", node);
    const auto behind = [&](size_t edge) -> const Images& {
      return shapes[static_cast<size_t>(cell.inputs + s.nodes[edge])];
    };
    for (size_t edge = 1; edge < s.nodes.size(); ++edge)
      check_same_images(behind(edge), behind(0), op, "the gradients of a state's edges");
    const std::vector<int64_t> program = cut(sources, next, counts[1]);
    const Tensors of_state = cut(weights, weight, counts[2]),
                  moved = cut(statistics, statistic, counts[3]);
    const std::vector<double> floats = cut(numbers, number, counts[4]);
    const Images& x = shapes[static_cast<size_t>(state)];
    s.options = read_source_options(
        {op, x, s.nodes.empty() ? x : behind(0), static_cast<int64_t>(s.nodes.size()), like},
        program, of_state, moved, floats);
    found.push_back(std::move(s));
  }
  if (next != sources.size() || weight != weights.size() || statistic != statistics.size() ||
      number != numbers.size())
    fail(op, ": expected the lists of the sources to end with the last state, found ",
         sources.size() - next, ", ", weights.size() - weight, ", ", statistics.size() - statistic,
         " and ", numbers.size() - number, " items more");
  return found;
}

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
    grads.push_back(Operators<Device>::new_images(like, like.size(0), like.size(1), like.size(2),
                                                  like.size(3)));
    torch::stable::zero_(grads.back());
  }
  return Operators<Device>::option_dots(state, grads, source.options);
}

}  // namespace nasp_ext
