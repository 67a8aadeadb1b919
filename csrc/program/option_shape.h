// SPDX-License-Identifier: MIT
// What an option gives, and whether all that it reads and moves fits: known before anything runs.
#pragma once

#include "option.h"

namespace nasp_ext {

// Behind images of `channels`, `values` of each.
inline void check_program_norm(const ProgramNorm& n, int64_t channels, int64_t values,
                               const Tensor& like, const char* op) {
  if (!n.exists) return;
  if ((n.batch || n.updates) && values < 2)
    fail(op, ": expected more than 1 value per channel when training, found ", values);
  check_norm_arguments(n.arguments, channels, like, op);
  if (n.mean) {
    check_vector(*n.mean, channels, like, op, "running means");
    check_vector(*n.var, channels, like, op, "running variances");
  }
  if (!n.batches) return;
  check_device(*n.batches, like, op, "numbers of batches");
  if (n.batches->numel() != 1 || n.batches->scalar_type() != ScalarType::Long)
    fail(op, ": expected the number of batches as one int64, found ", shape_text(*n.batches),
         " in ", torch::headeronly::toString(n.batches->scalar_type()));
}

// The images that an option makes of x; its blocks learn their shapes. like: x, or another tensor
// of the cell.
inline Images shape_behind(ProgramOption& o, const Images& x, const Tensor& like, const char* op) {
  Images out = x;
  for (ProgramBlock& b : o.blocks) {
    b.shape = block_shape(out, b.weights, b.geometry, b.relu, like, op);
    out.channels = b.shape.out_channels;
    out.height = b.shape.out_height;
    out.width = b.shape.out_width;
    check_program_norm(b.norm, out.channels, out.count * out.pixels(), like, op);
  }
  if (o.kind != OptionKind::kPool) return out;
  const PoolShape pool = pool_shape(out, o.max, o.kernel, o.stride, op);
  out.height = pool.out_height;
  out.width = pool.out_width;
  check_program_norm(o.norm, out.channels, out.count * out.pixels(), like, op);
  return out;
}

}  // namespace nasp_ext
