// SPDX-License-Identifier: MIT
#pragma once

namespace nasp_ext {

using stream_t = void*;  // a cudaStream_t, for files that see no CUDA header

}  // namespace nasp_ext
