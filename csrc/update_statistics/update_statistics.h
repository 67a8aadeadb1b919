// SPDX-License-Identifier: MIT
// The operator that moves running statistics. csrc/ops.cpp says what it does.
#pragma once

#include "../core/back_ends.h"
#include "../norm/norm.h"

namespace nasp_ext {

// running = (1 - momentum) * running + momentum * statistic of the batch, and one more batch
// counted.
template <class Device>
void update_statistics_(const Tensors& means,                 // B of (C,)
                        const Tensors& variances,             // B of (C,)
                        const Tensors& batches,               // B of (), int64
                        const Tensors& norms,                 // B of (5, C)
                        const std::vector<int64_t>& counts,   // B, elements of a channel
                        const std::vector<double>& momenta);  // B

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
