// SPDX-License-Identifier: MIT
// Mixtures sum_k w_k y_k (Yao et al. 2020, eq. 7): their K terms are added in the order of k,
// mix_first, then mix_next.
#pragma once

#include "../core/host_device.h"

namespace nasp_ext {

template <class T>
NASP_HOST_DEVICE accumulate_t<T> mix_first(accumulate_t<T> weight, T y) {
  return weight * static_cast<accumulate_t<T>>(y);
}

template <class T>
NASP_HOST_DEVICE accumulate_t<T> mix_next(accumulate_t<T> sum, accumulate_t<T> weight, T y) {
  return sum + weight * static_cast<accumulate_t<T>>(y);
}

}  // namespace nasp_ext
