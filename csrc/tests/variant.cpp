// SPDX-License-Identifier: MIT
#include "variant.h"

bool nasp_ext::testing::checked_build() {
#if defined(NASP_CHECKED)
  return true;
#else
  return false;
#endif
}
