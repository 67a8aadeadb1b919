// SPDX-License-Identifier: MIT
// Where the kernels of a call run. In the tests the *_cuda.cpp files are compiled against the
// emulator (NASP_EMULATED) and registered for CPU tensors, so that a machine without a GPU runs
// them as well.
#pragma once
#include "stream.h"
#include "tensors.h"

#if defined(NASP_EMULATED)
#define NASP_DEVICE_KEY CPU

namespace nasp_ext {

class DeviceScope {
 public:
  explicit DeviceScope(const Tensor&) {}
  stream_t stream() const { return nullptr; }
};

}  // namespace nasp_ext
#else
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#define NASP_DEVICE_KEY CUDA

namespace nasp_ext {

// PyTorch's current stream. The stable call for it is newer than the oldest PyTorch supported; the
// older one lives in libtorch_cuda.so, which a CPU-only PyTorch has not got, so it is looked up.
inline stream_t current_stream(int32_t device) {
  using GetStream = int32_t (*)(int32_t, void**);
  static const GetStream get_stream = [] {
    void* const library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void* const symbol = library ? dlsym(library, "aoti_torch_get_current_cuda_stream") : nullptr;
    return reinterpret_cast<GetStream>(symbol);
  }();
  void* stream = nullptr;
  if (get_stream == nullptr || get_stream(device, &stream) != 0) {
    throw std::runtime_error(
        "expected a PyTorch with CUDA, found none that gives its current stream; install one");
  }
  return stream;
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
