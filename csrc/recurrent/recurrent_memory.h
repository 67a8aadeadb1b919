// SPDX-License-Identifier: MIT
// The memory of a recurrent cell, and the matrices in it.
#pragma once

#include "../core/back_ends.h"
#include "../core/image_memory.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nasp_ext {

// Sequences have another length each time, and memory is kept for tensors of its size alone. On the
// CPU there is room for a multiple of kSteps time steps: pages that nobody touches cost nothing, a
// tape in fresh pages takes longer than its products.
template <class Device>
struct StepMemory {
  static constexpr int64_t kSteps = 1;
  static void use(const Tensor&) {}
};

template <>
struct StepMemory<OnCpu> {
  static constexpr int64_t kSteps = 64;

  // Large pages: a time step reads and writes a dozen places far apart.
  static void use([[maybe_unused]] const Tensor& memory) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t kPage = uintptr_t(2) << 20;
    const auto start = reinterpret_cast<uintptr_t>(memory.const_data_ptr());
    const uintptr_t bytes = static_cast<uintptr_t>(memory.numel()) * memory.element_size();
    const uintptr_t first = (start + kPage - 1) / kPage * kPage,
                    end = (start + bytes) / kPage * kPage;
    if (end > first) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#endif
  }
};

// The strides of a dense tensor.
inline void dense_strides(std::initializer_list<int64_t> sizes, int64_t* strides) {
  int64_t step = 1;
  for (auto i = static_cast<int64_t>(sizes.size()) - 1; i >= 0; --i) {
    strides[i] = step;
    step *= sizes.begin()[i] > 1 ? sizes.begin()[i] : 1;
  }
}

// New memory, dense; kept for the next call, see image_memory.h. steps: among the sizes, or 1.
template <class Device>
Tensor new_tensor(const Tensor& like, std::initializer_list<int64_t> sizes, int64_t steps = 1) {
  constexpr int64_t kSteps = StepMemory<Device>::kSteps;
  int64_t strides[kMaxDims], rows = 1;
  dense_strides(sizes, strides);
  const auto dim = static_cast<int64_t>(sizes.size());
  const int64_t columns = sizes.begin()[dim - 1];
  for (int64_t i = 0; i + 1 < dim; ++i) rows *= sizes.begin()[i];
  if (steps > 1) rows = rows / steps * ((steps + kSteps - 1) / kSteps * kSteps);
  const Tensor memory = new_images<Device>(like, rows, columns, 1, 1);
  StepMemory<Device>::use(memory);
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch__reinterpret_tensor(memory.get(), dim, sizes.begin(), strides, 0, &handle));
  return Tensor(handle);
}

// A result of many time steps that outlives the tape: memory of its own, and of its size.
inline Tensor new_result(const Tensor& like, std::initializer_list<int64_t> sizes) {
  int64_t strides[kMaxDims];
  dense_strides(sizes, strides);
  return empty_strided_on(like, static_cast<int64_t>(sizes.size()), sizes.begin(), strides,
                          like.scalar_type());
}

// A dense (rows, columns) matrix that begins `offset` elements behind the start of a dense tensor.
// It is a new tensor for PyTorch, of which autograd knows nothing.
inline Tensor matrix_in(const Tensor& t, int64_t offset, int64_t rows, int64_t columns,
                        bool transposed = false) {
  const int64_t sizes[] = {transposed ? columns : rows, transposed ? rows : columns};
  const int64_t strides[] = {transposed ? 1 : columns, transposed ? columns : 1};
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch__reinterpret_tensor(t.get(), 2, sizes, strides, offset, &handle));
  return Tensor(handle);
}

inline Tensor no_elements(const Tensor& like) { return empty_vector(like, 0, like.scalar_type()); }

}  // namespace nasp_ext
