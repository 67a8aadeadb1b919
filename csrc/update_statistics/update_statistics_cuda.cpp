// SPDX-License-Identifier: MIT
// Running statistics on CUDA.
#include "../core/device.h"
#include "../core/images.h"
#include "../core/on_device.h"
#include "update_statistics.h"
#include "update_statistics_kernel.h"

namespace nasp_ext {
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

template <>
void update_statistics_<OnCuda>(const Tensors& means,                  // B of (C,)
                                const Tensors& variances,              // B of (C,)
                                const Tensors& batches,                // B of (), int64
                                const Tensors& norms,                  // B of (5, C)
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
  m.impl("update_statistics_", TORCH_BOX(&nasp_ext::update_statistics_<nasp_ext::OnCuda>));
}
