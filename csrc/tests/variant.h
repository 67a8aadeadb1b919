// SPDX-License-Identifier: MIT
#pragma once

namespace nasp_ext::testing {

// Whether the kernels linked into this program report every memory access.
bool checked_build();

}  // namespace nasp_ext::testing
