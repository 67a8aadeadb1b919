// SPDX-License-Identifier: MIT
// Launchers of mixtures on the device, on raw pointers.
#pragma once
#include "../branch_dots/branch_dots_kernel.h"

namespace nasp_ext {

// The dots of launch_branch_dots, and grad_outputs[k] = weights[k] grad, reading grad once.
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
