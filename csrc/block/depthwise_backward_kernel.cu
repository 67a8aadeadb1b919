// SPDX-License-Identifier: MIT
// Blocks backward through the taps of a depthwise convolution: to its input and to its weights, two
// kinds of thread blocks in one grid.
#include <algorithm>

#include "backward.cuh"

namespace nasp_ext {
namespace {

constexpr int kChannels = 32;  // at a time: their taps, in double, take 12 KiB of shared memory

// One tile of the input of a depthwise block: every pixel gathers from its taps.
template <class T>
__device__ __forceinline__ void taps_to_input(const BlockBackward<T>& b, PixelPlace* places,
                                              T* taps, T* scratch) {
  const BlockGeometry& g = b.shape;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTilePixels;
  find_places(first, g.in_pixels(), g.height, g.width, places);
  for (int c0 = 0; c0 < g.in_channels; c0 += kChannels) {
    const ChannelThreads t(c0, g.in_channels, kChannels);
    __syncthreads();
    stage_taps(b.weights.depthwise, g.taps(), c0, t.depth, taps);
    __syncthreads();
    InputGradient<T> input(b, t.channel);
    const T* const between = b.between + t.channel;
    for (int p = t.turn; t.works && p < kTilePixels && places[p].image >= 0; p += t.threads) {
      T grad = T(0);
      for_taps_to_output(g, places[p], [&](int number, int64_t row, int x) {
        const T* const line = between + row * g.in_channels;
        grad = multiply_add(taps[number * t.depth + t.channel - c0],
                            line[static_cast<int64_t>(x) * g.in_channels], grad);
      });
      input.write(first + p, grad);
    }
    if (b.in_sums == nullptr) continue;
    const T sum = t.add(input.sum, scratch), dot = t.add(input.dot, scratch);
    if (t.turn > 0) continue;
    in_sum_at(b, 0, t.channel) = sum;
    in_sum_at(b, 1, t.channel) = dot;
  }
}

// A weight of a channel and tap for each thread, from the pixels of one split.
template <class T>
__device__ __forceinline__ void taps_to_weights(const BlockBackward<T>& b, int64_t number,
                                                PixelPlace* places) {
  const BlockGeometry& g = b.shape;
  const int64_t weights = static_cast<int64_t>(g.in_channels) * g.taps();
  const int64_t groups = (weights + kThreads - 1) / kThreads;
  const int64_t weight = number % groups * kThreads + threadIdx.x, split = number / groups;
  const int64_t tiles = (g.out_pixels() + kTilePixels - 1) / kTilePixels;
  const int c = static_cast<int>(weight % g.in_channels);
  const int tap = static_cast<int>(weight / g.in_channels);
  const bool exists = weight < weights;
  const Activation<T> activation =
      exists ? activation_of(b.in_norm, g.in_channels, c, g.relu) : Activation<T>{};
  T sum = T(0);
  for (int64_t tile = tiles * split / b.depthwise_splits;
       tile < tiles * (split + 1) / b.depthwise_splits; ++tile) {
    const int64_t first = tile * kTilePixels;
    __syncthreads();
    find_places(first, g.out_pixels(), g.out_height, g.out_width, places);
    __syncthreads();
#pragma unroll 4  // loads under way; a tap outside the image reads nothing and adds 0
    for (int p = 0; p < kTilePixels; ++p) {
      const int64_t from = input_pixel(g, places[p], 0, tap / g.kernel_w, tap % g.kernel_w);
      const bool reads = exists && from >= 0;
      const T grad = reads ? b.between[(first + p) * g.in_channels + c] : T(0);
      const T value = reads ? activation(b.x[from * b.x_pitch + c]) : T(0);
      sum = multiply_add(grad, value, sum);
    }
  }
  if (exists) b.grad_depthwise[split * weights + c * static_cast<int64_t>(g.taps()) + tap] = sum;
}

NASP_HOST_DEVICE int64_t depthwise_pieces(const BlockGeometry& g) {
  return (static_cast<int64_t>(g.in_channels) * g.taps() + kThreads - 1) / kThreads;
}

// Thread blocks that go to the input, and to the weights.
template <class T>
NASP_HOST_DEVICE int64_t blocks_to_input(const BlockBackward<T>& b) {
  return b.out == nullptr ? 0 : tiles_of(b.shape.in_pixels(), kTilePixels);
}
template <class T>
NASP_HOST_DEVICE int64_t blocks_to_weights(const BlockBackward<T>& b) {
  return b.grad_depthwise == nullptr ? 0 : b.depthwise_splits * depthwise_pieces(b.shape);
}

// Three thread blocks on a multiprocessor leave registers for no spills.
template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    depthwise_backward_kernel(const __grid_constant__ BlockBackwards<T> blocks) {
  NASP_SHARED(PixelPlace, places, kTilePixels);
  NASP_SHARED(T, taps, kMostTaps * kChannels);
  NASP_SHARED(T, scratch, kThreads);
  const BlockBackward<T>& b = blocks.block[blockIdx.y];
  const int64_t number = blockIdx.x, to_input = blocks_to_input(b);
  if (number < to_input) {
    taps_to_input(b, places, taps, scratch);
  } else if (number - to_input < blocks_to_weights(b)) {
    taps_to_weights(b, number - to_input, places);
  }
}

}  // namespace

template <class T>
int depthwise_splits(const BlockGeometry& shape) {
  return splits_for<T>(shape, depthwise_pieces(shape));
}

template <class T>
void launch_depthwise_backward(const BlockBackwards<T>& blocks, int count, stream_t stream) {
  int64_t most = 0;
  for (int i = 0; i < count; ++i)
    most = std::max(most, blocks_to_input(blocks.block[i]) + blocks_to_weights(blocks.block[i]));
  if (most == 0) return;
  const dim3 grid(static_cast<unsigned>(most), static_cast<unsigned>(count));
  NASP_LAUNCH(depthwise_backward_kernel<T>, grid, kThreads, 0, stream, blocks);
}

#define NASP_INSTANTIATE(T)                               \
  template int depthwise_splits<T>(const BlockGeometry&); \
  template void launch_depthwise_backward<T>(const BlockBackwards<T>&, int, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)

}  // namespace nasp_ext
