// SPDX-License-Identifier: MIT
// All loops, for the instruction set that the including file has chosen; see core/vector.h.
#pragma once

#include "../block/backward_simd.h"
#include "../node/node_simd.h"
#include "../pool/pool_simd.h"
#include "../recurrent/recurrent_simd.h"
#include "../source_dots/source_simd.h"

namespace nasp_ext {
namespace NASP_ISA {

template <class T>
constexpr Loops<T> table() {
  constexpr int64_t kLane = kLanes<T>;
  return {{kLane, &pad_image<T>, &forward_image<T>, &backward_image<T>},
          {kLane, &pool_forward_image<T>, &pool_backward_image<T>},
          {kLane, &node_sum_image<T>, &node_gradient_sums_image<T>},
          {kLane, &pool_dots_image<T>, &channel_sums_image<T>},
          {kLane, &recurrent_node_forward<T>, &recurrent_output_forward<T>,
           &recurrent_output_backward<T>, &recurrent_node_backward<T>, &recurrent_row_dots<T>}};
}
const Loops<float> kFloat = table<float>();
const Loops<double> kDouble = table<double>();

}  // namespace NASP_ISA
}  // namespace nasp_ext
