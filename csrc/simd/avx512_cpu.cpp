// SPDX-License-Identifier: MIT
#include "kernels.h"
#if NASP_X86_SETS
#include <immintrin.h>
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
#define NASP_ISA avx512
#define NASP_VECTOR_BYTES 64
#include "kernels_simd.h"
#endif
