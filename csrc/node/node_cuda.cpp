// SPDX-License-Identifier: MIT
// Node sums and running statistics on CUDA.
#include "../block/on_device.h"
#include "../cell/operators.h"
#include "../common/device.h"
#include "node_checks.h"
#include "node_kernel.h"

namespace nasp_ext {
namespace {

template <class T>
NodeTerms<T> terms_on_device(const Images& node, const std::vector<Tensor>& terms,
                             const std::vector<Tensor>& norms, const std::optional<Tensor>& factors,
                             const char* op) {
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
void Operators<OnCuda>::node_sum_(const Tensor& out,                     // (N, C, H, W)
                                  const std::vector<Tensor>& terms,      // E of (N, C, H, W)
                                  const std::vector<Tensor>& norms,      // E of (5, C) or empty
                                  const std::optional<Tensor>& factors,  // (E, N)
                                  const std::optional<Tensor>& base) {
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
Tensor Operators<OnCuda>::node_gradient_sums(
    const Tensor& grad,                      // (N, C, H, W)
    const std::vector<Tensor>& terms,        // E of (N, C, H, W)
    const std::vector<Tensor>& norms,        // E of (5, C) or empty
    const std::optional<Tensor>& factors) {  // (E, N)
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

namespace {

// Of the BNs of one dtype, as many in a launch as its parameters hold.
template <class T>
class Updates {
 public:
  explicit Updates(stream_t stream) : stream_(stream) {}
  void add(const UpdateStatistics<T>& update) {
    updates_.update[count_++] = update;
    if (count_ == kUpdatesPerLaunch) launch();
  }
  void launch() {
    if (count_ > 0) launch_update_statistics(updates_, count_, stream_);
    count_ = 0;
  }

 private:
  stream_t stream_;
  UpdatesOfStatistics<T> updates_{};
  int count_ = 0;
};

}  // namespace

// running = (1 - momentum) * running + momentum * statistic of the batch, and one more batch
// counted.
template <>
void Operators<OnCuda>::update_statistics_(
    const std::vector<Tensor>& means,      // B of (C,)
    const std::vector<Tensor>& variances,  // B of (C,)
    const std::vector<Tensor>& batches,    // B of (), int64
    const std::vector<Tensor>& norms,      // B of (5, C)
    const std::vector<int64_t>& counts,    // B, elements of a channel
    const std::vector<double>& momenta) {  // B
  const char* op = "update_statistics_";
  check_statistics(means, variances, batches, norms, counts, momenta, op);
  if (means.empty()) return;
  const DeviceScope device(means[0]);
  Updates<float> singles(device.stream());
  Updates<double> doubles(device.stream());
  for (size_t b = 0; b < means.size(); ++b) {
    dispatch_single_double(means[b].scalar_type(), op, [&](auto zero) {
      using T = decltype(zero);
      const UpdateStatistics<T> update = {
          {mutable_data_of<T>(means[b]), mutable_data_of<T>(variances[b]),
           mutable_data_of<int64_t>(batches[b]), momenta[b]},
          data_of<T>(norms[b]),
          static_cast<double>(counts[b]),
          narrow(means[b].numel(), op)};
      if constexpr (sizeof(T) == sizeof(float))
        singles.add(update);
      else
        doubles.add(update);
    });
  }
  singles.launch();
  doubles.launch();
}
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("node_sum_", TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCuda>::node_sum_));
  m.impl("node_gradient_sums",
         TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCuda>::node_gradient_sums));
  m.impl("update_statistics_",
         TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCuda>::update_statistics_));
}
