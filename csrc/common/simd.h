// SPDX-License-Identifier: MIT
// One source for AVX-512, AVX2 and plain x86-64: the loader picks the clone that the CPU can run.
// NASP_NO_CONTRACTION, after the includes of other projects and before a *_math.h: no fused
// multiply-add (host_device.h says why), and a square root is one instruction (no errno).
// Everything called inside a cloned function must be always_inline (NASP_HOST_DEVICE is).
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define NASP_SIMD_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define NASP_NO_CONTRACTION _Pragma("GCC optimize(\"fp-contract=off\", \"no-math-errno\")")
#else
#define NASP_SIMD_CLONES
#define NASP_NO_CONTRACTION _Pragma("STDC FP_CONTRACT OFF")
#endif
