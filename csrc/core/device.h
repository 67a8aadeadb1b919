// SPDX-License-Identifier: MIT
// Where the kernels of a call run. In the tests the *_cuda.cpp files are compiled against the
// emulator (NASP_EMULATED) and registered for CPU tensors, so that a machine without a GPU runs
// them as well.
#pragma once
#include "stream.h"
#include "tensors.h"

#if defined(NASP_EMULATED)
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#define NASP_DEVICE_KEY CPU

namespace nasp_ext {

class DeviceScope {
 public:
  explicit DeviceScope(const Tensor&) {}
  stream_t stream() const { return nullptr; }
};

inline uint64_t matrix_products = 0;  // calls of add_product(), for the tests

inline void add_product(const Tensor& out, const Tensor& base, double beta, const Tensor& a,
                        const Tensor& b) {
  ++matrix_products;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_cpu_addmm_out(out.get(), base.get(), a.get(), b.get(), beta, 1));
}

}  // namespace nasp_ext
#else
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#define NASP_DEVICE_KEY CUDA

namespace nasp_ext {

// A function of libtorch_cuda.so, which a CPU-only PyTorch has not got, so it is looked up; null if
// it is not there.
template <class Function>
Function torch_cuda_function(const char* name) {
  void* const library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
  return reinterpret_cast<Function>(library ? dlsym(library, name) : nullptr);
}

// PyTorch's current stream. The stable call for it is newer than the oldest PyTorch supported.
inline stream_t current_stream(int32_t device) {
  using GetStream = int32_t (*)(int32_t, void**);
  static const auto get_stream =
      torch_cuda_function<GetStream>("aoti_torch_get_current_cuda_stream");
  void* stream = nullptr;
  if (get_stream == nullptr || get_stream(device, &stream) != 0) {
    throw std::runtime_error(
        "expected a PyTorch with CUDA, found none that gives its current stream; install one");
  }
  return stream;
}

// out = beta * base + a b, matrices; base may be `out`, and is copied there first if it is not. By
// PyTorch's product for CUDA: the dispatcher of the stable ABI passes no beta.
inline void add_product(const Tensor& out, const Tensor& base, double beta, const Tensor& a,
                        const Tensor& b) {
  using AddProduct = int32_t (*)(AtenTensorHandle, AtenTensorHandle, AtenTensorHandle,
                                 AtenTensorHandle, double, double);
  static const auto add = torch_cuda_function<AddProduct>("aoti_torch_cuda_addmm_out");
  if (add == nullptr) {
    throw std::runtime_error(
        "expected a PyTorch with CUDA, found none that multiplies matrices; install one");
  }
  STABLE_TORCH_ERROR_CODE_CHECK(add(out.get(), base.get(), a.get(), b.get(), beta, 1));
}

// Makes the device of a tensor the current one, until the end of the scope.
class DeviceScope {
 public:
  explicit DeviceScope(const Tensor& tensor)
      : guard_(tensor.get_device_index()), stream_(current_stream(tensor.get_device_index())) {}
  stream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  stream_t stream_;
};

}  // namespace nasp_ext
#endif
