// SPDX-License-Identifier: MIT
// CUDA's vocabulary for kernels compiled by the host compiler. Names are added when a kernel needs
// them.
#pragma once
#include <math.h>  // puts the float overloads of sqrt, fabs, ... in the global namespace, as nvcc does

#include <cstring>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <utility>

#include "runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

namespace nasp_ext {
namespace emulator {
template <class T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "a shuffle moves up to 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T>
constexpr size_t end_of_parameter(size_t begin) {
  return (begin + alignof(T) - 1) / alignof(T) * alignof(T) + sizeof(T);
}
template <class... P>
constexpr size_t parameter_bytes() {
  size_t bytes = 0;
  ((bytes = end_of_parameter<P>(bytes)), ...);
  return bytes;
}
}  // namespace emulator

template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
            void*, A&&... arguments) {
  static_assert(emulator::parameter_bytes<P...>() <= 4096, "kernel parameters over 4 KiB");
  static_assert((std::is_trivially_copyable_v<P> && ...),
                "kernel parameter not trivially copyable");
  using Call = std::pair<void (*)(P...), std::tuple<P...>>;
  const Call call(kernel, std::tuple<P...>(static_cast<P>(arguments)...));
  const auto thread_main = [](const void* erased) {
    const Call& c = *static_cast<const Call*>(erased);
    std::apply(c.first, c.second);
  };
  emulator::run_grid(name, grid, block, shared_bytes, thread_main, &call, sizeof call);
}
}  // namespace nasp_ext

#define threadIdx (::nasp_ext::emulator::position.thread)
#define blockIdx (::nasp_ext::emulator::position.block)
#define blockDim (::nasp_ext::emulator::position.block_size)
#define gridDim (::nasp_ext::emulator::position.grid_size)

// The key is one static per declaration and template instance, as __shared__ variables are.
#define NASP_SHARED(T, name, n)     \
  static const char name##_key = 0; \
  T(&name)                          \
  [n] = *static_cast<T(*)[n]>(      \
      ::nasp_ext::emulator::shared_memory(&name##_key, sizeof(T) * (n), alignof(T)))
#define NASP_DYNAMIC_SHARED(T, name) \
  T* const name = static_cast<T*>(::nasp_ext::emulator::dynamic_shared_memory())

#define NASP_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(NASP_SITE) { nasp_ext::emulator::barrier(false, {file, line}); }
inline int __syncthreads_count(int predicate, NASP_SITE) {
  return nasp_ext::emulator::barrier(predicate != 0, {file, line});
}
inline void __syncwarp(unsigned mask = 0xffffffffu, NASP_SITE) {
  using namespace nasp_ext::emulator;
  collective({Collective::kSync, mask, 0, 0, 32, {file, line}});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, NASP_SITE) {
  using namespace nasp_ext::emulator;
  const uint64_t bit = predicate != 0;
  return static_cast<unsigned>(collective({Collective::kBallot, mask, bit, 0, 32, {file, line}}));
}
inline int __any_sync(unsigned mask, int predicate, NASP_SITE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, NASP_SITE) {
  return __ballot_sync(mask, !predicate, file, line) == 0;
}
#define NASP_SHUFFLE(name, kind)                                                              \
  template <class T>                                                                          \
  T name(unsigned mask, T value, int argument, int width = 32, NASP_SITE) {                   \
    using namespace nasp_ext::emulator;                                                       \
    return from_bits<T>(                                                                      \
        collective({Collective::kind, mask, to_bits(value), argument, width, {file, line}})); \
  }
NASP_SHUFFLE(__shfl_sync, kShuffle)
NASP_SHUFFLE(__shfl_up_sync, kShuffleUp)
NASP_SHUFFLE(__shfl_down_sync, kShuffleDown)
NASP_SHUFFLE(__shfl_xor_sync, kShuffleXor)

// Fibers switch only inside the calls above, so a plain read-modify-write is atomic. The checker is
// told once, of an atomic access, instead of a read and a write.
#if defined(__SANITIZE_THREAD__)
#define NASP_UNCHECKED __attribute__((noinline, no_sanitize("thread")))
#else
#define NASP_UNCHECKED
#endif
#define NASP_ATOMIC(name, expression)                                                       \
  template <class T>                                                                        \
  NASP_UNCHECKED T name(T* address, std::common_type_t<T> value) {                          \
    using namespace nasp_ext::emulator;                                                     \
    if (observer != nullptr) {                                                              \
      observer->accessed(address, sizeof(T), Access::kAtomic, __builtin_return_address(0)); \
    }                                                                                       \
    const T old = *address;                                                                 \
    *address = (expression);                                                                \
    return old;                                                                             \
  }
NASP_ATOMIC(atomicAdd, old + value)
NASP_ATOMIC(atomicMax, old < value ? value : old)
NASP_ATOMIC(atomicMin, value < old ? value : old)
NASP_ATOMIC(atomicExch, value)
