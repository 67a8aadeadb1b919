// SPDX-License-Identifier: MIT
// What a cell is called with and what its forward keeps for its backward.
// csrc/program/cell_program.h says what a cell is.
//
// kept: for each preprocessed input z and norm of its blocks, then the state if that is not z; for
// each node z and norm of the blocks or the pool of its edges, then the node if it is no part of
// the output. Of one of several options only the norms are kept, and the backward computes z anew:
// so a mixture of all options takes the memory of one.
#pragma once

#include "../block/block.h"
#include "../core/image_memory.h"
#include "../node/node.h"
#include "../pool/pool.h"
#include "../program/cell_program.h"
#include "../source_dots/source_dots.h"
#include "../update_statistics/update_statistics.h"

namespace nasp_ext {

struct CellForwardCall {
  Tensors inputs;  // (N, C_i, H_i, W_i), channels_last
  ProgramLists lists;
  MaybeTensor factors;        // (edges, N)
  std::vector<int64_t> size;  // channels, height, width of a node, for cells in which no edge runs

  auto fields() {
    return std::tie(inputs, lists.program, lists.weights, lists.statistics, lists.numbers, factors,
                    size);
  }
};

struct CellBackwardCall {
  Tensor grad;  // of the output
  Tensors inputs;
  Tensors kept;  // the output, then what cell_forward kept
  ProgramLists lists;
  MaybeTensor factors;  // (edges, N)
  bool weighted;        // the factors are gates, whose gradient is in front of them
  bool need_weights;
  std::vector<int64_t> need_inputs;  // a flag for each
  ProgramLists sources;              // see csrc/program/cell_sources.h

  auto fields() {
    return std::tie(grad, inputs, kept, lists.program, lists.weights, lists.numbers, factors,
                    weighted, need_weights, need_inputs, sources.program, sources.weights,
                    sources.statistics, sources.numbers);
  }
};

// Edges of a node that run side by side. A GPU runs their blocks in one launch; a CPU one after the
// other, while what the first one wrote is in its cache.
template <class Device>
constexpr size_t kEdgesAtOnce = 1;
template <>
constexpr size_t kEdgesAtOnce<OnCuda> = 64;

template <class Device>
Tensor new_images_like(const Tensor& t) {
  return new_images<Device>(t, t.size(0), t.size(1), t.size(2), t.size(3));
}

// Of weight and bias of a BN, in the dtype of `like`, from its sums (2, C).
template <class Device>
std::tuple<Tensor, Tensor> norm_gradients(const Tensor& sums, const Tensor& like);

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
