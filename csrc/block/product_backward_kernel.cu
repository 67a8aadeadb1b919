// SPDX-License-Identifier: MIT
// Blocks backward through the product: to its input and to its weights, two kinds of thread blocks
// in one grid.
#include <algorithm>

#include "backward.cuh"

namespace nasp_ext {
namespace {

constexpr int kSide = 32;  // of a piece of the product's weights: 2 x 2 of each of 16 x 16 threads
constexpr int kHalf = kSide / 2;
static_assert(kHalf * kHalf == kThreads, "a thread for every 2 x 2 weights of a piece");

constexpr int kScratch = kScratchNumbers<kGradientSums>;

// Dynamic shared memory of the two kinds of thread blocks: a tile and the scratch behind it;
// inputs, gradients and taps of a piece.
template <class T>
constexpr size_t bytes_to_input(int part_channels) {
  return tile_bytes<T>(part_channels, 0) + sizeof(T) * kScratch;
}
template <class T>
constexpr size_t bytes_to_weights(int in_channels, int part_channels, int taps) {
  const int in = in_channels < kSide ? in_channels : kSide;
  const int out = part_channels < kSide ? part_channels : kSide;
  return sizeof(T) * static_cast<size_t>(in * (kPixelPitch + taps) + out * kPixelPitch);
}
static_assert(bytes_to_input<float>(kAnyChannels) + kPlacesBytes <= kSharedLimit);
static_assert(bytes_to_input<double>(kAnyChannels) + kPlacesBytes <= kSharedLimit);
static_assert(bytes_to_weights<double>(kSide, kSide, kMostTaps) + kPlacesBytes <= kSharedLimit);

// gz of `depth` output channels from `channel` on; from(place) says of which pixel, -1: of none.
template <class T, class From>
__device__ __forceinline__ void stage_gradient(const BlockBackward<T>& b, const PixelPlace* places,
                                               int channel, int depth, T* staged,
                                               const From& from) {
  stage<T>(depth, staged, [&](int offset) {
    const int c = channel + offset;
    const GradientBehindNorm<T> behind =
        gradient_behind_norm(b.norm, b.sums, b.per_count, b.shape.out_channels, c);
    return [=, &b](int p) {
      const PixelPlace place = places[p];
      const int64_t pixel = from(place);
      if (pixel < 0) return T(0);
      const T grad = b.grad[pixel * b.grad_pitch + c];
      return behind(b.factors == nullptr ? grad : grad * b.factors[place.image],
                    b.z[pixel * b.z_pitch + c]);
    };
  });
}

template <class T>
__device__ __forceinline__ void finish_columns(const BlockBackward<T>& b, int64_t first_pixel,
                                               int64_t pixels, int channel, int columns,
                                               const T (&product)[kRun][kWide], T* scratch) {
  T sum[kGradientSums][kWide] = {};
#pragma unroll
  for (int v = 0; v < kWide; ++v) {
    const int column = column_of_thread() + v;
    if (column >= columns) continue;
    InputGradient<T> input(b, channel + column);
#pragma unroll
    for (int t = 0; t < kRun; ++t) {
      const int64_t pixel = first_pixel + group_of_thread() + t * kGroups;
      if (pixel >= pixels) continue;
      if (b.shape.depthwise) {
        b.between[pixel * b.shape.in_channels + channel + column] = product[t][v];
      } else {
        input.write(pixel, product[t][v]);
      }
    }
    sum[0][v] = input.sum;
    sum[1][v] = input.dot;
  }
  if (b.in_sums == nullptr || b.shape.depthwise) return;
  add_groups<kGradientSums>(sum, scratch, [&](int kind, int c, T total) {
    if (c < columns) in_sum_at(b, kind, channel + c) = total;
  });
}

// One tile: of the output in front of the 1x1 of a depthwise block, else of the input, which
// gathers from every tap.
template <class T>
__device__ __forceinline__ void product_to_input(const BlockBackward<T>& b, T* dynamic,
                                                 PixelPlace* places) {
  const BlockGeometry& g = b.shape;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTilePixels;
  const int64_t pixels = g.depthwise ? g.out_pixels() : g.in_pixels();
  const int part_channels = g.part_channels(), taps = g.product_taps();
  const TileMemory<T> memory(dynamic, part_channels);
  T* const scratch = dynamic + tile_numbers<T>(part_channels, 0);
  find_places(first, pixels, g.depthwise ? g.out_height : g.height,
              g.depthwise ? g.out_width : g.width, places);
  const bool staged_once = g.parts * taps == 1 && part_channels <= kDepth<T>;
  for (int column = 0; column < g.in_channels; column += kColumns) {
    const int columns = g.in_channels - column < kColumns ? g.in_channels - column : kColumns;
    T product[kRun][kWide] = {};
    for (int turn = 0; turn < g.parts * taps; ++turn) {
      const int part = turn / taps, tap = turn % taps;
      const T* const rows = b.weights.products[part];
      for (int o = 0; o < part_channels; o += kDepth<T>) {
        const int depth = part_channels - o < kDepth<T> ? part_channels - o : kDepth<T>;
        __syncthreads();
        if (!staged_once || column == 0) {
          stage_gradient(
              b, places, part * part_channels + o, depth, memory.pixels,
              [&](const PixelPlace& place) {
                if (!g.depthwise)
                  return output_pixel(g, place, part, tap / g.kernel_w, tap % g.kernel_w);
                return place.image < 0
                           ? int64_t{-1}
                           : pixel_at(place.image, place.y, place.x, g.out_height, g.out_width);
              });
        }
        stage_weights<T, false>(depth, columns, memory.weights, [&](int k, int v) {
          return rows[(static_cast<int64_t>(o + k) * g.in_channels + column + v) * taps + tap];
        });
        __syncthreads();
        multiply(memory, depth, product);
      }
    }
    finish_columns(b, first, pixels, column, columns, product, scratch);
  }
}

NASP_HOST_DEVICE int pieces(int channels) { return (channels + kSide - 1) / kSide; }

NASP_HOST_DEVICE int64_t product_pieces(const BlockGeometry& g) {
  return static_cast<int64_t>(g.parts) * g.product_taps() * pieces(g.part_channels()) *
         pieces(g.in_channels);
}

// Thread blocks that go to the input, and to the weights.
template <class T>
NASP_HOST_DEVICE int64_t blocks_to_input(const BlockBackward<T>& b) {
  if (!b.shape.depthwise && b.out == nullptr) return 0;
  return tiles_of(b.shape.depthwise ? b.shape.out_pixels() : b.shape.in_pixels(), kTilePixels);
}
template <class T>
NASP_HOST_DEVICE int64_t blocks_to_weights(const BlockBackward<T>& b) {
  return b.grad_products == nullptr ? 0 : b.product_splits * product_pieces(b.shape);
}

// kSide x kSide weights of one part and tap, from the pixels of one split: gz^T times the input.
template <class T>
__device__ __forceinline__ void product_to_weights(const BlockBackward<T>& b, int64_t number,
                                                   T* dynamic, PixelPlace* places) {
  const BlockGeometry& g = b.shape;
  const int taps = g.product_taps(), part_channels = g.part_channels();
  const int ci = static_cast<int>(number % pieces(g.in_channels)) * kSide;
  number /= pieces(g.in_channels);
  const int co = static_cast<int>(number % pieces(part_channels)) * kSide;
  number /= pieces(part_channels);
  const int tap = static_cast<int>(number % taps);
  number /= taps;
  const int part = static_cast<int>(number % g.parts);
  const int64_t split = number / g.parts, tiles = (g.out_pixels() + kTilePixels - 1) / kTilePixels;
  const int in_depth = g.in_channels - ci < kSide ? g.in_channels - ci : kSide;
  const int out_depth = part_channels - co < kSide ? part_channels - co : kSide;
  T* const inputs = dynamic;
  T* const gradients = inputs + in_depth * kPixelPitch;
  T* const taps_of_piece = gradients + out_depth * kPixelPitch;
  const int x = static_cast<int>(threadIdx.x) % kHalf, y = static_cast<int>(threadIdx.x) / kHalf;
  T sum[2][2] = {};
  for (int64_t tile = tiles * split / b.product_splits;
       tile < tiles * (split + 1) / b.product_splits; ++tile) {
    __syncthreads();
    find_places(tile * kTilePixels, g.out_pixels(), g.out_height, g.out_width, places);
    __syncthreads();
    stage_input(g, b.weights, {b.x, b.in_norm, b.x_pitch}, places, part, tap, ci, in_depth,
                taps_of_piece, inputs);
    stage_gradient(
        b, places, part * part_channels + co, out_depth, gradients, [&](const PixelPlace& place) {
          return place.image < 0
                     ? int64_t{-1}
                     : pixel_at(place.image, place.y, place.x, g.out_height, g.out_width);
        });
    __syncthreads();
    for (int p = 0; p < kTilePixels; ++p) {
#pragma unroll
      for (int u = 0; u < 2; ++u) {
#pragma unroll
        for (int v = 0; v < 2; ++v) {
          if (y + u * kHalf < out_depth && x + v * kHalf < in_depth) {
            sum[u][v] = multiply_add(gradients[(y + u * kHalf) * kPixelPitch + p],
                                     inputs[(x + v * kHalf) * kPixelPitch + p], sum[u][v]);
          }
        }
      }
    }
  }
  T* const out = b.grad_products + (split * g.parts + part) * part_channels * g.in_channels *
                                       static_cast<int64_t>(taps);
#pragma unroll
  for (int u = 0; u < 2; ++u) {
#pragma unroll
    for (int v = 0; v < 2; ++v) {
      const int o = y + u * kHalf, i = x + v * kHalf;
      if (o < out_depth && i < in_depth) {
        out[(static_cast<int64_t>(co + o) * g.in_channels + ci + i) * taps + tap] = sum[u][v];
      }
    }
  }
}

// Two thread blocks on a multiprocessor leave registers for no spills.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    product_backward_kernel(const __grid_constant__ BlockBackwards<T> blocks) {
  NASP_DYNAMIC_SHARED(T, dynamic);
  NASP_SHARED(PixelPlace, places, kTilePixels);
  const BlockBackward<T>& b = blocks.block[blockIdx.y];
  const int64_t number = blockIdx.x, to_input = blocks_to_input(b);
  if (number < to_input) {
    product_to_input(b, dynamic, places);
  } else if (number - to_input < blocks_to_weights(b)) {
    product_to_weights(b, number - to_input, dynamic, places);
  }
}

}  // namespace

template <class T>
int product_splits(const BlockGeometry& shape) {
  return splits_for<T>(shape, product_pieces(shape));
}

template <class T>
void launch_product_backward(const BlockBackwards<T>& blocks, int count, stream_t stream) {
  int64_t most = 0;
  size_t bytes = 0;
  for (int i = 0; i < count; ++i) {
    const BlockBackward<T>& b = blocks.block[i];
    const BlockGeometry& g = b.shape;
    most = std::max(most, blocks_to_input(b) + blocks_to_weights(b));
    bytes = std::max(
        {bytes, bytes_to_input<T>(g.part_channels()),
         bytes_to_weights<T>(g.in_channels, g.part_channels(), g.depthwise ? g.taps() : 0)});
  }
  if (most == 0) return;
  const dim3 grid(static_cast<unsigned>(most), static_cast<unsigned>(count));
  NASP_LAUNCH(product_backward_kernel<T>, grid, kThreads, bytes, stream, blocks);
}

#define NASP_INSTANTIATE(T)                             \
  template int product_splits<T>(const BlockGeometry&); \
  template void launch_product_backward<T>(const BlockBackwards<T>&, int, stream_t);
NASP_INSTANTIATE(float)
NASP_INSTANTIATE(double)

}  // namespace nasp_ext
