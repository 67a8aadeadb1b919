// SPDX-License-Identifier: MIT
// Thread blocks that go over a tile of pixels, channel by channel: neighbouring threads have
// neighbouring channels, and as many threads share a channel as there is room for.
#pragma once

#include "launch.cuh"
#include "pixel_math.h"

namespace nasp_ext {

// Where the pixels of a tile lie; a barrier must follow.
__device__ __forceinline__ void find_places(int64_t first, int64_t pixels, int height, int width,
                                            PixelPlace* places) {
  for (int p = static_cast<int>(threadIdx.x); p < kTilePixels; p += kThreads) {
    places[p] = place_of(first + p, pixels, height, width);
  }
}

struct ChannelThreads {
  int depth;    // channels of this thread block
  int threads;  // that share a channel
  int channel;  // of this thread
  int turn;     // of this thread among those of its channel
  bool works;   // the last threads may have nothing to do but to wait at barriers

  // Of the channels from `first` on, at most `most`.
  __device__ __forceinline__ ChannelThreads(int first, int channels, int most = kThreads)
      : depth(channels - first < most ? channels - first : most),
        threads(kThreads / depth),
        channel(first + static_cast<int>(threadIdx.x) % depth),
        turn(static_cast<int>(threadIdx.x) / depth),
        works(turn < threads) {}

  // The sum over the threads of a channel, in a fixed order, in the one whose turn is 0. scratch:
  // (kThreads,), which may still be read.
  template <class T>
  __device__ __forceinline__ T add(T value, T* scratch) const {
    __syncthreads();
    if (works) scratch[threadIdx.x] = value;
    __syncthreads();
    T sum = T(0);
    if (turn == 0) {
      for (int t = 0; t < threads; ++t) sum += scratch[t * depth + threadIdx.x];
    }
    return sum;
  }
};

}  // namespace nasp_ext
