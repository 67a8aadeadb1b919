// SPDX-License-Identifier: MIT
// Which instruction set runs.
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
template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();

}  // namespace nasp_ext
