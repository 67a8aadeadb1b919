// SPDX-License-Identifier: MIT
// Launchers of inner products and mixtures on the device, on raw pointers.
#pragma once
#include "../common/stream.h"
#include "mixture_math.h"

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

// The same, and grad_outputs[k] = weights[k] grad, reading grad once.
template <class T>
void launch_mixed_sum_backward(const Dots<T>& dots,
                               const accumulate_t<T>* weights,   // (K,)
                               const Branches<T>& grad_outputs,  // K of (n,)
                               stream_t stream);

// sum[i] = sum_k weights[k] outputs[k][i]; n > 0.
template <class T>
void launch_mixed_sum(const Branches<const T>& outputs,  // K of (n,)
                      const accumulate_t<T>* weights,    // (K,)
                      int options, int64_t n,
                      T* sum,  // (n,)
                      stream_t stream);

}  // namespace nasp_ext
