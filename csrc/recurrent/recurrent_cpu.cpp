// SPDX-License-Identifier: MIT
// Recurrent cells on the CPU.
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include "../core/boxed.h"
#include "../core/scratch.h"
#include "recurrent_backward.h"
#include "recurrent_dots.h"
#include "recurrent_forward.h"
#include "recurrent_loops.h"

namespace nasp_ext {
namespace {

constexpr int64_t kPartElements = 8192;  // below this a second thread costs more than it saves

inline int64_t parts_of(int64_t elements) {
  const auto threads = static_cast<int64_t>(torch::stable::get_num_threads());
  return std::max<int64_t>(1, std::min(threads, elements / kPartElements));
}

// body(number) of each part, in threads.
template <class Body>
void for_parts(int64_t parts, const Body& body) {
  if (parts == 1) return body(0);
  parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

// body(part) of (B, H) numbers: parts of whole columns where statistics of the batch are wanted.
template <class Body>
void for_parts_of(int64_t batch, int64_t size, bool of_columns, int64_t lanes, const Body& body) {
  const int64_t vectors = (size + lanes - 1) / lanes;
  const int64_t parts = std::min(parts_of(batch * size), of_columns ? vectors : batch);
  for_parts(parts, [&](int64_t i) {
    Part part{0, batch, 0, size};
    if (of_columns) {
      part.first_column = vectors * i / parts * lanes;
      part.end_column = std::min(size, vectors * (i + 1) / parts * lanes);
    } else {
      part.first_row = batch * i / parts;
      part.end_row = batch * (i + 1) / parts;
    }
    body(part);
  });
}

// body(part, room) of a node.
template <class T, class Node, class Body>
void for_parts_of_node(const Node& node, int64_t lanes, const Body& body) {
  for_parts_of(node.batch, node.size, node.norm.of_batch(), lanes, [&](const Part& part) {
    const int64_t pad = node.norm.exists ? round_up(part.columns(), lanes) : 0;
    Scratch scratch(Scratch::bytes<double>(2 * pad) + Scratch::bytes<T>(2 * pad));
    double* const sums = scratch.take<double>(2 * pad);
    body(part, ColumnPairs<T>{sums, scratch.take<T>(2 * pad), pad});
  });
}

}  // namespace

template <>
class Passes<OnCpu> {
 public:
  explicit Passes(const Tensor&) {}

  void product(const Tensor& out, const Tensor* base, const Tensor& a, const Tensor& b) const {
    const auto status =
        base ? aoti_torch_cpu_addmm_out(out.get(), base->get(), a.get(), b.get(), 1.0, 1.0)
             : aoti_torch_cpu_mm_out(out.get(), a.get(), b.get());
    STABLE_TORCH_ERROR_CODE_CHECK(status);
  }

  template <class T>
  void node_forward(const NodeForward<T>& node, const OutputForward<T>* output) const {
    const RecurrentLoops<T>& loops = recurrent_loops<T>();
    for_parts_of_node<T>(node, loops.lanes, [&](const Part& part, const ColumnPairs<T>& room) {
      loops.node_forward(node, part, room);
    });
    if (output) output_forward(*output);
  }

  template <class T>
  void output_forward(const OutputForward<T>& output) const {
    const RecurrentLoops<T>& loops = recurrent_loops<T>();
    for_parts_of(output.batch, output.size, false, loops.lanes,
                 [&](const Part& part) { loops.output_forward(output, part); });
  }

  template <class T>
  void output_backward(const OutputBackward<T>& output) const {
    const RecurrentLoops<T>& loops = recurrent_loops<T>();
    for_parts_of(output.batch, output.size, false, loops.lanes,
                 [&](const Part& part) { loops.output_backward(output, part); });
  }

  template <class T>
  void node_backward(const NodeBackward<T>& node, const OutputBackward<T>* output) const {
    if (output) output_backward(*output);
    const RecurrentLoops<T>& loops = recurrent_loops<T>();
    for_parts_of_node<T>(node, loops.lanes, [&](const Part& part, const ColumnPairs<T>& room) {
      loops.node_backward(node, part, room);
    });
  }

  template <class T>
  void row_dots(const RowDots<T>& dots) const {
    const RecurrentLoops<T>& loops = recurrent_loops<T>();
    const int64_t parts = std::min(parts_of(dots.rows * dots.size), dots.rows);
    std::vector<double> sums(static_cast<size_t>(parts * kNonlinearities));
    for_parts(parts, [&](int64_t i) {
      loops.row_dots(dots, dots.rows * i / parts, dots.rows * (i + 1) / parts,
                     sums.data() + i * kNonlinearities);
    });
    for (int64_t i = 0; i < parts * kNonlinearities; ++i)
      dots.sums[i % kNonlinearities] += sums[static_cast<size_t>(i)];
  }
};

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("recurrent_forward", NASP_BOX(&nasp_ext::recurrent_forward<nasp_ext::OnCpu>));
  m.impl("recurrent_backward", NASP_BOX(&nasp_ext::recurrent_backward<nasp_ext::OnCpu>));
  m.impl("recurrent_dots", TORCH_BOX(&nasp_ext::recurrent_dots<nasp_ext::OnCpu>));
}
