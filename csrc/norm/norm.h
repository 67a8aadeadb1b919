// SPDX-License-Identifier: MIT
// The statistics of a BN as a (5, C) tensor: mean, biased variance, 1 / std, scale, shift, where
// y = scale * z + shift; and what follows from them.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "../core/checks.h"
#include "../core/pixels.h"
#include "../program/norm_arguments.h"

namespace nasp_ext {

constexpr int64_t kNormRows = 5;
enum NormRow : int64_t { kMean = 0, kVar = 1, kRstd = 2, kScale = 3, kShift = 4 };

// The statistics of a batch need a batch.
inline void check_batch(bool norm, const NormArguments& arguments, int64_t values, const char* op) {
  if (norm && !arguments.mean && values < 1)
    fail(op, ": expected at least one value per channel for the statistics of the batch, found ",
         "none; give mean and var, or an image");
}

// A (5, C) tensor of a BN, or an empty one where no BN is.
inline const Tensor& check_norm(const Tensor& norm, int64_t channels, const Tensor& like,
                                const char* op, const char* name) {
  check_device(norm, like, op, name);
  const bool fits = norm.dim() == 2 && norm.size(0) == kNormRows && norm.size(1) == channels;
  if (norm.numel() && (!fits || norm.scalar_type() != like.scalar_type() || !norm.is_contiguous()))
    fail(op, ": expected ", name, " of shape (5, ", channels, ") in ",
         torch::headeronly::toString(like.scalar_type()), ", contiguous, or empty, found ",
         shape_text(norm), " in ", torch::headeronly::toString(norm.scalar_type()));
  return norm;
}

// The same of a BN that is there.
inline void check_some_norm(const Tensor& norm, int64_t channels, const Tensor& like,
                            const char* op, const char* name) {
  if (check_norm(norm, channels, like, op, name).numel() == 0)
    fail(op, ": expected ", name, " of shape (5, ", channels, "), found ", shape_text(norm));
}

// The norm of the BN in front of a block, if there is one.
inline void check_in_norm(const std::optional<Tensor>& norm, int64_t channels, const Tensor& like,
                          const char* op) {
  if (norm) check_some_norm(*norm, channels, like, op, "in_norm");
}

// Sums over a batch that the gradient of a BN needs: of grad and of grad * xhat, see
// node_gradient_sums.
inline void check_sums(const Tensor& sums, int64_t channels, bool needed, const Tensor& like,
                       const char* op) {
  check_device(sums, like, op, "sums");
  const bool fits = sums.dim() == 2 && sums.size(0) == 2 && sums.size(1) == channels;
  if (needed && (!fits || sums.scalar_type() != ScalarType::Double || !sums.is_contiguous()))
    fail(op, ": expected sums of shape (2, ", channels, ") in Double, contiguous, found ",
         shape_text(sums), " in ", torch::headeronly::toString(sums.scalar_type()));
}

// The rows of a norm tensor in the padded form that the kernels read; parts of channels lie apart.
template <class T>
class PaddedNorm {
 public:
  PaddedNorm() = default;
  PaddedNorm(const T* norm, int64_t channels, int64_t parts, int64_t lanes) {
    const int64_t of_part = channels / parts, part_pad = round_up(of_part, lanes);
    stride_ = parts * part_pad;
    rows_.assign(static_cast<size_t>(kNormRows * stride_), T(0));
    for (int64_t row = 0; row < kNormRows; ++row)
      for (int64_t part = 0; part < parts; ++part)
        std::copy(norm + row * channels + part * of_part,
                  norm + row * channels + (part + 1) * of_part,
                  rows_.begin() + row * stride_ + part * part_pad);
  }
  const T* row(NormRow row) const { return rows_.empty() ? nullptr : rows_.data() + row * stride_; }
  Affine<T> affine() const { return {row(kScale), row(kShift)}; }

 private:
  int64_t stride_ = 0;
  std::vector<T> rows_;
};

// Writes scale and shift from mean and 1 / std.
template <class T>
void write_affine(const NormArguments& norm, int64_t channels, T* rows) {
  const T* const weight = norm.weight ? data_of<T>(*norm.weight) : nullptr;
  const T* const bias = norm.bias ? data_of<T>(*norm.bias) : nullptr;
  for (int64_t c = 0; c < channels; ++c) {
    const T scale = rows[kRstd * channels + c] * (weight ? weight[c] : T(1));
    rows[kScale * channels + c] = scale;
    rows[kShift * channels + c] = (bias ? bias[c] : T(0)) - rows[kMean * channels + c] * scale;
  }
}

template <class T>
void write_running_norm(const NormArguments& norm, int64_t channels, T* rows) {
  const T* const mean = data_of<T>(*norm.mean);
  const T* const var = data_of<T>(*norm.var);
  for (int64_t c = 0; c < channels; ++c) {
    rows[kMean * channels + c] = mean[c];
    rows[kVar * channels + c] = var[c];
    rows[kRstd * channels + c] =
        static_cast<T>(1 / std::sqrt(static_cast<double>(var[c]) + norm.eps));
  }
  write_affine(norm, channels, rows);
}

// The sums of all images of a batch: (images, packed) of each kind.
template <class T>
class BatchSums {
 public:
  BatchSums() = default;
  BatchSums(int64_t images, int64_t packed, int64_t dots = 0)
      : images_(images),
        packed_(packed),
        dots_(dots),
        shift_(static_cast<size_t>(images * packed)),
        sums_(static_cast<size_t>(images * packed * (2 + dots))) {}

  ImageSums<T> of_image(int64_t n) {
    double* const sums = sums_.data() + n * packed_ * (2 + dots_);
    return {shift_.data() + n * packed_, sums, sums + packed_,
            dots_ ? sums + 2 * packed_ : nullptr};
  }

  // Mean and biased variance of all packed channels, from the images in order (Chan et al. 1983).
  void moments(int64_t pixels, std::vector<double>& mean, std::vector<double>& var) const {
    const auto size = static_cast<size_t>(packed_);
    mean.assign(size, 0.0);
    var.assign(size, 0.0);
    const double of_image = 1.0 / static_cast<double>(pixels);
    for (int64_t n = 0; n < images_; ++n) {
      const T* const shift = shift_.data() + n * packed_;
      const double* const sum = row(n, 0);
      for (size_t k = 0; k < size; ++k)
        mean[k] += static_cast<double>(shift[k]) + sum[k] * of_image;
    }
    for (size_t k = 0; k < size; ++k) mean[k] /= static_cast<double>(images_);
    for (int64_t n = 0; n < images_; ++n) {
      const T* const shift = shift_.data() + n * packed_;
      const double *const sum = row(n, 0), *const square = row(n, 1);
      for (size_t k = 0; k < size; ++k) {
        const double part = sum[k] * of_image,
                     apart = static_cast<double>(shift[k]) + part - mean[k];
        var[k] += square[k] - sum[k] * part + static_cast<double>(pixels) * apart * apart;
      }
    }
    for (size_t k = 0; k < size; ++k)
      var[k] = std::max(var[k], 0.0) / static_cast<double>(images_ * pixels);
  }
  // Of all packed channels of one part: sum of grad * (z - mean). mean: (channels,) or null: 0;
  // grad_sums: the sums of grad over each image, grad_stride apart.
  std::vector<double> dots(int64_t kind, int64_t first, int64_t channels, const T* mean,
                           const double* grad_sums, int64_t grad_stride) const {
    std::vector<double> total(static_cast<size_t>(channels), 0.0);
    for (int64_t n = 0; n < images_; ++n) {
      const T* const shift = shift_.data() + n * packed_ + first;
      const double *const dot = row(n, 2 + kind) + first, *const grad = grad_sums + n * grad_stride;
      for (int64_t c = 0; c < channels; ++c) {
        const double less = mean ? static_cast<double>(mean[c]) : 0.0;
        total[static_cast<size_t>(c)] += dot[c] + (static_cast<double>(shift[c]) - less) * grad[c];
      }
    }
    return total;
  }

 private:
  const double* row(int64_t n, int64_t kind) const {
    return sums_.data() + (n * (2 + dots_) + kind) * packed_;
  }

  int64_t images_ = 0, packed_ = 0, dots_ = 0;
  std::vector<T> shift_;
  std::vector<double> sums_;
};

// Where a channel lies in packed rows.
inline int64_t packed_index(int64_t channel, int64_t part_channels, int64_t lanes) {
  const int64_t part = channel / part_channels;
  return part * round_up(part_channels, lanes) + channel % part_channels;
}

// Writes mean, var and 1 / std of a batch.
template <class T>
void write_batch_norm(const NormArguments& norm, const BatchSums<T>& sums, int64_t pixels,
                      int64_t channels, int64_t parts, int64_t lanes, T* rows) {
  std::vector<double> mean, var;
  sums.moments(pixels, mean, var);
  for (int64_t c = 0; c < channels; ++c) {
    const auto k = static_cast<size_t>(packed_index(c, channels / parts, lanes));
    rows[kMean * channels + c] = static_cast<T>(mean[k]);
    rows[kVar * channels + c] = static_cast<T>(var[k]);
    rows[kRstd * channels + c] = static_cast<T>(1 / std::sqrt(var[k] + norm.eps));
  }
  write_affine(norm, channels, rows);
}

// The running statistics of a BN module.
template <class T>
struct Running {
  T* mean;
  T* var;
  int64_t* batches;
};

// rows: those of a norm tensor; count: elements of a channel in the batch.
template <class T>
void update_running(const Running<T>& running, const T* rows, int64_t channels, int64_t count,
                    double momentum) {
  const double unbiased = static_cast<double>(count) / static_cast<double>(count - 1);
  const auto mix = [momentum](T old, double now) {
    return static_cast<T>((1 - momentum) * static_cast<double>(old) + momentum * now);
  };
  for (int64_t c = 0; c < channels; ++c) {
    running.mean[c] = mix(running.mean[c], static_cast<double>(rows[kMean * channels + c]));
    running.var[c] = mix(running.var[c], static_cast<double>(rows[kVar * channels + c]) * unbiased);
  }
  ++*running.batches;
}

}  // namespace nasp_ext
