// SPDX-License-Identifier: MIT
// The operator source_dots. csrc/ops.cpp says what it does.
#pragma once

#include "../core/back_ends.h"
#include "../program/source_program.h"

namespace nasp_ext {

struct SourceCall {
  Tensor x;       // (N, C, H, W), channels_last
  Tensors grads;  // one for each edge
  ProgramLists lists;

  auto fields() {
    return std::tie(x, grads, lists.program, lists.weights, lists.statistics, lists.numbers);
  }
};

// Of the operator itself. One sweep over x multiplies each pool with all gradients.
inline std::vector<SourceOption> read_source(const SourceCall& call) {
  const char* op = "source_dots";
  const auto& [x, grads, lists] = call;
  const Images images = as_first_images(x, op, "x");
  Images first = images;
  for (const Tensor& grad : grads) {
    check_like(grad, x, op, "grads");
    const Images found = as_images(grad, op, "grads");
    if (&grad == &grads[0]) first = found;
    check_images(found, images.count, first.channels, first.height, first.width, op, "grads");
  }
  return read_source_options({op, images, first, static_cast<int64_t>(grads.size()), x}, lists);
}

// (options,), the dots of options that are read and checked.
template <class Device>
Tensor option_dots(const Tensor& x, const Tensors& grads, std::vector<SourceOption>& options);

template <class Device>
Tensor source_dots(const SourceCall& call) {
  std::vector<SourceOption> options = read_source(call);
  return option_dots<Device>(call.x, call.grads, options);
}

}  // namespace nasp_ext
