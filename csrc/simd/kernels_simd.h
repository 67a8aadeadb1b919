// SPDX-License-Identifier: MIT
// All loops, for the instruction set that the including file has chosen; see vector.h.
#pragma once

#include "../block/backward_simd.h"
#include "../node/node_simd.h"
#include "../pool/pool_simd.h"

namespace nasp_ext {
namespace NASP_ISA {

template <class T>
constexpr Kernels<T> table() {
  return {kLanes<T>,
          &pad_image<T>,
          &forward_image<T>,
          &backward_image<T>,
          &pool_forward_image<T>,
          &pool_dots_image<T>,
          &pool_backward_image<T>,
          &channel_sums_image<T>,
          &node_sum_image<T>,
          &node_gradient_sums_image<T>};
}
const Kernels<float> kFloat = table<float>();
const Kernels<double> kDouble = table<double>();

}  // namespace NASP_ISA
}  // namespace nasp_ext
