// SPDX-License-Identifier: MIT
// A tile of pixels of a block: staged in shared memory, multiplied with weights, added up.
//
// Every convolution is a product of (pixels, depth) and (depth, columns), where depth are the
// channels that are read, tap after tap, and columns those that are written. A thread block has one
// tile of pixels; 32 groups of 8 threads share it. Neighbouring threads have neighbouring channels
// wherever global memory is touched. A depthwise convolution is computed while its tile is staged,
// straight from global memory: what its taps share is read from the L1 cache, which is as fast as
// shared memory and knows no borders between tiles.
#pragma once

#include "../core/channels.cuh"
#include "block_kernel.h"

namespace nasp_ext {

constexpr int kLanesOfWarp = 32;
constexpr int kWide = 4;      // columns of a thread: one 16-byte access in float
constexpr int kColumns = 32;  // of a thread block at a time: 8 threads of kWide
constexpr int kGroups = kThreads / (kColumns / kWide);
constexpr int kRun = kTilePixels / kGroups;  // pixels of a thread
// Channels that are staged at a time: with the weights below 48 KiB, and all of a cell of C = 64 at
// once in float, so that its depthwise convolution is computed once for all columns.
template <class T>
constexpr int kDepth = 256 / sizeof(T);
// Odd, so that neighbouring channels of a pixel lie in different banks.
constexpr int kPixelPitch = kTilePixels + 1;
constexpr int kColumnPitch = kColumns + kWide;  // shifts the banks, keeps 16-byte steps
constexpr int kWarps = kThreads / kLanesOfWarp;
// Thread blocks that a multiprocessor shall hold: as many as leave the registers for no spills.
template <class T>
constexpr int kBlocksAtLeast = sizeof(T) == 4 ? 3 : 2;

__device__ __forceinline__ int group_of_thread() {
  return static_cast<int>(threadIdx.x) / (kColumns / kWide);
}
__device__ __forceinline__ int column_of_thread() {
  return static_cast<int>(threadIdx.x) % (kColumns / kWide) * kWide;
}

constexpr int kMostTaps = 49;          // of a depthwise convolution: 7 x 7
constexpr int kAnyChannels = 1 << 20;  // more than are staged at a time, for bounds of memory

template <class T>
NASP_HOST_DEVICE constexpr int depth_of(int channels) {
  return channels < kDepth<T> ? channels : kDepth<T>;
}
// Of shared memory, in numbers: weights, pixels, taps of the channels that are staged at a time.
template <class T>
NASP_HOST_DEVICE constexpr int tile_numbers(int channels, int taps) {
  return depth_of<T>(channels) * (kColumnPitch + kPixelPitch + taps);
}
template <class T>
constexpr size_t tile_bytes(int channels, int taps) {
  return sizeof(T) * static_cast<size_t>(tile_numbers<T>(channels, taps));
}
constexpr size_t kPlacesBytes = sizeof(PixelPlace) * kTilePixels;
// What add_groups needs.
template <int kKinds>
constexpr int kScratchNumbers = kWarps * kKinds * kColumns;
template <class T>
struct TileMemory {
  T* weights;  // (depth, kColumnPitch)
  T* pixels;   // (depth, kPixelPitch)
  T* taps;     // (taps, depth), of a depthwise convolution

  __device__ __forceinline__ TileMemory(T* memory, int channels)
      : weights(memory),
        pixels(weights + depth_of<T>(channels) * kColumnPitch),
        taps(pixels + depth_of<T>(channels) * kPixelPitch) {}
};

// staged[tap][c]: neighbouring threads, which have neighbouring channels, read neighbouring
// numbers.
template <class T>
__device__ __forceinline__ void stage_taps(const T* depthwise, int taps, int channel, int depth,
                                           T* staged) {
  const T* const from = depthwise + static_cast<int64_t>(channel) * taps;
  for (int i = static_cast<int>(threadIdx.x); i < depth * taps; i += kThreads) {
    staged[i % taps * depth + i / taps] = from[i];
  }
}

// staged[c][p] = value(channel c, pixel p) for `depth` channels; make(c) prepares a channel.
template <class T, class Make>
__device__ __forceinline__ void stage(int depth, T* staged, const Make& make) {
  const int threads = kThreads / depth;  // of a channel
  const int c = static_cast<int>(threadIdx.x) % depth,
            first = static_cast<int>(threadIdx.x) / depth;
  if (first >= threads) return;
  const auto value = make(c);
  for (int p = first; p < kTilePixels; p += threads) staged[c * kPixelPitch + p] = value(p);
}

// What a block reads.
template <class T>
struct BlockInput {
  const T* x;
  const T* norm;  // (5, C) or null
  int pitch;
};

// One tap of a plain convolution, or all taps of a depthwise one, of channels from `channel` on;
// with barriers.
template <class T>
__device__ __forceinline__ void stage_input(const BlockGeometry& g,
                                            const BlockWeightsOnDevice<T>& weights,
                                            const BlockInput<T>& in, const PixelPlace* places,
                                            int part, int tap, int channel, int depth, T* taps,
                                            T* staged) {
  if (g.depthwise) {
    stage_taps(weights.depthwise, g.taps(), channel, depth, taps);
    __syncthreads();
  }
  stage<T>(depth, staged, [&](int offset) {
    const int c = channel + offset;
    const Activation<T> activation = activation_of(in.norm, g.in_channels, c, g.relu);
    const T* const column = in.x + c;
    return [=, &g](int p) {
      const PixelPlace place = places[p];
      if (!g.depthwise) {
        const int64_t from = input_pixel(g, place, part, tap / g.kernel_w, tap % g.kernel_w);
        return from < 0 ? T(0) : activation(column[from * in.pitch]);
      }
      T sum = T(0);
      for_taps_to_input(g, place, [&](int number, int64_t row, int x) {
        const T* const line = column + row * in.pitch;
        sum = multiply_add(taps[number * depth + offset],
                           activation(line[static_cast<int64_t>(x) * in.pitch]), sum);
      });
      return sum;
    };
  });
}

// weights[k][v] = value(k, v) for `depth` rows and kColumns columns, of which `columns` exist. Rows
// differ between neighbouring threads: they are the ones that lie side by side in the forward's
// weights; the backward's are read the other way round.
template <class T, bool kRowsAreNear, class Value>
__device__ __forceinline__ void stage_weights(int depth, int columns, T* weights,
                                              const Value& value) {
  for (int i = static_cast<int>(threadIdx.x); i < depth * kColumns; i += kThreads) {
    const int k = kRowsAreNear ? i % depth : i / kColumns;
    const int v = kRowsAreNear ? i / depth : i % kColumns;
    weights[k * kColumnPitch + v] = v < columns ? value(k, v) : T(0);
  }
}

// sum[t][v] += the products of pixel group + t * kGroups and column + v.
template <class T>
__device__ __forceinline__ void multiply(const TileMemory<T>& memory, int depth,
                                         T (&sum)[kRun][kWide]) {
  const T* pixels = memory.pixels + group_of_thread();
  const T* weights = memory.weights + column_of_thread();
  for (int k = 0; k < depth; ++k) {
    T w[kWide];
    load_row(weights + k * kColumnPitch, w);
#pragma unroll
    for (int t = 0; t < kRun; ++t) {
      const T x = pixels[k * kPixelPitch + t * kGroups];
#pragma unroll
      for (int v = 0; v < kWide; ++v) sum[t][v] = multiply_add(x, w[v], sum[t][v]);
    }
  }
}

// Adds value[kind][v] of all groups of pixels; out(kind, column, sum) in one thread of each. The
// order is fixed. scratch: (kWarps, kKinds, kColumns), kScratchNumbers of them; a barrier must
// follow before it is used again.
template <int kKinds, class T, class Out>
__device__ __forceinline__ void add_groups(const T (&value)[kKinds][kWide], T* scratch,
                                           const Out& out) {
  const int warp = static_cast<int>(threadIdx.x) / kLanesOfWarp;
  const int lane = static_cast<int>(threadIdx.x) % kLanesOfWarp;
#pragma unroll
  for (int kind = 0; kind < kKinds; ++kind) {
#pragma unroll
    for (int v = 0; v < kWide; ++v) {
      T sum = value[kind][v];
#pragma unroll
      for (int step = kLanesOfWarp / 2; step >= kColumns / kWide; step /= 2) {
        sum += __shfl_xor_sync(kAllLanes, sum, step);
      }
      if (lane < kColumns / kWide) {
        scratch[(warp * kKinds + kind) * kColumns + column_of_thread() + v] = sum;
      }
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kKinds * kColumns; i += kThreads) {
    T sum = T(0);
    for (int w = 0; w < kWarps; ++w) sum += scratch[w * kKinds * kColumns + i];
    out(i / kColumns, i % kColumns, sum);
  }
}

}  // namespace nasp_ext
