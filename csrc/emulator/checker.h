// SPDX-License-Identifier: MIT
// Checks every memory access of emulated kernels: bounds, alignment, initialisation, races.
// Works for code compiled with -fsanitize=thread; its callbacks (tsan_callbacks.cpp) end here.
#pragma once
#include <cstddef>

namespace nasp_ext::emulator {

enum class Content { kReadOnly, kInitialised, kUninitialised };

// Names a buffer that kernels may touch. While checking is on, every other address is an error.
void track(const void* address, size_t bytes, size_t element_bytes, Content content,
           const char* name);
void forget_buffers();
void set_checking(bool on);

}  // namespace nasp_ext::emulator
