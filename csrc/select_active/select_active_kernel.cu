// SPDX-License-Identifier: MIT
// select_active on the device.
#include "select_active_kernel.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "select_rows.cuh"

namespace nasp_ext {

struct NoStep {};  // the rows stay as they are

template <class T>
__device__ __forceinline__ bool step_row(const DeviceSelection<T>&, const NoStep&, int64_t) {
  return true;
}
template <class T>
__device__ __forceinline__ bool step_row_of_8(const DeviceSelection<T>& s, const NoStep&,
                                              int64_t row, T (&a)[8]) {
  load_row(s.a + row * 8, a);
  return true;
}
template <class T>
void launch_select(const DeviceSelection<T>& s, const NodeBounds& nodes, stream_t stream) {
  if (nodes.count > 0) return launch_nodes(s, NoStep{}, nodes, stream);
  launch_rows(s, NoStep{}, aligned16(s.a) && aligned16(s.weight), stream);
}

#define NASP_INSTANTIATE(T) \
  template void launch_select<T>(const DeviceSelection<T>&, const NodeBounds&, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)
NASP_INSTANTIATE(torch::headeronly::Half)
NASP_INSTANTIATE(torch::headeronly::BFloat16)

}  // namespace nasp_ext
