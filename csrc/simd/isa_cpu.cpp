// SPDX-License-Identifier: MIT
// Which instruction set runs.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <type_traits>

#include "kernels.h"

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

}  // namespace

Isa current_isa() { return chosen().load(); }

Isa set_isa(Isa most) {
  chosen() = std::min(most, best_isa());
  return current_isa();
}

template <class T>
const Kernels<T>& kernels() {
  constexpr bool kSingle = std::is_same_v<T, float>;
  const auto pick = [](const auto& single, const auto& twice) -> const Kernels<T>& {
    if constexpr (kSingle)
      return single;
    else
      return twice;
  };
  switch (current_isa()) {
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
int64_t instruction_set(int64_t most) {
  return static_cast<int64_t>(most < 0 ? current_isa() : set_isa(static_cast<Isa>(most)));
}

template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CompositeExplicitAutograd, m) {
  m.impl("instruction_set", TORCH_BOX(&nasp_ext::instruction_set));
}
