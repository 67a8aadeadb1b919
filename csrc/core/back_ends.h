// SPDX-License-Identifier: MIT
// Where a function of C++ runs: Device of its template is one of these. The *_cpu.cpp files define
// it for OnCpu, the *_cuda.cpp files for OnCuda.
#pragma once

namespace nasp_ext {

struct OnCpu {};
struct OnCuda {};

}  // namespace nasp_ext
