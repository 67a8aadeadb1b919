// SPDX-License-Identifier: MIT
// Pools on the device. Forward, any number of pools in one launch, a row of the grid for each; a
// pool that several edges share is computed once and meets all their gradients. Backward, every
// pixel gathers from the windows that hold it: what a window chose is told by its maximum, and the
// window is read again only where a pixel equals it.
#include "pool_kernel.h"

#include "../core/channels.cuh"

namespace nasp_ext {
namespace {

template <class T>
struct ColumnOfImage {  // one channel of one image
  const T* data;
  int64_t pitch;
  int width;

  __device__ __forceinline__ T operator()(int y, int x) const {
    return data[(static_cast<int64_t>(y) * width + x) * pitch];
  }
};

template <class T>
__device__ __forceinline__ ColumnOfImage<T> column_of(const PoolGeometry& g, const T* x, int pitch,
                                                      int image, int channel) {
  const int64_t first = pixel_at(image, 0, 0, g.height, g.width);
  return {x + first * pitch + channel, pitch, g.width};
}

template <class T>
__device__ __forceinline__ T pool_at(const PoolForward<T>& f, const PixelPlace& p, int channel) {
  const PoolGeometry& g = f.shape;
  return pool_window<T>(g.max, window_of(g, p.y, g.height), window_of(g, p.x, g.width),
                        column_of(g, f.x, f.x_pitch, p.image, channel));
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    pool_forward_kernel(const __grid_constant__ PoolForwards<T> pools) {
  NASP_SHARED(PixelPlace, places, kTilePixels);
  NASP_SHARED(T, scratch, kThreads);
  const PoolForward<T>& f = pools.pool[blockIdx.y];
  const PoolGeometry& g = f.shape;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTilePixels, pixels = g.out_pixels();
  if (first >= pixels) return;
  const int64_t tiles = (pixels + kTilePixels - 1) / kTilePixels;
  find_places(first, pixels, g.out_height, g.out_width, places);
  __syncthreads();
  for (int c0 = 0; c0 < g.channels; c0 += kThreads) {
    const ChannelThreads t(c0, g.channels);
    const int c = t.channel;
    const T shift = f.sums == nullptr || !t.works ? T(0) : pool_at(f, places[0], c);
    T sum = T(0), square = T(0), dot[kGradsOfPool] = {}, grads[kGradsOfPool] = {};
    for (int p = t.turn; t.works && p < kTilePixels && places[p].image >= 0; p += t.threads) {
      const int64_t pixel = first + p;
      const T z = pool_at(f, places[p], c), d = z - shift;
      if (f.z != nullptr) f.z[pixel * g.channels + c] = z;
      sum += d;
      square = multiply_add(d, d, square);
#pragma unroll
      for (int i = 0; i < kGradsOfPool; ++i) {
        if (i >= f.grad_count) continue;
        const T grad = f.grads[i][pixel * f.grad_pitches[i] + c];
        dot[i] = multiply_add(grad, d, dot[i]);
        grads[i] += grad;
      }
    }
    if (f.sums == nullptr) continue;
    const auto write = [&](T* rows, int row, T value) {
      if (t.turn == 0) rows[(row * tiles + blockIdx.x) * g.channels + c] = value;
    };
    write(f.sums, kShiftRow, shift);
    write(f.sums, kSumRow, t.add(sum, scratch));
    write(f.sums, kSquareRow, t.add(square, scratch));
#pragma unroll
    for (int i = 0; i < kGradsOfPool; ++i) {
      if (i >= f.grad_count) continue;
      write(f.dots, 2 * i, t.add(dot[i], scratch));
      write(f.dots, 2 * i + 1, t.add(grads[i], scratch));
    }
  }
}

// The gradient of one channel of one pixel of the input.
template <class T>
__device__ __forceinline__ T gather(const PoolBackward<T>& b, const PixelPlace& in, int channel,
                                    const GradientBehindNorm<T>& behind) {
  const PoolGeometry& g = b.shape;
  const ColumnOfImage<T> column = column_of(g, b.x, b.x_pitch, in.image, channel);
  const Range above = windows_with(g, in.y, g.out_height),
              beside = windows_with(g, in.x, g.out_width);
  T sum = T(0);
  for (int y = above.begin; y < above.end; ++y) {
    for (int x = beside.begin; x < beside.end; ++x) {
      const int64_t pixel = pixel_at(in.image, y, x, g.out_height, g.out_width);
      const Range rows = window_of(g, y, g.height), columns = window_of(g, x, g.width);
      const T z = b.z[pixel * b.z_pitch + channel];
      if (g.max && !gave_maximum(in.y, in.x, rows, columns, z, column)) continue;
      const T grad = b.grad[pixel * b.grad_pitch + channel];
      const T gz = behind(b.factors == nullptr ? grad : grad * b.factors[in.image], z);
      sum += g.max ? gz : gz / static_cast<T>(rows.size() * columns.size());
    }
  }
  return sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    pool_backward_kernel(const __grid_constant__ PoolBackward<T> b) {
  NASP_SHARED(PixelPlace, places, kTilePixels);
  const PoolGeometry& g = b.shape;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTilePixels;
  find_places(first, g.in_pixels(), g.height, g.width, places);
  __syncthreads();
  for (int c0 = 0; c0 < g.channels; c0 += kThreads) {
    const ChannelThreads t(c0, g.channels);
    const int c = t.channel;
    const GradientBehindNorm<T> behind =
        gradient_behind_norm(b.norm, b.sums, b.per_count, g.channels, c);
    for (int p = t.turn; t.works && p < kTilePixels && places[p].image >= 0; p += t.threads) {
      T grad = gather(b, places[p], c, behind);
      if (b.base != nullptr) grad += b.base[(first + p) * b.base_pitch + c];
      b.out[(first + p) * b.out_pitch + c] = grad;
    }
  }
}

}  // namespace

template <class T>
void launch_pool_forward(const PoolForwards<T>& pools, int count, stream_t stream) {
  int64_t tiles = 1;
  for (int i = 0; i < count; ++i) {
    const int64_t of_pool = tiles_of(pools.pool[i].shape.out_pixels(), kTilePixels);
    if (of_pool > tiles) tiles = of_pool;
  }
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(count));
  NASP_LAUNCH(pool_forward_kernel<T>, grid, kThreads, 0, stream, pools);
}

template <class T>
void launch_pool_backward(const PoolBackward<T>& pool, stream_t stream) {
  const int64_t tiles = tiles_of(pool.shape.in_pixels(), kTilePixels);
  NASP_LAUNCH(pool_backward_kernel<T>, static_cast<unsigned>(tiles), kThreads, 0, stream, pool);
}

#define NASP_INSTANTIATE(T)                                                    \
  template void launch_pool_forward<T>(const PoolForwards<T>&, int, stream_t); \
  template void launch_pool_backward<T>(const PoolBackward<T>&, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)

}  // namespace nasp_ext
