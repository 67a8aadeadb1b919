// SPDX-License-Identifier: MIT
// The options of a cell that do not run, by the state that their edges leave.
#pragma once

#include "cell_program.h"
#include "source_program.h"

namespace nasp_ext {

// The options of the edges out of one state, see csrc/source_dots/source_dots.h.
struct StateSource {
  std::vector<int64_t> nodes;  // whose gradient each edge of the program takes
  std::vector<SourceOption> options;
};

// sources.program: for each state how many nodes, entries, weights, statistics and numbers there
// are, then the nodes and the entries; empty if no gradient of the options is asked for. shapes: of
// each state.
inline std::vector<StateSource> read_sources(const CellProgram& cell,
                                             const std::vector<Images>& shapes, const Tensor& like,
                                             const ProgramLists& sources, const char* op) {
  const auto& [entries, weights, statistics, numbers] = sources;
  std::vector<StateSource> found;
  if (entries.empty() && weights.empty() && statistics.empty() && numbers.empty()) return found;
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
    const std::vector<int64_t> counts = cut(entries, next, 5);
    StateSource s;
    s.nodes = cut(entries, next, counts[0]);
    for (const int64_t node : s.nodes)
      if (node < 0 || node >= cell.nodes || cell.inputs + node <= state)
        fail(op, ": expected edges to nodes behind state ", state, ", found node ", node);
    const auto behind = [&](size_t edge) -> const Images& {
      return shapes[static_cast<size_t>(cell.inputs + s.nodes[edge])];
    };
    for (size_t edge = 1; edge < s.nodes.size(); ++edge)
      check_same_images(behind(edge), behind(0), op, "the gradients of a state's edges");
    const ProgramLists of_state = {cut(entries, next, counts[1]), cut(weights, weight, counts[2]),
                                   cut(statistics, statistic, counts[3]),
                                   cut(numbers, number, counts[4])};
    const Images& x = shapes[static_cast<size_t>(state)];
    s.options = read_source_options(
        {op, x, s.nodes.empty() ? x : behind(0), static_cast<int64_t>(s.nodes.size()), like},
        of_state);
    found.push_back(std::move(s));
  }
  if (next != entries.size() || weight != weights.size() || statistic != statistics.size() ||
      number != numbers.size())
    fail(op, ": expected the lists of the sources to end with the last state, found ",
         entries.size() - next, ", ", weights.size() - weight, ", ", statistics.size() - statistic,
         " and ", numbers.size() - number, " items more");
  return found;
}

}  // namespace nasp_ext
