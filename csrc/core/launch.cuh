// SPDX-License-Identifier: MIT
// Shapes of launches and 16-byte accesses, for all kernels.
#pragma once
#include <cstddef>
#include <cstdint>

#include "nasp_cuda.cuh"

namespace nasp_ext {

constexpr int kThreads = 256;  // of a block: 8 of them fill the 2048 threads of a multiprocessor
constexpr int64_t kMaxBlocks = 4096;  // over 16 blocks for each of 148 multiprocessors; the
                                      // grid-stride loops do the rest
// Shared memory of a block, static and dynamic, that every GPU grants without being asked.
constexpr size_t kSharedLimit = 48 * 1024;
constexpr unsigned kAllLanes = 0xffffffffu;

// Blocks for `work` items at `per_block` each; `work` > 0.
inline unsigned grid_for(int64_t work, int64_t per_block) {
  const int64_t blocks = (work + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

__device__ __forceinline__ int64_t first_item() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t item_stride() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Vector {
  T value[kWidth];
};
template <class T>
constexpr int kVectorWidth = 16 / sizeof(T);  // a thread moves 16 bytes at most

inline bool aligned16(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

template <int kWidth, class T>
__device__ __forceinline__ Vector<T, kWidth> load(const T* pointer) {
  return *reinterpret_cast<const Vector<T, kWidth>*>(pointer);
}
template <int kWidth, class T>
__device__ __forceinline__ void store(T* pointer, const Vector<T, kWidth>& vector) {
  *reinterpret_cast<Vector<T, kWidth>*>(pointer) = vector;
}

// A row of kOptions entries, as vectors.
template <int kOptions, class T>
__device__ __forceinline__ void load_row(const T* pointer, T (&row)[kOptions]) {
  constexpr int kWidth = kVectorWidth<T>;
#pragma unroll
  for (int first = 0; first < kOptions; first += kWidth) {
    const Vector<T, kWidth> part = load<kWidth>(pointer + first);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) row[first + i] = part.value[i];
  }
}
template <int kOptions, class T>
__device__ __forceinline__ void store_row(T* pointer, const T (&row)[kOptions]) {
  constexpr int kWidth = kVectorWidth<T>;
#pragma unroll
  for (int first = 0; first < kOptions; first += kWidth) {
    Vector<T, kWidth> part;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) part.value[i] = row[first + i];
    store<kWidth>(pointer + first, part);
  }
}

}  // namespace nasp_ext
