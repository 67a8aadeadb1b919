// SPDX-License-Identifier: MIT
// prox_c, prox_c1 and prox_c2 on CUDA. A NaN is marked in the result, not raised: that would be a
// sync.
#include <tuple>

#include "../core/device.h"
#include "../core/rows.h"
#include "prox_kernel.h"

namespace nasp_ext {
namespace {

template <class Prox>
std::tuple<Tensor, Tensor> project(const char* op, const Tensor& a,  // (..., R, K)
                                   const std::optional<Tensor>& mask, std::optional<int64_t> seed) {
  const DeviceScope device(a);
  const Rows rows = as_rows(a, op);
  const RowMask row_mask = as_row_mask(mask, rows, op);
  Tensor values = empty_leading(a, a.dim(), a.scalar_type());
  Tensor index = empty_leading(a, a.dim() - 1, ScalarType::Long);
  dispatch_floating(a.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    if (rows.count == 0) return;
    launch_projection<Prox, T>(
        {static_cast<const T*>(rows.tensor.const_data_ptr()), row_mask.data, row_mask.count,
         rows.count, rows.options, ties_of(seed), static_cast<T*>(values.mutable_data_ptr()),
         static_cast<int64_t*>(index.mutable_data_ptr())},
        device.stream());
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

Tensor prox_c2(const Tensor& a,  // (..., R, K)
               const std::optional<Tensor>& mask) {
  const DeviceScope device(a);
  const Rows rows = as_rows(a, "prox_c2");
  const RowMask row_mask = as_row_mask(mask, rows, "prox_c2");
  Tensor values = empty_leading(a, a.dim(), a.scalar_type());
  dispatch_floating(a.scalar_type(), "prox_c2", [&](auto zero) {
    using T = decltype(zero);
    if (rows.count == 0) return;
    launch_clip<T>({static_cast<const T*>(rows.tensor.const_data_ptr()), row_mask.data,
                    row_mask.count * rows.options, rows.count * rows.options,
                    static_cast<T*>(values.mutable_data_ptr())},
                   device.stream());
  });
  return values;
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("prox_c", TORCH_BOX(&nasp_ext::prox_c));
  m.impl("prox_c1", TORCH_BOX(&nasp_ext::prox_c1));
  m.impl("prox_c2", TORCH_BOX(&nasp_ext::prox_c2));
}
