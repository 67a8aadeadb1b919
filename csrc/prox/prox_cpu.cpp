// SPDX-License-Identifier: MIT
// prox_c, prox_c1 and prox_c2 on the CPU.
#include <atomic>
#include <tuple>

#include "../core/rows_cpu.h"
#include "nan_rows.h"
#include "prox_math.h"
#include "prox_rows.h"

namespace nasp_ext {
namespace {

bool aligned16(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

template <class Prox>
std::tuple<Tensor, Tensor> project(const char* op, const Tensor& a,  // (..., R, K)
                                   const std::optional<Tensor>& mask, std::optional<int64_t> seed) {
  const Rows rows = as_rows(a, op);
  const RowMask row_mask = as_row_mask(mask, rows, op);
  Tensor values = empty_leading(a, a.dim(), a.scalar_type());
  Tensor index = empty_leading(a, a.dim() - 1, ScalarType::Long);
  dispatch_floating(a.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const Projection<T, int64_t> p = {static_cast<const T*>(rows.tensor.const_data_ptr()),
                                      row_mask.data,
                                      row_mask.count,
                                      rows.options,
                                      ties_of(seed),
                                      static_cast<T*>(values.mutable_data_ptr()),
                                      static_cast<int64_t*>(index.mutable_data_ptr())};
    const bool stream = rows.options == 8 && aligned16(p.values) &&
                        rows.count * rows.options * int64_t(sizeof(T)) > kStreamBytes;
    std::atomic<bool> nan{false};
    for_rows(rows, [&](int64_t begin, int64_t end) {
      if (project_range<Prox>(p, stream, begin, end)) nan = true;
    });
    if (nan) fail_nan(op, p.a, row_mask, rows);
  });
  return {values, index};
}

std::tuple<Tensor, Tensor> prox_c(const Tensor& a, const std::optional<Tensor>& mask,
                                  std::optional<int64_t> seed) {
  return project<ProxC>("prox_c", a, mask, seed);
}

std::tuple<Tensor, Tensor> prox_c1(const Tensor& a, const std::optional<Tensor>& mask,
                                   std::optional<int64_t> seed) {
  return project<ProxC1>("prox_c1", a, mask, seed);
}

template <class T>
NASP_SIMD_CLONES bool clip_all(const T* a, int64_t begin, int64_t end, T* values) {
  using Acc = accumulate_t<T>;
  int nan = 0;
  for (int64_t i = begin; i < end; ++i) {
    const Acc x = static_cast<Acc>(a[i]);
    nan |= is_nan(x) ? 1 : 0;
    values[i] = static_cast<T>(clip01(x));
  }
  return nan != 0;
}

template <class T>
bool clip_existing(const T* a, const RowMask& mask, const Rows& rows, int64_t begin, int64_t end,
                   T* values) {
  using Acc = accumulate_t<T>;
  bool nan = false;
  for (int64_t r = begin; r < end; ++r) {
    const bool* exists = mask.row(r, rows.options);
    for (int64_t k = 0; k < rows.options; ++k) {
      const Acc x = exists[k] ? static_cast<Acc>(a[r * rows.options + k]) : Acc(0);
      nan |= is_nan(x);
      values[r * rows.options + k] = static_cast<T>(clip01(x));
    }
  }
  return nan;
}

Tensor prox_c2(const Tensor& a,  // (..., R, K)
               const std::optional<Tensor>& mask) {
  const Rows rows = as_rows(a, "prox_c2");
  const RowMask row_mask = as_row_mask(mask, rows, "prox_c2");
  Tensor values = empty_leading(a, a.dim(), a.scalar_type());
  dispatch_floating(a.scalar_type(), "prox_c2", [&](auto zero) {
    using T = decltype(zero);
    const T* in = static_cast<const T*>(rows.tensor.const_data_ptr());
    T* out = static_cast<T*>(values.mutable_data_ptr());
    std::atomic<bool> nan{false};
    for_rows(rows, [&](int64_t begin, int64_t end) {
      const bool met = row_mask.data ? clip_existing(in, row_mask, rows, begin, end, out)
                                     : clip_all(in, begin * rows.options, end * rows.options, out);
      if (met) nan = true;
    });
    if (nan) fail_nan("prox_c2", in, row_mask, rows);
  });
  return values;
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("prox_c", TORCH_BOX(&nasp_ext::prox_c));
  m.impl("prox_c1", TORCH_BOX(&nasp_ext::prox_c1));
  m.impl("prox_c2", TORCH_BOX(&nasp_ext::prox_c2));
}
