# SPDX-License-Identifier: MIT
# Adds the C++ tests (csrc/tests) to the build of the library; TORCH_DIR is PyTorch's folder.
set(NASP_TORCH_INCLUDE ${TORCH_DIR}/include)
add_subdirectory(csrc/tests)
