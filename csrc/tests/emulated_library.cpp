// SPDX-License-Identifier: MIT
// What Python sets through ctypes in libnasp_emulated.so.
#include "../core/device.h"
#include "../emulator/runtime.h"

#define NASP_EXPORT extern "C" __attribute__((visibility("default")))

NASP_EXPORT void nasp_set_order(uint64_t seed) { nasp_ext::emulator::config.seed = seed; }
NASP_EXPORT uint64_t nasp_launches() { return nasp_ext::emulator::counts.launches; }
NASP_EXPORT uint64_t nasp_matrix_products() { return nasp_ext::matrix_products; }
