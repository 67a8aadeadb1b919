// SPDX-License-Identifier: MIT
// What g++ -fsanitize=thread calls at every load and store. libtsan itself is not linked.
#include "runtime.h"

namespace {
using nasp_ext::emulator::Access;

void accessed(const void* address, size_t bytes, Access kind, const void* code) {
  if (nasp_ext::emulator::observer != nullptr) {
    nasp_ext::emulator::observer->accessed(address, bytes, kind, code);
  }
}
}  // namespace

#define NASP_CALLBACK(name, bytes, kind) \
  void name(void* address) { accessed(address, bytes, Access::kind, __builtin_return_address(0)); }
#define NASP_CALLBACKS(bytes)                                 \
  NASP_CALLBACK(__tsan_read##bytes, bytes, kRead)             \
  NASP_CALLBACK(__tsan_write##bytes, bytes, kWrite)           \
  NASP_CALLBACK(__tsan_unaligned_read##bytes, bytes, kRead)   \
  NASP_CALLBACK(__tsan_unaligned_write##bytes, bytes, kWrite) \
  NASP_CALLBACK(__tsan_volatile_read##bytes, bytes, kRead)    \
  NASP_CALLBACK(__tsan_volatile_write##bytes, bytes, kWrite)

extern "C" {
NASP_CALLBACKS(1)
NASP_CALLBACKS(2)
NASP_CALLBACKS(4)
NASP_CALLBACKS(8)
NASP_CALLBACKS(16)
void __tsan_read_range(void* address, unsigned long bytes) {
  if (bytes > 0) accessed(address, bytes, Access::kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* address, unsigned long bytes) {
  if (bytes > 0) accessed(address, bytes, Access::kWrite, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}
