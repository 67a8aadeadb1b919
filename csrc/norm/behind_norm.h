// SPDX-License-Identifier: MIT
// What blocks and pools share backwards: the tensors around a BN, and the map behind it.
#pragma once

#include "../core/images.h"
#include "../core/pixels.h"
#include "norm.h"

namespace nasp_ext {

struct GradientArguments {
  const Tensor& grad;                    // of the BN's output
  const std::optional<Tensor>& factors;  // (N,), grad counts times these
  const Tensor& sums;                    // (2, O) float64, see node_gradient_sums
  const Tensor& z;                       // of the shape of grad
  const Tensor& norm;                    // (5, O) or empty
  bool batch_stats;
  const std::optional<Tensor>& out;   // of the shape of x, gets its gradient
  const std::optional<Tensor>& base;  // added to it; may be `out`
};

struct GradientTensors {
  Images grad, z, out, base;
};

inline Images check_gradient_images(const Tensor& t, const Tensor& x, int64_t count,
                                    int64_t channels, int64_t height, int64_t width, const char* op,
                                    const char* name) {
  check_like(t, x, op, name);
  const Images images = as_images(t, op, name);
  check_images(images, count, channels, height, width, op, name);
  return images;
}

inline GradientTensors check_gradient_tensors(const GradientArguments& a, const Images& in,
                                              const Tensor& x, int64_t channels, int64_t height,
                                              int64_t width, const char* op) {
  GradientTensors t{};
  t.grad = check_gradient_images(a.grad, x, in.count, channels, height, width, op, "grad");
  t.z = check_gradient_images(a.z, x, in.count, channels, height, width, op, "z");
  check_norm(a.norm, channels, x, op, "norm");
  check_sums(a.sums, channels, a.norm.numel() > 0 && a.batch_stats, x, op);
  if (a.factors) check_vector(*a.factors, in.count, x, op, "factors");
  const auto like_x = [&](const std::optional<Tensor>& tensor, const char* name) {
    return tensor ? check_gradient_images(*tensor, x, in.count, in.channels, in.height, in.width,
                                          op, name)
                  : Images{};
  };
  t.out = like_x(a.out, "out");
  t.base = like_x(a.base, "base");
  if (!a.out) return t;
  check_apart(*a.out, t.out, x, in, op, "x");
  check_apart(*a.out, t.out, a.grad, t.grad, op, "grad");
  check_apart(*a.out, t.out, a.z, t.z, op, "z");
  if (a.base) check_apart_or_same(*a.out, t.out, *a.base, t.base, op, "base");
  return t;
}

// The rows of BehindNorm: gz = gamma * rstd * (g - mean(g) - xhat * mean(g * xhat)) with the
// statistics of the batch, gamma * rstd * g with running ones, g itself without a BN.
template <class T>
std::vector<T> behind_norm_rows(const T* norm, const double* sums, bool batch_stats, int64_t count,
                                int64_t channels, int64_t parts, int64_t lanes) {
  const int64_t packed = parts * round_up(channels / parts, lanes);
  std::vector<T> rows(static_cast<size_t>(4 * packed), T(0));
  for (int64_t c = 0; c < channels; ++c) {
    const auto k = static_cast<size_t>(packed_index(c, channels / parts, lanes));
    const auto at = [&](int64_t row) -> T& { return rows[static_cast<size_t>(row * packed) + k]; };
    at(0) = norm ? norm[kScale * channels + c] : T(1);
    if (!norm || !batch_stats) continue;
    const double scale = norm[kScale * channels + c], rstd = norm[kRstd * channels + c];
    at(1) = static_cast<T>(-scale * rstd * sums[channels + c] / static_cast<double>(count));
    at(2) = norm[kMean * channels + c];
    at(3) = static_cast<T>(-scale * sums[c] / static_cast<double>(count));
  }
  return rows;
}

// The same with the gradient's factor of one image; scaled: (packed,).
template <class T>
BehindNorm<T> norm_of_image(const std::vector<T>& rows, int64_t packed, const T* factor,
                            T* scaled) {
  BehindNorm<T> norm{rows.data(), rows.data() + packed, rows.data() + 2 * packed,
                     rows.data() + 3 * packed};
  if (factor) {
    for (int64_t k = 0; k < packed; ++k) scaled[k] = *factor * rows[static_cast<size_t>(k)];
    norm.scale_g = scaled;
  }
  return norm;
}

}  // namespace nasp_ext
