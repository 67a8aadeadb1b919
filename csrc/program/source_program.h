// SPDX-License-Identifier: MIT
// What source_dots runs: for each option the number of its gradient (the edge's node), then the
// option as csrc/program/option.h describes it.
#pragma once

#include "option_shape.h"

namespace nasp_ext {

struct SourceOption {
  int64_t grad;
  ProgramOption program;
  PoolShape pool;  // also of an identity, as a pool of one pixel

  OptionKind kind() const { return program.kind; }
  const ProgramNorm& norm() const { return program.norm; }
  std::vector<ProgramBlock>& blocks() { return program.blocks; }
  const std::vector<ProgramBlock>& blocks() const { return program.blocks; }
};

// Where a program runs: on images x, against gradients of one shape.
struct SourcePlace {
  const char* op;
  const Images& x;
  const Images& grad;
  int64_t edges;  // gradients
  const Tensor& like;
};

// Its options, checked: they can run.
inline std::vector<SourceOption> read_source_options(const SourcePlace& at,
                                                     const ProgramLists& lists) {
  OptionReader reader(at.op, lists, Statistics::kRead);
  std::vector<SourceOption> options;
  while (!reader.at_end()) {
    const int64_t grad = reader.number();
    if (grad < 0 || grad >= at.edges)
      fail(at.op, ": expected a gradient in 0..", at.edges - 1, ", found ", grad);
    options.push_back({grad, reader.option(reader.number()), {}});
  }
  reader.check_all_used();
  if (options.empty()) return options;
  if (at.x.count < 1) fail(at.op, ": expected at least one image, found none");
  for (SourceOption& o : options) {
    const Images out = shape_behind(o.program, at.x, at.like, at.op);
    check_images(at.grad, out.count, out.channels, out.height, out.width, at.op, "grads");
    const ProgramOption& p = o.program;
    if (o.kind() == OptionKind::kPool)
      o.pool = pool_shape(at.x, p.max, p.kernel, p.stride, at.op);
    else if (o.kind() == OptionKind::kIdentity)
      o.pool = pool_shape(at.x, true, 1, 1, at.op);
  }
  return options;
}

}  // namespace nasp_ext
