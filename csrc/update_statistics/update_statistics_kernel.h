// SPDX-License-Identifier: MIT
// Launcher of update_statistics_ on the device, on raw pointers.
#pragma once

#include "../norm/norm_kernel.h"

namespace nasp_ext {

template <class T>
struct UpdateStatistics {
  RunningNorm<T> running;
  const T* norm;  // (5, C) of the batch
  double count;   // values of a channel
  int channels;
};
constexpr int kUpdatesPerLaunch = 72;

template <class T>
struct UpdatesOfStatistics {
  UpdateStatistics<T> update[kUpdatesPerLaunch];
};
static_assert(sizeof(UpdatesOfStatistics<double>) <= 4096, "kernel parameters over 4 KiB");

template <class T>
void launch_update_statistics(const UpdatesOfStatistics<T>& updates, int count, stream_t stream);

}  // namespace nasp_ext
