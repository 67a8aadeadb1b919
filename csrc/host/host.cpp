// SPDX-License-Identifier: MIT
// Facts about this build and this processor. Includes no PyTorch header, so it is bound with plain
// pybind11.
#include <pybind11/pybind11.h>

namespace py = pybind11;

namespace {

// Which clone of the CPU kernels the dynamic loader picks; the levels of NASP_SIMD_CLONES in
// csrc/core/simd.h, which GCC alone makes.
const char* instruction_set() {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return "x86-64-v4 (AVX-512)";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2")) {
    return "x86-64-v3 (AVX2)";
  }
  return "x86-64 (SSE2)";
#else
  return "portable";
#endif
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = __VERSION__;
  info["torch_built_with"] = NASP_TORCH_VERSION;
  info["cuda"] = static_cast<bool>(NASP_WITH_CUDA);
  info["cuda_archs"] = NASP_CUDA_ARCHS;
  info["cuda_reason"] = NASP_CUDA_REASON;
  return info;
}

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.doc() = "Facts about how nasp_ext was built and about this processor.";
  m.def("build_info", &build_info);
  m.def("instruction_set", &instruction_set);
}
