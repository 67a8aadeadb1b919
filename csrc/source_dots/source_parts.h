// SPDX-License-Identifier: MIT
// What source_dots on the CPU is made of: the gradients of the edges, the input that their first
// blocks share, and the inner product from the sums of a block.
#pragma once

#include <array>

#include "../block/block_loops.h"
#include "../block/packed_weights.h"
#include "../core/scratch.h"
#include "../norm/norm.h"
#include "../pool/pool_images.h"
#include "../program/source_program.h"
#include "source_loops.h"

namespace nasp_ext {

// The gradient of the node at the end of an edge, and its sums over each image.
template <class T>
struct SourceGrad {
  Pixels<const T> data;
  int64_t pixels, channels;
  std::vector<double> sums;  // (images, stride)
  int64_t stride;

  double* of_image(int64_t n) { return sums.data() + n * stride; }
};

// <G, scale * z + shift> from the sums of z, whose BN has the statistics `rows` (none: z itself).
// kind: which of the inner products in the sums.
template <class T>
T source_dot(const SourceGrad<T>& grad, const BatchSums<T>& sums, int64_t kind,
             const std::vector<T>& rows, const std::optional<Tensor>& bias, int64_t channels,
             int64_t parts, int64_t images, int64_t lanes) {
  const T* const norm = rows.empty() ? nullptr : rows.data();
  const int64_t of_part = channels / parts;
  double total = 0;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = part * of_part;
    const auto dots = sums.dots(kind, part * round_up(of_part, lanes), of_part,
                                norm ? norm + kMean * channels + first : nullptr,
                                grad.sums.data() + first, grad.stride);
    for (int64_t c = first; c < first + of_part; ++c)
      total += dots[static_cast<size_t>(c - first)] *
               (norm ? static_cast<double>(norm[kScale * channels + c]) : 1.0);
  }
  if (!bias) return static_cast<T>(total);
  for (int64_t n = 0; n < images; ++n)
    for (int64_t c = 0; c < channels; ++c)
      total += static_cast<double>(data_of<T>(*bias)[c]) *
               grad.sums[static_cast<size_t>(n * grad.stride + c)];
  return static_cast<T>(total);
}

// The padded x of all first blocks that activate it in the same way: one border, wide enough for
// each.
template <class T>
struct SharedInput {
  BlockShape shape{};  // pad_h and pad_w: the border
  int64_t height = 0, width = 0;
  BlockedScratch<T> layout(int64_t lanes) const {
    return {height, width, round_up(shape.in_channels, lanes), lanes};
  }
  Blocked<const T> of(const BlockShape& s, const Blocked<T>& image, int64_t lanes) const {
    return {image.data + (shape.pad_h - s.pad_h) * image.row + (shape.pad_w - s.pad_w) * lanes,
            image.block, image.row};
  }
};

// A pool, or an identity, that some options are; computed once for all edges.
template <class T>
struct SourcePool {
  PoolShape shape;
  std::vector<size_t> options;
  BatchSums<T> sums;
};

// Pools of one output size for some images, with the inner products of all edges.
// sum_grads: add up the gradients as well.
template <class T>
void source_pool_dots(const SourceLoops<T>& loops, const Pixels<const T>& x, const Images& in,
                      const std::vector<SourcePool<T>*>& pools,
                      std::vector<SourceGrad<T>>& of_edges, int64_t first, int64_t last,
                      bool sum_grads) {
  const PoolShape& shape = pools[0]->shape;
  const int64_t pad = round_up(shape.channels, loops.lanes);
  const auto count = static_cast<int64_t>(pools.size());
  const int64_t size = count * pool_scratch(shape, loops.lanes);
  Scratch scratch(Scratch::bytes<T>(size) + Scratch::bytes<double>(pad));
  PoolDotsImage<T> f{};
  f.scratch = scratch.take<T>(size);
  double* const unused = scratch.take<double>(pad);
  std::fill(unused, unused + pad, 0.0);
  std::vector<PoolShape> shapes;
  for (const SourcePool<T>* pool : pools) shapes.push_back(pool->shape);
  std::vector<ImageSums<T>> sums(pools.size());
  std::vector<Pixels<const T>> grads(of_edges.size());
  std::vector<double*> grad_sums(of_edges.size());
  f.shapes = shapes.data();
  f.sums = sums.data();
  f.count = count;
  f.grads = grads.data();
  f.grad_sums = grad_sums.data();
  f.grad_count = static_cast<int64_t>(grads.size());
  for (int64_t n = first; n < last; ++n) {
    f.x = x.image(n, in.pixels());
    for (size_t i = 0; i < pools.size(); ++i) sums[i] = pools[i]->sums.of_image(n);
    for (size_t g = 0; g < grads.size(); ++g) {
      grads[g] = of_edges[g].data.image(n, shape.out_pixels());
      grad_sums[g] = sum_grads ? of_edges[g].of_image(n) : unused;
    }
    loops.pool_dots_image(f);
  }
}

// Without and with ReLU.
template <class T>
std::array<SharedInput<T>, 2> shared_inputs(const std::vector<const BlockShape*>& shapes) {
  std::array<SharedInput<T>, 2> inputs;
  for (const BlockShape* s : shapes) {
    SharedInput<T>& in = inputs[s->relu];
    const int64_t pad_h = std::max(in.shape.pad_h, s->pad_h);
    const int64_t pad_w = std::max(in.shape.pad_w, s->pad_w);
    in.shape = *s;
    in.shape.pad_h = pad_h;
    in.shape.pad_w = pad_w;
  }
  for (const BlockShape* s : shapes) {
    SharedInput<T>& in = inputs[s->relu];
    in.height = std::max(in.height, in.shape.pad_h + std::max(s->reach_h() - s->pad_h, s->height));
    in.width = std::max(in.width, in.shape.pad_w + std::max(s->reach_w() - s->pad_w, s->width));
  }
  return inputs;
}

}  // namespace nasp_ext
