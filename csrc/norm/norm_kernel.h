// SPDX-License-Identifier: MIT
// Launchers of what follows the kernels that add up tiles of pixels: norms and sums.
#pragma once

#include "../core/stream.h"
#include "norm_math.h"

namespace nasp_ext {

// Moves with a norm, or with the norms of a list.
template <class T>
struct RunningNorm {
  T* mean;           // (C,), or, in a FinishNorm, null
  T* var;            // (C,)
  int64_t* batches;  // one number; null: nothing moves
  double momentum;
};

template <class T>
struct FinishNorm {
  const T* sums;    // (3, tiles, C): shift, sum, square
  const T* dots;    // (2, tiles, C): with a gradient, and the gradient's own; or null
  const T* weight;  // (C,) or null, as bias
  const T* bias;
  RunningNorm<T> running;
  T* norm;                // (5, C); null: no BN
  double* contributions;  // (C,): of the channels to <gradient, y>; null: none
  double eps;
  int64_t pixels;
  int tile_pixels, channels;
  bool from_running;  // mean and var are those of `running`, not of the batch
};
constexpr int kFinishesPerLaunch = 36;  // fit 4 KiB of parameters

template <class T>
struct FinishNorms {
  FinishNorm<T> norm[kFinishesPerLaunch];
};
static_assert(sizeof(FinishNorms<double>) <= 4096, "kernel parameters over 4 KiB");

// 1 to kFinishesPerLaunch of them.
template <class T>
void launch_finish_norms(const FinishNorms<T>& norms, int count, stream_t stream);

// out[i] = sum over rows of from[row * stride + i], in double.
template <class T>
struct SumOfRows {
  const T* from;  // (rows, size)
  int64_t rows, size, stride;
  T* out;            // (size,), or null and then
  double* out_wide;  // (size,)
};
constexpr int kSumsPerLaunch = 84;  // fit 4 KiB of parameters

template <class T>
struct SumsOfRows {
  SumOfRows<T> sum[kSumsPerLaunch];
};
static_assert(sizeof(SumsOfRows<double>) <= 4096, "kernel parameters over 4 KiB");

template <class T>
void launch_sums_of_rows(const SumsOfRows<T>& sums, int count, stream_t stream);

// out[i] = the sum of channels[i] numbers from terms[i * width] on.
constexpr int kTotalsPerLaunch = 512;
struct TotalChannels {
  int channels[kTotalsPerLaunch];
};
template <class T>
void launch_totals(const double* terms, int64_t width, const TotalChannels& channels, int count,
                   T* out, stream_t stream);

}  // namespace nasp_ext
