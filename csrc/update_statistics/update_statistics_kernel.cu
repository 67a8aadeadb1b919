// SPDX-License-Identifier: MIT
// Running statistics on the device, a thread block for each BN.
#include "update_statistics_kernel.h"

#include "../norm/running.cuh"

namespace nasp_ext {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads)
    update_statistics_kernel(const __grid_constant__ UpdatesOfStatistics<T> updates) {
  const UpdateStatistics<T>& u = updates.update[blockIdx.x];
  for (int c = static_cast<int>(threadIdx.x); c < u.channels; c += kThreads) {
    move_running(u.running, c, u.norm[c], u.norm[u.channels + c], u.count);
  }
}

}  // namespace

template <class T>
void launch_update_statistics(const UpdatesOfStatistics<T>& updates, int count, stream_t stream) {
  NASP_LAUNCH(update_statistics_kernel<T>, static_cast<unsigned>(count), kThreads, 0, stream,
              updates);
}

#define NASP_INSTANTIATE(T) \
  template void launch_update_statistics<T>(const UpdatesOfStatistics<T>&, int, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)

}  // namespace nasp_ext
