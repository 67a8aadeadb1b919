// SPDX-License-Identifier: MIT
#include "loops.h"
#if NASP_X86_SETS
#include <immintrin.h>
#pragma GCC target("arch=x86-64-v3")
#define NASP_ISA avx2
#define NASP_VECTOR_BYTES 32
#include "loops_simd.h"
#endif
