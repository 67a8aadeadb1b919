// SPDX-License-Identifier: MIT
// The checks of the operators of a node, for every device.
#pragma once

#include <vector>

#include "../block/images.h"
#include "../block/norm.h"
#include "node.h"

namespace nasp_ext {

inline Images check_terms(const Tensor& node, const std::vector<Tensor>& terms,
                          const std::vector<Tensor>& norms, const std::optional<Tensor>& factors,
                          const char* op, const char* name) {
  const Images images = as_images(node, op, name);
  const auto count = static_cast<int64_t>(terms.size());
  if (count < 1 || count > kMaxTerms || norms.size() != terms.size())
    fail(op, ": expected 1 to ", kMaxTerms, " terms and as many norms, found ", count, " and ",
         norms.size());
  for (const Tensor& term : terms) {
    check_like(term, node, op, "terms");
    check_images(as_images(term, op, "terms"), images.count, images.channels, images.height,
                 images.width, op, "terms");
  }
  if (factors) {
    check_like(*factors, node, op, "factors");
    if (factors->dim() != 2 || factors->size(0) != count || factors->size(1) != images.count ||
        !factors->is_contiguous())
      fail(op, ": expected factors of shape (", count, ", ", images.count, "), contiguous, found ",
           shape_text(*factors));
  }
  return images;
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
    const int64_t channels = means[b].numel();
    check_vector(means[b], channels, norms[b], op, "means");
    check_vector(variances[b], channels, norms[b], op, "variances");
    check_norm(norms[b], channels, means[b], op, "norms");
    if (batches[b].numel() != 1 || batches[b].scalar_type() != ScalarType::Long || counts[b] < 2)
      fail(op, ": expected batches of one int64 and counts >= 2, found ", shape_text(batches[b]),
           " and ", counts[b]);
  }
}

}  // namespace nasp_ext
