// SPDX-License-Identifier: MIT
#include "loops.h"
#if NASP_X86_SETS
#include <immintrin.h>
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
#define NASP_ISA avx512
#define NASP_VECTOR_BYTES 64
#include "loops_simd.h"
#endif
