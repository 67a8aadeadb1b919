// SPDX-License-Identifier: MIT
// Node sums on the CPU.
#include "../core/scratch.h"
#include "node.h"
#include "node_checks.h"
#include "node_loops.h"

namespace nasp_ext {
namespace {

// The terms of a node as the kernels see them.
template <class T>
struct Terms {
  std::vector<PaddedNorm<T>> norms;
  std::vector<Term<T>> of_batch;
  std::vector<int64_t> pitches;

  Terms(const Tensors& terms, const Tensors& rows, int64_t channels, int64_t lanes,
        const char* op) {
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
void node_sum_<OnCpu>(const Tensor& out,           // (N, C, H, W)
                      const Tensors& terms,        // E of (N, C, H, W)
                      const Tensors& norms,        // E of (5, C) or empty
                      const MaybeTensor& factors,  // (E, N)
                      const MaybeTensor& base) {
  const char* op = "node_sum_";
  const Images images = check_terms(out, terms, norms, factors, op, "out");
  if (base) check_base(*base, out, images, op);
  check_written(out, images, terms, base, op);
  if (out.numel() == 0) return;
  dispatch_single_double(out.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const NodeLoops<T>& loops = node_loops<T>();
    const Terms<T> all(terms, norms, images.channels, loops.lanes, op);
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
        loops.sum_image(node);
      }
    });
  });
}

template <>
Tensor node_gradient_sums<OnCpu>(const Tensor& grad,            // (N, C, H, W)
                                 const Tensors& terms,          // E of (N, C, H, W)
                                 const Tensors& norms,          // E of (5, C) or empty
                                 const MaybeTensor& factors) {  // (E, N)
  const char* op = "node_gradient_sums";
  const Images images = check_terms(grad, terms, norms, factors, op, "grad");
  const auto count = static_cast<int64_t>(terms.size());
  const int64_t sizes[] = {count, 2, images.channels};
  const int64_t strides[] = {2 * images.channels, images.channels, 1};
  Tensor sums = empty_strided_on(grad, 3, sizes, strides, ScalarType::Double);
  dispatch_single_double(grad.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const NodeLoops<T>& loops = node_loops<T>();
    const Terms<T> all(terms, norms, images.channels, loops.lanes, op);
    const T* const factor = factors ? data_of<T>(*factors) : nullptr;
    const int64_t pad = round_up(images.channels, loops.lanes);
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
        loops.gradient_sums_image(node);
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

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("node_sum_", TORCH_BOX(&nasp_ext::node_sum_<nasp_ext::OnCpu>));
  m.impl("node_gradient_sums", TORCH_BOX(&nasp_ext::node_gradient_sums<nasp_ext::OnCpu>));
}
