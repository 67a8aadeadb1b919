// SPDX-License-Identifier: MIT
// Which instruction set runs.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <type_traits>

#include "loops.h"

namespace nasp_ext {
namespace {

Isa best_isa() {
#if NASP_X86_SETS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return Isa::kAvx512;
  if (__builtin_cpu_supports("x86-64-v3")) return Isa::kAvx2;
#endif
  return Isa::kBase;
}

std::atomic<Isa>& chosen() {
  static std::atomic<Isa> isa{best_isa()};
  return isa;
}

// Those of the best set that this processor has and `instruction_set` allows.
template <class T>
const Loops<T>& loops() {
  constexpr bool kSingle = std::is_same_v<T, float>;
  const auto pick = [](const auto& single, const auto& twice) -> const Loops<T>& {
    if constexpr (kSingle)
      return single;
    else
      return twice;
  };
  switch (chosen().load()) {
#if NASP_X86_SETS
    case Isa::kAvx512:
      return pick(avx512::kFloat, avx512::kDouble);
    case Isa::kAvx2:
      return pick(avx2::kFloat, avx2::kDouble);
#endif
    default:
      return pick(base::kFloat, base::kDouble);
  }
}

// Uses no set above this one from now on, for tests; -1 changes nothing. Returns the one in use.
int64_t instruction_set(int64_t most) {
  if (most >= 0) chosen() = std::min(static_cast<Isa>(most), best_isa());
  return static_cast<int64_t>(chosen().load());
}

}  // namespace

template <class T>
const BlockLoops<T>& block_loops() {
  return loops<T>().block;
}
template <class T>
const PoolLoops<T>& pool_loops() {
  return loops<T>().pool;
}
template <class T>
const NodeLoops<T>& node_loops() {
  return loops<T>().node;
}
template <class T>
const SourceLoops<T>& source_loops() {
  return loops<T>().source;
}
template <class T>
const RecurrentLoops<T>& recurrent_loops() {
  return loops<T>().recurrent;
}

#define NASP_INSTANTIATE(T)                      \
  template const BlockLoops<T>& block_loops();   \
  template const PoolLoops<T>& pool_loops();     \
  template const NodeLoops<T>& node_loops();     \
  template const SourceLoops<T>& source_loops(); \
  template const RecurrentLoops<T>& recurrent_loops();
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CompositeExplicitAutograd, m) {
  m.impl("instruction_set", TORCH_BOX(&nasp_ext::instruction_set));
}
