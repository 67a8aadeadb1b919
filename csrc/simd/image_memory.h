// SPDX-License-Identifier: MIT
#pragma once

#include "../block/images.h"

namespace nasp_ext {

// New images in memory that is kept when they are gone, for those of the next step: fresh memory
// costs a page fault for every 4 KiB. Never more than what was once in use at a time.
Tensor kept_images(const Tensor& like, int64_t count, int64_t channels, int64_t height,
                   int64_t width);

// Gives unused memory back; returns the bytes.
int64_t release_memory();

}  // namespace nasp_ext
