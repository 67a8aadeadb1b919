// SPDX-License-Identifier: MIT
// Blocks backward through the taps of a depthwise convolution: to its input and to its weights, two
// kinds of thread blocks in one grid.
#include "backward.cuh"

namespace nasp_ext {
namespace {

// One tile of the input of a depthwise block: every pixel gathers from its taps.
template <class T>
__device__ __forceinline__ void taps_to_input(const BlockBackward<T>& b, PixelPlace* places,
                                              T* scratch) {
  const BlockGeometry& g = b.shape;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTilePixels<T>;
  find_places<T>(first, g.in_pixels(), g.height, g.width, places);
  __syncthreads();
  for (int c0 = 0; c0 < g.in_channels; c0 += kThreads) {
    const ChannelThreads t(c0, g.in_channels);
    InputGradient<T> input(b, t.channel);
    const T* const taps = b.weights.depthwise + static_cast<int64_t>(t.channel) * g.taps();
    for (int p = t.turn; t.works && p < kTilePixels<T> && places[p].image >= 0; p += t.threads) {
      T grad = T(0);
      for (int i = 0; i < g.kernel_h; ++i) {
        for (int j = 0; j < g.kernel_w; ++j) {
          const int64_t from = output_pixel(g, places[p], 0, i, j);
          if (from < 0) continue;
          grad = multiply_add(taps[i * g.kernel_w + j], b.between[from * g.in_channels + t.channel],
                              grad);
        }
      }
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
  const int64_t tiles = (g.out_pixels() + kTilePixels<T> - 1) / kTilePixels<T>;
  const int c = static_cast<int>(weight % g.in_channels);
  const int tap = static_cast<int>(weight / g.in_channels);
  const bool exists = weight < weights;
  const Activation<T> activation =
      exists ? activation_of(b.in_norm, g.in_channels, c, g.relu) : Activation<T>{};
  T sum = T(0);
  for (int64_t tile = tiles * split / b.depthwise_splits;
       tile < tiles * (split + 1) / b.depthwise_splits; ++tile) {
    const int64_t first = tile * kTilePixels<T>;
    __syncthreads();
    find_places<T>(first, g.out_pixels(), g.out_height, g.out_width, places);
    __syncthreads();
    for (int p = 0; exists && p < kTilePixels<T>; ++p) {
      const int64_t from = input_pixel(g, places[p], 0, tap / g.kernel_w, tap % g.kernel_w);
      if (from < 0) continue;
      sum = multiply_add(b.between[(first + p) * g.in_channels + c],
                         activation(b.x[from * b.x_pitch + c]), sum);
    }
  }
  if (exists) b.grad_depthwise[split * weights + c * static_cast<int64_t>(g.taps()) + tap] = sum;
}

// Three thread blocks on a multiprocessor leave registers for no spills.
template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    depthwise_backward_kernel(const __grid_constant__ BlockBackward<T> b, int64_t tiles) {
  NASP_SHARED(PixelPlace, places, kTilePixels<T>);
  NASP_SHARED(T, scratch, kThreads);
  if (blockIdx.x < tiles) {
    taps_to_input(b, places, scratch);
  } else {
    taps_to_weights(b, blockIdx.x - tiles, places);
  }
}

int64_t depthwise_pieces(const BlockGeometry& g) {
  return (static_cast<int64_t>(g.in_channels) * g.taps() + kThreads - 1) / kThreads;
}

}  // namespace

template <class T>
int depthwise_splits(const BlockGeometry& shape) {
  return splits_for<T>(shape, depthwise_pieces(shape));
}

template <class T>
void launch_depthwise_backward(const BlockBackward<T>& b, stream_t stream) {
  const BlockGeometry& g = b.shape;
  const int64_t to_input = b.out == nullptr ? 0 : tiles_of(g.in_pixels(), kTilePixels<T>);
  const int64_t to_weights =
      b.grad_depthwise == nullptr ? 0 : b.depthwise_splits * depthwise_pieces(g);
  if (to_input + to_weights == 0) return;
  NASP_LAUNCH(depthwise_backward_kernel<T>, static_cast<unsigned>(to_input + to_weights), kThreads,
              0, stream, b, to_input);
}

#define NASP_INSTANTIATE(T)                               \
  template int depthwise_splits<T>(const BlockGeometry&); \
  template void launch_depthwise_backward<T>(const BlockBackward<T>&, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)

}  // namespace nasp_ext
