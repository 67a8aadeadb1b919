// SPDX-License-Identifier: MIT
// Facts about this build and this processor, for both modules that Python loads. No PyTorch and no
// Python header. The build defines the NASP_ macros.
#pragma once

namespace nasp_ext {

struct BuildFacts {
  const char *compiler, *torch_built_with;
  bool cuda;
  const char *cuda_archs, *cuda_reason;
};

inline BuildFacts build_facts() {
  return {__VERSION__, NASP_TORCH_VERSION, static_cast<bool>(NASP_WITH_CUDA), NASP_CUDA_ARCHS,
          NASP_CUDA_REASON};
}

// Which clone of the CPU kernels the dynamic loader picks; the levels of NASP_SIMD_CLONES in
// csrc/core/simd.h, which GCC alone makes.
inline const char* instruction_set_name() {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return "x86-64-v4 (AVX-512)";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2")) {
    return "x86-64-v3 (AVX2)";
  }
  return "x86-64 (SSE2)";
#else
  return "portable";
#endif
}

}  // namespace nasp_ext
