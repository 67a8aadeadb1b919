// SPDX-License-Identifier: MIT
// Node sums and running statistics on the CPU.
#include <vector>

#include "../cell/operators.h"
#include "../simd/kernels.h"
#include "../simd/threads.h"
#include "node_checks.h"

namespace nasp_ext {
namespace {

// The terms of a node as the kernels see them.
template <class T>
struct Terms {
  std::vector<PaddedNorm<T>> norms;
  std::vector<Term<T>> of_batch;
  std::vector<int64_t> pitches;

  Terms(const std::vector<Tensor>& terms, const std::vector<Tensor>& rows, int64_t channels,
        int64_t lanes, const char* op) {
    for (size_t e = 0; e < terms.size(); ++e) {
      const Tensor& norm = rows[e];
      norms.push_back(norm.numel() ? PaddedNorm<T>(data_of<T>(norm), channels, 1, lanes)
                                   : PaddedNorm<T>());
      const Images images = as_images(terms[e], op, "terms");
      Term<T> term{};
      term.z = {data_of<T>(terms[e]), images.pitch};
      of_batch.push_back(term);
    }
    for (size_t e = 0; e < terms.size(); ++e) {
      of_batch[e].norm = norms[e].affine();
      of_batch[e].mean = norms[e].row(kMean);
    }
  }

  // The terms of one image; factors: (terms, images) or null.
  std::vector<Term<T>> of_image(int64_t n, int64_t images, int64_t pixels, const T* factors) const {
    std::vector<Term<T>> terms = of_batch;
    for (size_t e = 0; e < terms.size(); ++e) {
      terms[e].z = terms[e].z.image(n, pixels);
      terms[e].factor = factors ? factors[static_cast<int64_t>(e) * images + n] : T(1);
    }
    return terms;
  }
};

}  // namespace

template <>
void Operators<OnCpu>::node_sum_(const Tensor& out,                     // (N, C, H, W)
                                 const std::vector<Tensor>& terms,      // E of (N, C, H, W)
                                 const std::vector<Tensor>& norms,      // E of (5, C) or empty
                                 const std::optional<Tensor>& factors,  // (E, N)
                                 const std::optional<Tensor>& base) {
  const char* op = "node_sum_";
  const Images images = check_terms(out, terms, norms, factors, op, "out");
  if (base) check_base(*base, out, images, op);
  check_written(out, images, terms, base, op);
  if (out.numel() == 0) return;
  dispatch_single_double(out.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>();
    const Terms<T> all(terms, norms, images.channels, kernel.lanes, op);
    const T* const factor = factors ? data_of<T>(*factors) : nullptr;
    const Pixels<T> to{mutable_data_of<T>(out), images.pitch};
    for_image_chunks(images.count, [&](int64_t, int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) {
        const auto of_image = all.of_image(n, images.count, images.pixels(), factor);
        NodeImage<T> node{};
        node.channels = images.channels;
        node.pixels = images.pixels();
        node.terms = of_image.data();
        node.count = static_cast<int64_t>(of_image.size());
        node.out = to.image(n, images.pixels());
        if (base)
          node.base = Pixels<const T>{data_of<T>(*base), as_images(*base, op, "base").pitch}.image(
              n, images.pixels());
        kernel.node_sum_image(node);
      }
    });
  });
}

template <>
Tensor Operators<OnCpu>::node_gradient_sums(
    const Tensor& grad,                      // (N, C, H, W)
    const std::vector<Tensor>& terms,        // E of (N, C, H, W)
    const std::vector<Tensor>& norms,        // E of (5, C) or empty
    const std::optional<Tensor>& factors) {  // (E, N)
  const char* op = "node_gradient_sums";
  const Images images = check_terms(grad, terms, norms, factors, op, "grad");
  const auto count = static_cast<int64_t>(terms.size());
  const int64_t sizes[] = {count, 2, images.channels};
  const int64_t strides[] = {2 * images.channels, images.channels, 1};
  Tensor sums = empty_strided_on(grad, 3, sizes, strides, ScalarType::Double);
  dispatch_single_double(grad.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>();
    const Terms<T> all(terms, norms, images.channels, kernel.lanes, op);
    const T* const factor = factors ? data_of<T>(*factors) : nullptr;
    const int64_t pad = round_up(images.channels, kernel.lanes);
    std::vector<double> of_images(static_cast<size_t>(images.count * count * 2 * pad));
    for_image_chunks(images.count, [&](int64_t, int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) {
        auto of_image = all.of_image(n, images.count, images.pixels(), nullptr);
        for (int64_t e = 0; e < count; ++e) {
          Term<T>& term = of_image[static_cast<size_t>(e)];
          term.sum = of_images.data() + (n * count + e) * 2 * pad;
          term.dot = term.sum + pad;
        }
        NodeImage<T> node{};
        node.channels = images.channels;
        node.pixels = images.pixels();
        node.terms = of_image.data();
        node.count = count;
        node.grad = Pixels<const T>{data_of<T>(grad), images.pitch}.image(n, images.pixels());
        kernel.node_gradient_sums_image(node);
      }
    });
    double* const out = mutable_data_of<double>(sums);
    for (int64_t e = 0; e < count; ++e) {
      const T* const rstd = all.norms[static_cast<size_t>(e)].row(kRstd);
      for (int64_t kind = 0; kind < 2; ++kind)
        for (int64_t c = 0; c < images.channels; ++c) {
          double sum = 0;
          for (int64_t n = 0; n < images.count; ++n)
            sum += (factor ? static_cast<double>(factor[e * images.count + n]) : 1.0) *
                   of_images[static_cast<size_t>(((n * count + e) * 2 + kind) * pad + c)];
          if (kind == 1 && rstd) sum *= static_cast<double>(rstd[c]);
          out[(e * 2 + kind) * images.channels + c] = sum;
        }
    }
  });
  return sums;
}

// running = (1 - momentum) * running + momentum * statistic of the batch, and one more batch
// counted.
template <>
void Operators<OnCpu>::update_statistics_(
    const std::vector<Tensor>& means,      // B of (C,)
    const std::vector<Tensor>& variances,  // B of (C,)
    const std::vector<Tensor>& batches,    // B of (), int64
    const std::vector<Tensor>& norms,      // B of (5, C)
    const std::vector<int64_t>& counts,    // B, elements of a channel
    const std::vector<double>& momenta) {  // B
  const char* op = "update_statistics_";
  check_statistics(means, variances, batches, norms, counts, momenta, op);
  for (size_t b = 0; b < means.size(); ++b)
    dispatch_single_double(means[b].scalar_type(), op, [&](auto zero) {
      using T = decltype(zero);
      update_running<T>({mutable_data_of<T>(means[b]), mutable_data_of<T>(variances[b]),
                         mutable_data_of<int64_t>(batches[b])},
                        data_of<T>(norms[b]), means[b].numel(), counts[b], momenta[b]);
    });
}
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("node_sum_", TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCpu>::node_sum_));
  m.impl("node_gradient_sums",
         TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCpu>::node_gradient_sums));
  m.impl("update_statistics_",
         TORCH_BOX(&nasp_ext::Operators<nasp_ext::OnCpu>::update_statistics_));
}
