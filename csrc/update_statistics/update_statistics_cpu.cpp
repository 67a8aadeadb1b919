// SPDX-License-Identifier: MIT
// Running statistics on the CPU.
#include "../core/images.h"
#include "update_statistics.h"

namespace nasp_ext {

template <>
void update_statistics_<OnCpu>(const Tensors& means,                  // B of (C,)
                               const Tensors& variances,              // B of (C,)
                               const Tensors& batches,                // B of (), int64
                               const Tensors& norms,                  // B of (5, C)
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
  m.impl("update_statistics_", TORCH_BOX(&nasp_ext::update_statistics_<nasp_ext::OnCpu>));
}
