// SPDX-License-Identifier: MIT
// branch_dots on the device.
#include "branch_dots_kernel.h"

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "dot_blocks.cuh"

namespace nasp_ext {
namespace {

struct Nothing {
  template <class T>
  __device__ __forceinline__ void operator()(int, int64_t, T) const {}
};

// One warp per branch.
template <class Acc>
__global__ void __launch_bounds__(kWarp)
    dot_totals_kernel(const Acc* block_sums, int64_t blocks, Acc* dots) {
  double sum = 0.0;
  for (int64_t b = threadIdx.x; b < blocks; b += kWarp) {
    sum += static_cast<double>(block_sums[blockIdx.x * blocks + b]);
  }
  sum = fold_lanes(sum);
  if (threadIdx.x == 0) dots[blockIdx.x] = static_cast<Acc>(sum);
}

}  // namespace

template <class Acc>
void launch_dot_totals(const Acc* block_sums, int64_t blocks, int options, Acc* dots,
                       stream_t stream) {
  NASP_LAUNCH(dot_totals_kernel<Acc>, options, kWarp, 0, stream, block_sums, blocks, dots);
}
template void launch_dot_totals<float>(const float*, int64_t, int, float*, stream_t);
template void launch_dot_totals<double>(const double*, int64_t, int, double*, stream_t);

template <class T>
void launch_branch_dots(const Dots<T>& dots, stream_t stream) {
  launch_dots(dots, Nothing{}, stream);
}
template void launch_branch_dots<float>(const Dots<float>&, stream_t);
template void launch_branch_dots<double>(const Dots<double>&, stream_t);
template void launch_branch_dots(const Dots<torch::headeronly::Half>&, stream_t);
template void launch_branch_dots(const Dots<torch::headeronly::BFloat16>&, stream_t);

}  // namespace nasp_ext
