// SPDX-License-Identifier: MIT
// The statistics of a BN from the sums of tiles of pixels. Within a tile, values are taken less the
// first one, so that a channel far from 0 keeps its variance; tiles are merged in double (Chan et
// al. 1983).
#pragma once

#include "../core/pixel_math.h"

namespace nasp_ext {

// Of the sums of a tile; each (tiles, channels). The last two exist where z meets a gradient.
enum SumRow : int { kShiftRow = 0, kSumRow, kSquareRow, kDotRow, kGradRow, kSumRows };
constexpr int kMomentRows = kDotRow;

// count pixels, the sums of their values less `shift` and of the squares of those.
struct TileSums {
  double count, shift, sum, square;

  NASP_HOST_DEVICE double mean() const { return shift + sum / count; }
  // Of the squares about the mean of all tiles.
  NASP_HOST_DEVICE double squares_about(double mean_of_all) const {
    const double apart = mean() - mean_of_all;
    return square - sum * sum / count + count * apart * apart;
  }
};

// What one channel of a (5, C) norm tensor holds.
template <class T>
struct NormColumn {
  T mean, var, rstd, scale, shift;
};

template <class T>
NASP_HOST_DEVICE NormColumn<T> norm_column(double mean, double var, double eps, T weight, T bias) {
  NormColumn<T> column;
  column.mean = static_cast<T>(mean);
  column.var = static_cast<T>(var);
  column.rstd = static_cast<T>(1.0 / sqrt(var + eps));
  column.scale = column.rstd * weight;
  column.shift = bias - column.mean * column.scale;
  return column;
}

// (1 - momentum) * running + momentum * now.
template <class T>
NASP_HOST_DEVICE T moved(T running, double now, double momentum) {
  return static_cast<T>((1.0 - momentum) * static_cast<double>(running) + momentum * now);
}

// Of a variance over `count` values.
NASP_HOST_DEVICE double unbiased(double var, double count) { return var * count / (count - 1.0); }

// Behind a BN: gamma * rstd * (g - mean(g) - xhat * mean(g * xhat)) with the statistics of the
// batch, gamma * rstd * g with running ones, g itself without a BN; of one channel.
template <class T>
struct GradientBehindNorm {
  T scale_g, scale_z, mean, offset;
  bool reads_z;

  NASP_HOST_DEVICE T operator()(T grad, T z) const {
    return multiply_add(scale_g, grad, reads_z ? multiply_add(scale_z, z - mean, offset) : T(0));
  }
};

// norm: (5, channels) or null; sums: (2, channels), of the batch, or null; count: of its pixels.
template <class T>
NASP_HOST_DEVICE GradientBehindNorm<T> gradient_behind_norm(const T* norm, const double* sums,
                                                            double per_count, int channels,
                                                            int channel) {
  if (norm == nullptr) return {T(1), T(0), T(0), T(0), false};
  const T scale = norm[3 * channels + channel];
  if (sums == nullptr) return {scale, T(0), T(0), T(0), false};
  const double share = -static_cast<double>(scale) * per_count;
  const double rstd = static_cast<double>(norm[2 * channels + channel]);
  return {scale, static_cast<T>(share * rstd * sums[channels + channel]), norm[channel],
          static_cast<T>(share * sums[channel]), true};
}

}  // namespace nasp_ext
