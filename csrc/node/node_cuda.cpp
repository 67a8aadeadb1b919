// SPDX-License-Identifier: MIT
// Node sums on CUDA.
#include "../core/device.h"
#include "../core/on_device.h"
#include "../norm/norm_kernel.h"
#include "node.h"
#include "node_checks.h"
#include "node_kernel.h"

namespace nasp_ext {
namespace {

template <class T>
NodeTerms<T> terms_on_device(const Images& node, const Tensors& terms, const Tensors& norms,
                             const MaybeTensor& factors, const char* op) {
  NodeTerms<T> n{};
  for (size_t e = 0; e < terms.size(); ++e) {
    const Tensor& norm = norms[e];
    n.term[e] = {data_of<T>(terms[e]), norm.numel() ? data_of<T>(norm) : nullptr,
                 as_images(terms[e], op, "terms").pitch};
  }
  n.count = static_cast<int>(terms.size());
  n.channels = narrow(node.channels, op);
  n.pixels = node.count * node.pixels();
  n.pixels_of_image = node.pixels();
  n.factors = data_or_null<T>(factors);
  n.images = node.count;
  return n;
}

}  // namespace

template <>
void node_sum_<OnCuda>(const Tensor& out,           // (N, C, H, W)
                       const Tensors& terms,        // E of (N, C, H, W)
                       const Tensors& norms,        // E of (5, C) or empty
                       const MaybeTensor& factors,  // (E, N)
                       const MaybeTensor& base) {
  const char* op = "node_sum_";
  const Images images = check_terms(out, terms, norms, factors, op, "out");
  if (base) check_base(*base, out, images, op);
  check_written(out, images, terms, base, op);
  const DeviceScope device(out);
  if (out.numel() == 0) return;
  dispatch_single_double(out.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    launch_node_sum(terms_on_device<T>(images, terms, norms, factors, op), mutable_data_of<T>(out),
                    images.pitch, data_or_null<T>(base),
                    base ? as_images(*base, op, "base").pitch : 0, device.stream());
  });
}

template <>
Tensor node_gradient_sums<OnCuda>(const Tensor& grad,            // (N, C, H, W)
                                  const Tensors& terms,          // E of (N, C, H, W)
                                  const Tensors& norms,          // E of (5, C) or empty
                                  const MaybeTensor& factors) {  // (E, N)
  const char* op = "node_gradient_sums";
  const Images images = check_terms(grad, terms, norms, factors, op, "grad");
  const DeviceScope device(grad);
  const auto count = static_cast<int64_t>(terms.size());
  const int64_t size = count * 2 * images.channels;
  const int64_t sizes[] = {count, 2, images.channels};
  const int64_t strides[] = {2 * images.channels, images.channels, 1};
  Tensor sums = empty_strided_on(grad, 3, sizes, strides, ScalarType::Double);
  dispatch_single_double(grad.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const auto n = terms_on_device<T>(images, terms, norms, factors, op);
    const int64_t tiles = grad.numel() ? tiles_of(n.pixels, kNodeTile) : 0;
    const Tensor of_tiles = empty_vector(grad, tiles * size, grad.scalar_type());
    T* const rows = mutable_data_of<T>(of_tiles);
    if (tiles > 0)
      launch_node_gradient_sums(n, data_of<T>(grad), images.pitch, rows, device.stream());
    SumsOfRows<T> total{};
    total.sum[0] = {rows, tiles, size, size, nullptr, mutable_data_of<double>(sums)};
    launch_sums_of_rows(total, 1, device.stream());
  });
  return sums;
}

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("node_sum_", TORCH_BOX(&nasp_ext::node_sum_<nasp_ext::OnCuda>));
  m.impl("node_gradient_sums", TORCH_BOX(&nasp_ext::node_gradient_sums<nasp_ext::OnCuda>));
}
