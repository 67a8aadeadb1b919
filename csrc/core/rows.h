// SPDX-License-Identifier: MIT
// A (..., R, K) tensor as rows of K options, its mask, and the errors that concern them.
#pragma once

#include <limits>
#include <optional>

#include "checks.h"
#include "ties.h"

namespace nasp_ext {

struct RowShape {
  int64_t count;
  int64_t options;

  int64_t elements() const { return count * options; }
};

struct Rows : RowShape {
  Tensor tensor;  // contiguous
};

inline void check_matrix(const Tensor& a, const char* op) {
  if (a.dim() != 2) fail(op, ": expected a of shape (R, K), found ", shape_text(a));
  if (a.size(1) > std::numeric_limits<int32_t>::max())
    fail(op, ": expected no more options than int32 can number, found a of shape ", shape_text(a));
}

inline Rows as_rows(const Tensor& a,  // (..., R, K)
                    const char* op) {
  const int64_t dim = a.dim();
  if (dim == 0) fail(op, ": expected a of shape (..., R, K), found a single number");
  const int64_t options = a.size(dim - 1);
  if (options == 0)
    fail(op, ": expected at least one option per row, found a of shape ", shape_text(a));
  return {{a.numel() / options, options}, as_contiguous(a)};
}

// The mask of row r is row r % count of a contiguous (count, K) table.
struct RowMask {
  std::optional<Tensor> owner;
  const bool* data = nullptr;
  int64_t count = 1;

  const bool* row(int64_t r, int64_t options) const {
    return data ? data + (r % count) * options : nullptr;
  }
};

inline RowMask as_row_mask(const std::optional<Tensor>& mask,  // (..., R, K), as a or its last dims
                           const Rows& rows, const char* op) {
  if (!mask) return {};
  if (mask->scalar_type() != ScalarType::Bool)
    fail(op, ": expected mask to be bool (True = the option exists), found ",
         torch::headeronly::toString(mask->scalar_type()));
  check_device(*mask, rows.tensor, op, "mask");
  if (rows.count == 0) return {};
  const int64_t count = mask->dim() ? mask->numel() / rows.options : 0;
  const bool fits = count > 0 && mask->size(mask->dim() - 1) == rows.options;
  if (!fits || rows.count % count)
    fail(op, ": expected mask to repeat over the rows of a ", shape_text(rows.tensor), ", found ",
         shape_text(*mask));
  RowMask result;
  result.owner = as_contiguous(*mask);
  result.data = static_cast<const bool*>(result.owner->const_data_ptr());
  result.count = count;
  return result;
}

inline Ties ties_of(std::optional<int64_t> seed) {
  return seed ? Ties{true, static_cast<uint64_t>(*seed)} : Ties{};
}

// New contiguous tensor with the first `dim` sizes of `like`.
inline Tensor empty_leading(const Tensor& like, int64_t dim, ScalarType dtype) {
  int64_t strides[kMaxDims];
  if (dim > kMaxDims)
    fail("expected a tensor of at most ", kMaxDims, " dimensions, found ", like.dim());
  const auto sizes = like.sizes();
  int64_t step = 1;
  for (int64_t i = dim - 1; i >= 0; --i) {
    strides[i] = step;
    step *= sizes[i] > 1 ? sizes[i] : 1;
  }
  return empty_strided_on(like, dim, sizes.data(), strides, dtype);
}

}  // namespace nasp_ext
