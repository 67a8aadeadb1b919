// SPDX-License-Identifier: MIT
// Launchers of inner products on the device, on raw pointers.
#pragma once
#include "../core/stream.h"
#include "branch_dots_math.h"

namespace nasp_ext {

template <class T>
struct Branches {  // by value in a kernel's parameters: no copy to the device beforehand
  T* pointer[kMaxBranches];
};

template <class T>
struct Dots {
  const T* grad;                // (n,)
  Branches<const T> outputs;    // K of (n,)
  int options;                  // K, 1 to kMaxBranches
  int64_t n;                    // may be 0
  accumulate_t<T>* block_sums;  // scratch, (K, dot_blocks(n))
  accumulate_t<T>* dots;        // (K,)
};

// dots[k] = <grad, outputs[k]>.
template <class T>
void launch_branch_dots(const Dots<T>& dots, stream_t stream);

// dots[k] = the sum of the `blocks` block sums of branch k.
template <class Acc>
void launch_dot_totals(const Acc* block_sums, int64_t blocks, int options, Acc* dots,
                       stream_t stream);

}  // namespace nasp_ext
