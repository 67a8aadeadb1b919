// SPDX-License-Identifier: MIT
// Norms and sums on the device. Few numbers from many tiles: a thread block
// takes kAcross neighbouring numbers (a sector of 32 bytes in float) and goes down the tiles with
// kDown threads for each; their sums are added in a fixed order.
#include "norm_kernel.h"

#include "running.cuh"

namespace nasp_ext {
namespace {

constexpr int kAcross = 8;
constexpr int kDown = kThreads / kAcross;

__device__ __forceinline__ int across() { return static_cast<int>(threadIdx.x) % kAcross; }
__device__ __forceinline__ int down() { return static_cast<int>(threadIdx.x) / kAcross; }

// The sum over the threads that share a number; every one of them gets it.
__device__ __forceinline__ double add_down(double value, double* scratch) {
  __syncthreads();  // scratch may still be read
  scratch[threadIdx.x] = value;
  __syncthreads();
  double sum = 0.0;
  for (int d = 0; d < kDown; ++d) sum += scratch[d * kAcross + across()];
  return sum;
}

// The sums of the tiles of one channel.
template <class T>
struct ChannelTiles {
  const FinishNorm<T>& n;
  int64_t tiles;
  int channel;
  bool exists;  // else there is nothing to read, but the barriers wait for this thread

  __device__ __forceinline__ explicit ChannelTiles(const FinishNorm<T>& norm)
      : n(norm),
        tiles((norm.pixels + norm.tile_pixels - 1) / norm.tile_pixels),
        channel(static_cast<int>(blockIdx.x) * kAcross + across()),
        exists(channel < norm.channels) {}

  __device__ __forceinline__ double at(const T* rows, int row, int64_t tile) const {
    return static_cast<double>(rows[(row * tiles + tile) * n.channels + channel]);
  }
  __device__ __forceinline__ TileSums sums(int64_t tile) const {
    const int64_t left = n.pixels - tile * n.tile_pixels;
    return {static_cast<double>(left < n.tile_pixels ? left : n.tile_pixels),
            at(n.sums, kShiftRow, tile), at(n.sums, kSumRow, tile), at(n.sums, kSquareRow, tile)};
  }
  // The sum of term(tile) over all tiles.
  template <class Term>
  __device__ __forceinline__ double add(double* scratch, const Term& term) const {
    double sum = 0.0;
    if (exists) {
      for (int64_t tile = down(); tile < tiles; tile += kDown) sum += term(tile);
    }
    return add_down(sum, scratch);
  }
};

template <class T>
__device__ __forceinline__ void write_norm(const FinishNorm<T>& n, int c,
                                           const NormColumn<T>& column) {
  const T rows[] = {column.mean, column.var, column.rstd, column.scale, column.shift};
#pragma unroll
  for (int row = 0; row < 5; ++row) n.norm[row * n.channels + c] = rows[row];
}

// Two thread blocks on a multiprocessor leave registers for no spills.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    finish_norms_kernel(const __grid_constant__ FinishNorms<T> norms) {
  NASP_SHARED(double, scratch, kThreads);
  const FinishNorm<T>& n = norms.norm[blockIdx.y];
  if (static_cast<int>(blockIdx.x) * kAcross >= n.channels) return;
  const ChannelTiles<T> tiles(n);
  const int c = tiles.channel;
  const bool writes = tiles.exists && down() == 0;
  NormColumn<T> column = {T(0), T(0), T(0), T(1), T(0)};
  if (n.norm != nullptr) {
    const double count = static_cast<double>(n.pixels);
    double mean = 0.0, var = 1.0;
    if (!n.from_running) {
      mean = tiles.add(scratch, [&](int64_t tile) {
        const TileSums sums = tiles.sums(tile);
        return sums.count * sums.mean();
      }) / count;
      const double squares =
          tiles.add(scratch, [&](int64_t tile) { return tiles.sums(tile).squares_about(mean); });
      var = (squares < 0.0 ? 0.0 : squares) / count;
    } else if (tiles.exists) {
      mean = static_cast<double>(n.running.mean[c]);
      var = static_cast<double>(n.running.var[c]);
    }
    if (tiles.exists) {
      column = norm_column<T>(mean, var, n.eps, n.weight == nullptr ? T(1) : n.weight[c],
                              n.bias == nullptr ? T(0) : n.bias[c]);
    }
    __syncthreads();  // the running statistics have been read by all
    if (writes) {
      write_norm(n, c, column);
      if (n.running.batches != nullptr) move_running(n.running, c, column.mean, column.var, count);
    }
  }
  if (n.contributions == nullptr) return;
  const double mean = static_cast<double>(column.mean), scale = static_cast<double>(column.scale);
  const double dot = tiles.add(scratch, [&](int64_t tile) {
    return tiles.at(n.dots, 0, tile) +
           (tiles.at(n.sums, kShiftRow, tile) - mean) * tiles.at(n.dots, 1, tile);
  });
  const double grads = tiles.add(scratch, [&](int64_t tile) { return tiles.at(n.dots, 1, tile); });
  const double bias = n.bias == nullptr || !tiles.exists ? 0.0 : static_cast<double>(n.bias[c]);
  if (writes) n.contributions[c] = scale * dot + bias * grads;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sums_of_rows_kernel(const __grid_constant__ SumsOfRows<T> sums) {
  NASP_SHARED(double, scratch, kThreads);
  const SumOfRows<T>& s = sums.sum[blockIdx.y];
  const int64_t steps = (s.size + kAcross - 1) / kAcross;
  for (int64_t step = blockIdx.x; step < steps; step += gridDim.x) {
    const int64_t i = step * kAcross + across();
    double sum = 0.0;
    if (i < s.size) {
      for (int64_t row = down(); row < s.rows; row += kDown) {
        sum += static_cast<double>(s.from[row * s.stride + i]);
      }
    }
    sum = add_down(sum, scratch);
    if (i < s.size && down() == 0) {
      if (s.out != nullptr) {
        s.out[i] = static_cast<T>(sum);
      } else {
        s.out_wide[i] = sum;
      }
    }
  }
}

// A warp for each total.
template <class T>
__global__ void __launch_bounds__(32)
    totals_kernel(const double* terms, int64_t width,
                  const __grid_constant__ TotalChannels channels, T* out) {
  const double* const row = terms + blockIdx.x * width;
  double sum = 0.0;
  for (int c = static_cast<int>(threadIdx.x); c < channels.channels[blockIdx.x]; c += 32) {
    sum += row[c];
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  if (threadIdx.x == 0) out[blockIdx.x] = static_cast<T>(sum);
}

}  // namespace

template <class T>
void launch_finish_norms(const FinishNorms<T>& norms, int count, stream_t stream) {
  int channels = 1;
  for (int i = 0; i < count; ++i) {
    if (norms.norm[i].channels > channels) channels = norms.norm[i].channels;
  }
  const dim3 grid((channels + kAcross - 1) / kAcross, static_cast<unsigned>(count));
  NASP_LAUNCH(finish_norms_kernel<T>, grid, kThreads, 0, stream, norms);
}

template <class T>
void launch_sums_of_rows(const SumsOfRows<T>& sums, int count, stream_t stream) {
  int64_t size = 1;
  for (int i = 0; i < count; ++i) {
    if (sums.sum[i].size > size) size = sums.sum[i].size;
  }
  const dim3 grid(grid_for(size, kAcross), static_cast<unsigned>(count));
  NASP_LAUNCH(sums_of_rows_kernel<T>, grid, kThreads, 0, stream, sums);
}

template <class T>
void launch_totals(const double* terms, int64_t width, const TotalChannels& channels, int count,
                   T* out, stream_t stream) {
  NASP_LAUNCH(totals_kernel<T>, static_cast<unsigned>(count), 32, 0, stream, terms, width, channels,
              out);
}

#define NASP_INSTANTIATE(T)                                                   \
  template void launch_finish_norms<T>(const FinishNorms<T>&, int, stream_t); \
  template void launch_sums_of_rows<T>(const SumsOfRows<T>&, int, stream_t);  \
  template void launch_totals<T>(const double*, int64_t, const TotalChannels&, int, T*, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)

}  // namespace nasp_ext
