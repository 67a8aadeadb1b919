// SPDX-License-Identifier: MIT
// Any processor: SSE2 on x86-64, NEON on Arm.
#define NASP_ISA base
#define NASP_VECTOR_BYTES 16
#include "loops.h"
#include "loops_simd.h"
