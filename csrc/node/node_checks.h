// SPDX-License-Identifier: MIT
// The checks of the operators of a node, for every device.
#pragma once

#include <vector>

#include "../block/images.h"
#include "../block/norm.h"
#include "node.h"

namespace nasp_ext {

// Every argument of node_sum_ and node_gradient_sums but `base`.
inline Images check_terms(const Tensor& node, const std::vector<Tensor>& terms,
                          const std::vector<Tensor>& norms, const std::optional<Tensor>& factors,
                          const char* op, const char* name) {
  const Images images = as_first_images(node, op, name);
  const auto count = static_cast<int64_t>(terms.size());
  if (count < 1 || count > kMaxTerms || norms.size() != terms.size())
    fail(op, ": expected 1 to ", kMaxTerms, " terms and as many norms, found ", count, " and ",
         norms.size());
  for (const Tensor& term : terms) {
    check_like(term, node, op, "terms");
    check_images(as_images(term, op, "terms"), images.count, images.channels, images.height,
                 images.width, op, "terms");
  }
  for (const Tensor& norm : norms) check_norm(norm, images.channels, node, op, "norms");
  if (factors) {
    check_like(*factors, node, op, "factors");
    if (factors->dim() != 2 || factors->size(0) != count || factors->size(1) != images.count ||
        !factors->is_contiguous())
      fail(op, ": expected factors of shape (", count, ", ", images.count, "), contiguous, found ",
           shape_text(*factors));
  }
  return images;
}

// Memory that is written: of its own, or exactly that of what is added to it. Terms are added a few
// at a time, so they must not change on the way.
inline void check_written(const Tensor& out, const Images& images, const std::vector<Tensor>& terms,
                          const std::optional<Tensor>& base, const char* op) {
  for (const Tensor& term : terms)
    check_apart(out, images, term, as_images(term, op, "terms"), op, "terms");
  if (base) check_apart_or_same(out, images, *base, as_images(*base, op, "base"), op, "base");
}

inline void check_base(const Tensor& base, const Tensor& node, const Images& images,
                       const char* op) {
  check_like(base, node, op, "base");
  check_images(as_images(base, op, "base"), images.count, images.channels, images.height,
               images.width, op, "base");
}

// Lists of B: (C,), (C,), one int64, (5, C), elements of a channel, momentum.
inline void check_statistics(const std::vector<Tensor>& means, const std::vector<Tensor>& variances,
                             const std::vector<Tensor>& batches, const std::vector<Tensor>& norms,
                             const std::vector<int64_t>& counts, const std::vector<double>& momenta,
                             const char* op) {
  const size_t size = means.size();
  if (variances.size() != size || batches.size() != size || norms.size() != size ||
      counts.size() != size || momenta.size() != size)
    fail(op, ": expected lists of one length, found ", size, ", ", variances.size(), ", ",
         batches.size(), ", ", norms.size(), ", ", counts.size(), ", ", momenta.size());
  for (size_t b = 0; b < size; ++b) {
    const Tensor& first = means[0];
    check_device(means[b], first, op, "means");
    const ScalarType dtype = means[b].scalar_type();
    if (dtype != ScalarType::Float && dtype != ScalarType::Double)
      fail(op, ": expected means in float32 or float64, found ",
           torch::headeronly::toString(dtype));
    const int64_t channels = means[b].numel();
    if (channels < 1) fail(op, ": expected means of at least one channel, found none");
    check_vector(means[b], channels, means[b], op, "means");
    check_vector(variances[b], channels, means[b], op, "variances");
    check_some_norm(norms[b], channels, means[b], op, "norms");
    check_device(batches[b], first, op, "batches");
    if (batches[b].numel() != 1 || batches[b].scalar_type() != ScalarType::Long || counts[b] < 2)
      fail(op, ": expected batches of one int64 and counts >= 2, found ", shape_text(batches[b]),
           " in ", torch::headeronly::toString(batches[b].scalar_type()), " and ", counts[b]);
  }
}

}  // namespace nasp_ext
