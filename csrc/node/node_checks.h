// SPDX-License-Identifier: MIT
// The checks of the operators of a node, for every device.
#pragma once

#include <vector>

#include "../core/images.h"
#include "../norm/norm.h"
#include "node_images.h"

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

}  // namespace nasp_ext
