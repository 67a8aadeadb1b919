// SPDX-License-Identifier: MIT
#pragma once

#include "back_ends.h"
#include "images.h"

namespace nasp_ext {

// New images. On the CPU, in memory that is kept when they are gone, for those of the next step:
// fresh memory costs a page fault for every 4 KiB. Never more than what was once in use at a time.
// On CUDA PyTorch's allocator does the same.
template <class Device>
Tensor new_images(const Tensor& like, int64_t count, int64_t channels, int64_t height,
                  int64_t width);

}  // namespace nasp_ext
