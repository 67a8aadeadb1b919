// SPDX-License-Identifier: MIT
// Blocks forward: one launch for any number of blocks, a row of the grid for each. Activation,
// depthwise taps, product, and the sums of the norm of a tile of pixels in one thread block.
#include "tile.cuh"

namespace nasp_ext {
namespace {

constexpr int kKinds = kSumRows - 1;  // the shift is not added up

// Where the sums of a tile go: row `row` of channel `channel`.
template <class T>
__device__ __forceinline__ T& sum_at(const BlockForward<T>& b, int row, int channel) {
  const int64_t tiles = (b.shape.out_pixels() + kTilePixels - 1) / kTilePixels;
  return b.sums[(row * tiles + blockIdx.x) * b.shape.out_channels + channel];
}

// Writes the products of a thread and the sums of its tile.
template <class T>
__device__ __forceinline__ void finish_columns(const BlockForward<T>& b, int64_t first_pixel,
                                               int channel, int columns,
                                               const T (&product)[kRun][kWide], T* shift,
                                               T* scratch) {
  const int column = column_of_thread(), channels = b.shape.out_channels;
  const int64_t pixels = b.shape.out_pixels();
  const bool whole = column + kWide <= columns && (channel * sizeof(T)) % 16 == 0 &&
                     (channels * sizeof(T)) % 16 == 0;
  if (b.z != nullptr) {
#pragma unroll
    for (int t = 0; t < kRun; ++t) {
      const int64_t pixel = first_pixel + group_of_thread() + t * kGroups;
      T* const to = b.z + pixel * channels + channel + column;
      if (pixel < pixels && whole) {
        store_row(to, product[t]);
      } else if (pixel < pixels) {
#pragma unroll
        for (int v = 0; v < kWide; ++v) {
          if (column + v < columns) to[v] = product[t][v];
        }
      }
    }
  }
  if (b.sums == nullptr) return;
  if (group_of_thread() == 0) {
#pragma unroll
    for (int v = 0; v < kWide; ++v) shift[column + v] = product[0][v];
  }
  __syncthreads();
  T sum[kKinds][kWide] = {};
#pragma unroll
  for (int t = 0; t < kRun; ++t) {
    const int64_t pixel = first_pixel + group_of_thread() + t * kGroups;
    if (pixel >= pixels) continue;
#pragma unroll
    for (int v = 0; v < kWide; ++v) {
      const T d = product[t][v] - shift[column + v];
      sum[0][v] += d;
      sum[1][v] = multiply_add(d, d, sum[1][v]);
      if (b.grad != nullptr && column + v < columns) {
        const T g = b.grad[pixel * b.grad_pitch + channel + column + v];
        sum[2][v] = multiply_add(g, d, sum[2][v]);
        sum[3][v] += g;
      }
    }
  }
  add_groups<kKinds>(sum, scratch, [&](int kind, int c, T total) {
    if (c >= columns) return;
    if (kind == 0) sum_at(b, kShiftRow, channel + c) = shift[c];
    if (kind < kMomentRows - 1 || b.grad != nullptr) sum_at(b, kind + 1, channel + c) = total;
  });
}

template <class T>
constexpr size_t kMostShared = tile_bytes<T>(kAnyChannels, kMostTaps) + kPlacesBytes +
                               sizeof(T) * (kColumns + kScratchNumbers<kKinds>);
static_assert(kMostShared<float> <= kSharedLimit && kMostShared<double> <= kSharedLimit);

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtLeast<T>)
    block_forward_kernel(const __grid_constant__ BlockForwards<T> blocks) {
  NASP_DYNAMIC_SHARED(T, dynamic);
  NASP_SHARED(PixelPlace, places, kTilePixels);
  NASP_SHARED(T, shift, kColumns);
  NASP_SHARED(T, scratch, kScratchNumbers<kKinds>);
  const BlockForward<T>& b = blocks.block[blockIdx.y];
  const BlockGeometry& g = b.shape;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTilePixels;
  if (first >= g.out_pixels()) return;
  const TileMemory<T> memory(dynamic, g.in_channels);
  find_places(first, g.out_pixels(), g.out_height, g.out_width, places);
  const int taps = g.product_taps(), part_channels = g.part_channels();
  const bool staged_once = taps == 1 && g.in_channels <= kDepth<T>;
  for (int part = 0; part < g.parts; ++part) {
    for (int column = 0; column < part_channels; column += kColumns) {
      const int columns = part_channels - column < kColumns ? part_channels - column : kColumns;
      T product[kRun][kWide] = {};
      for (int tap = 0; tap < taps; ++tap) {
        for (int c = 0; c < g.in_channels; c += kDepth<T>) {
          const int depth = g.in_channels - c < kDepth<T> ? g.in_channels - c : kDepth<T>;
          __syncthreads();
          if (!staged_once || column == 0) {
            stage_input(g, b.weights, {b.x, b.in_norm, b.x_pitch}, places, part, tap, c, depth,
                        memory.taps, memory.pixels);
          }
          const T* const rows = b.weights.products[part];
          stage_weights<T, true>(depth, columns, memory.weights, [&](int k, int v) {
            return rows[(static_cast<int64_t>(column + v) * g.in_channels + c + k) * taps + tap];
          });
          __syncthreads();
          multiply(memory, depth, product);
        }
      }
      finish_columns(b, first, part * part_channels + column, columns, product, shift, scratch);
    }
  }
}

}  // namespace

template <class T>
void launch_block_forward(const BlockForwards<T>& blocks, int count, stream_t stream) {
  int64_t tiles = 1;
  size_t bytes = 0;
  for (int i = 0; i < count; ++i) {
    const BlockGeometry& g = blocks.block[i].shape;
    const int64_t of_block = tiles_of(g.out_pixels(), kTilePixels);
    const size_t of_tile = tile_bytes<T>(g.in_channels, g.depthwise ? g.taps() : 0);
    if (of_block > tiles) tiles = of_block;
    if (of_tile > bytes) bytes = of_tile;
  }
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(count));
  NASP_LAUNCH(block_forward_kernel<T>, grid, kThreads, bytes, stream, blocks);
}

template void launch_block_forward<float>(const BlockForwards<float>&, int, stream_t);
template void launch_block_forward<double>(const BlockForwards<double>&, int, stream_t);

}  // namespace nasp_ext
