// SPDX-License-Identifier: MIT
// The loops of the CPU, compiled for several instruction sets and chosen when the process runs.
#pragma once

#include "../block/block.h"
#include "../node/node.h"
#include "../pool/pool.h"

namespace nasp_ext {

enum class Isa : int64_t { kBase = 0, kAvx2 = 1, kAvx512 = 2 };

template <class T>
struct Kernels {
  int64_t lanes;  // to which channels are padded
  void (*pad_image)(const BlockShape&, const Pixels<const T>&, const Affine<T>&, const Blocked<T>&);
  void (*forward_image)(const BlockShape&, const ForwardImage<T>&);
  void (*backward_image)(const BlockShape&, const BackwardImage<T>&);
  void (*pool_forward_image)(const PoolShape&, const PoolForwardImage<T>&);
  void (*pool_dots_image)(const PoolDotsImage<T>&);
  void (*pool_backward_image)(const PoolShape&, const PoolBackwardImage<T>&);
  // Adds up the pixels of an image: (pad,).
  void (*channel_sums_image)(const Pixels<const T>&, int64_t pixels, int64_t channels, double*);
  void (*node_sum_image)(const NodeImage<T>&);
  void (*node_gradient_sums_image)(const NodeImage<T>&);
};

// The best set that this processor has and `set_isa` allows.
Isa current_isa();
// Use no set above this one, for tests; returns the one in use from now on.
Isa set_isa(Isa most);

template <class T>
const Kernels<T>& kernels();

// One table for each instruction set that the compiler knows.
#define NASP_DECLARE_KERNELS(isa)       \
  namespace isa {                       \
  extern const Kernels<float> kFloat;   \
  extern const Kernels<double> kDouble; \
  }
NASP_DECLARE_KERNELS(base)
NASP_DECLARE_KERNELS(avx2)
NASP_DECLARE_KERNELS(avx512)
#undef NASP_DECLARE_KERNELS

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define NASP_X86_SETS 1
#else
#define NASP_X86_SETS 0
#endif

}  // namespace nasp_ext
