// SPDX-License-Identifier: MIT
// The one header a kernel file includes instead of <cuda_runtime.h>: nvcc gets CUDA, a host
// compiler the emulator. One source serves both as long as kernels are launched with NASP_LAUNCH,
// shared memory is declared with NASP_SHARED or NASP_DYNAMIC_SHARED, and there is no inline
// assembly.
#pragma once
#include "stream.h"
#if defined(__CUDACC__)
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#define NASP_SHARED(T, name, n) __shared__ T name[n]
#define NASP_DYNAMIC_SHARED(T, name)                             \
  extern __shared__ __align__(16) unsigned char nasp_dynamic_[]; \
  T* const name = reinterpret_cast<T*>(nasp_dynamic_)

namespace nasp_ext {
template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
            stream_t stream, A&&... arguments) {
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(
      static_cast<P>(arguments)...);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string(name) + ": " + cudaGetErrorString(error));
  }
}
}  // namespace nasp_ext
#else
#include "../emulator/cuda_names.h"
#endif
// The stream and the kernel's arguments follow the size of the dynamic shared memory.
#define NASP_LAUNCH(kernel, grid, block, shared_bytes, ...) \
  ::nasp_ext::launch(#kernel, kernel, grid, block, shared_bytes, __VA_ARGS__)
