// SPDX-License-Identifier: MIT
// branch_dots, mixed_sum and its backward on the CPU: a block of the shared tensor stays in L1
// while the branches pass by one after the other, so memory is read once and one stream at a time.
#include <tuple>
#include <vector>

#include "../common/simd.h"
#include "branches.h"
#include "mixture_math.h"

namespace nasp_ext {
namespace {

constexpr int64_t kBlocksPerThread = 8;  // a thread takes at least this many blocks

// The sum of a block by the tree of mixture_math.h.
template <class T>
NASP_SIMD_CLONES accumulate_t<T> block_dot(const T* g, const T* y, int64_t n) {
  using Acc = accumulate_t<T>;
  Acc lane[kDotLanes] = {};
  const int64_t whole = n - n % kDotLanes;
  for (int64_t i = 0; i < whole; i += kDotLanes)
    for (int64_t l = 0; l < kDotLanes; ++l) lane[l] = dot_next(lane[l], g[i + l], y[i + l]);
  for (int64_t i = whole; i < n; ++i) lane[i - whole] = dot_next(lane[i - whole], g[i], y[i]);
  return lane_tree(lane);
}

template <class T>
NASP_SIMD_CLONES void scale_block(const T* __restrict__ g, accumulate_t<T> weight, int64_t n,
                                  T* __restrict__ out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(mix_first(weight, g[i]));
}

// sum: the running mixture of a block, in the arithmetic type.
template <class T>
NASP_SIMD_CLONES void mix_block_first(const T* __restrict__ y, accumulate_t<T> weight, int64_t n,
                                      accumulate_t<T>* __restrict__ sum) {
  for (int64_t i = 0; i < n; ++i) sum[i] = mix_first(weight, y[i]);
}

template <class T>
NASP_SIMD_CLONES void mix_block_next(const T* __restrict__ y, accumulate_t<T> weight, int64_t n,
                                     accumulate_t<T>* __restrict__ sum) {
  for (int64_t i = 0; i < n; ++i) sum[i] = mix_next(sum[i], weight, y[i]);
}

template <class T>
NASP_SIMD_CLONES void round_block(const accumulate_t<T>* __restrict__ sum, int64_t n,
                                  T* __restrict__ out) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(sum[i]);
}

template <class T>
std::vector<const T*> data_of(const std::vector<Tensor>& tensors) {
  std::vector<const T*> data;
  for (const Tensor& t : tensors) data.push_back(static_cast<const T*>(t.const_data_ptr()));
  return data;
}

// body(block, first element, number of elements) for every block, in threads.
template <class Body>
void for_blocks(int64_t n, const Body& body) {
  const auto range = [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      body(b, b * kDotBlock, std::min(kDotBlock, n - b * kDotBlock));
  };
  const int64_t blocks = dot_blocks(n);
  if (blocks <= kBlocksPerThread)
    range(0, blocks);
  else
    torch::stable::parallel_for(0, blocks, kBlocksPerThread, range);
}

// The K block sums of every block, and the totals.
template <class Acc>
class BlockSums {
 public:
  BlockSums(int64_t n, int64_t branches)
      : blocks_(dot_blocks(n)),
        branches_(branches),
        sums_(static_cast<size_t>(blocks_ * branches)) {}

  Acc& at(int64_t block, int64_t k) { return sums_[static_cast<size_t>(block * branches_ + k)]; }
  void write_totals(Acc* out) const {
    for (int64_t k = 0; k < branches_; ++k)
      out[k] = static_cast<Acc>(blocks_total(sums_.data() + k, blocks_, branches_));
  }

 private:
  int64_t blocks_, branches_;
  std::vector<Acc> sums_;
};

Tensor branch_dots(const Tensor& grad,  // any shape
                   std::vector<Tensor> outputs) {
  const char* op = "branch_dots";
  check_branches(outputs, op);
  outputs.insert(outputs.begin(), grad);
  const auto tensors = side_by_side(std::move(outputs), op, "every output, as grad,");
  const auto branches = static_cast<int64_t>(tensors.size()) - 1;
  const int64_t n = grad.numel();
  Tensor dots = empty_vector(grad, branches, arithmetic_dtype(grad.scalar_type()));
  dispatch_floating(grad.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using Acc = accumulate_t<T>;
    const auto data = data_of<T>(tensors);
    BlockSums<Acc> sums(n, branches);
    for_blocks(n, [&](int64_t block, int64_t begin, int64_t size) {
      for (int64_t k = 0; k < branches; ++k)
        sums.at(block, k) = block_dot(data[0] + begin, data[k + 1] + begin, size);
    });
    sums.write_totals(static_cast<Acc*>(dots.mutable_data_ptr()));
  });
  return dots;
}

Tensor mixed_sum(std::vector<Tensor> outputs, const Tensor& weights) {
  const char* op = "mixed_sum";
  check_branches(outputs, op);
  const Tensor row = check_weights(weights, outputs, op);
  const auto tensors = side_by_side(std::move(outputs), op, "every output");
  Tensor mixture = empty_dense_like(tensors[0]);
  dispatch_floating(mixture.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using Acc = accumulate_t<T>;
    const auto data = data_of<T>(tensors);
    const Acc* w = static_cast<const Acc*>(row.const_data_ptr());
    T* out = static_cast<T*>(mixture.mutable_data_ptr());
    for_blocks(mixture.numel(), [&](int64_t, int64_t begin, int64_t size) {
      Acc sum[kDotBlock];
      mix_block_first(data[0] + begin, w[0], size, sum);
      for (size_t k = 1; k < data.size(); ++k) mix_block_next(data[k] + begin, w[k], size, sum);
      round_block(sum, size, out + begin);
    });
  });
  return mixture;
}

std::tuple<std::vector<Tensor>, Tensor> mixed_sum_backward(const Tensor& grad,
                                                           std::vector<Tensor> outputs,
                                                           const Tensor& weights) {
  const char* op = "mixed_sum_backward";
  check_branches(outputs, op);
  const Tensor row = check_weights(weights, outputs, op);
  outputs.insert(outputs.begin(), grad);
  const auto tensors = side_by_side(std::move(outputs), op, "every output, as grad,");
  const auto branches = static_cast<int64_t>(tensors.size()) - 1;
  std::vector<Tensor> grad_outputs;
  for (int64_t k = 0; k < branches; ++k) grad_outputs.push_back(empty_dense_like(tensors[0]));
  Tensor grad_weights = empty_vector(grad, branches, arithmetic_dtype(grad.scalar_type()));
  dispatch_floating(grad.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using Acc = accumulate_t<T>;
    const auto data = data_of<T>(tensors);
    std::vector<T*> out;
    for (const Tensor& t : grad_outputs) out.push_back(static_cast<T*>(t.mutable_data_ptr()));
    const Acc* w = static_cast<const Acc*>(row.const_data_ptr());
    BlockSums<Acc> sums(grad.numel(), branches);
    for_blocks(grad.numel(), [&](int64_t block, int64_t begin, int64_t size) {
      for (int64_t k = 0; k < branches; ++k) {
        sums.at(block, k) = block_dot(data[0] + begin, data[k + 1] + begin, size);
        scale_block(data[0] + begin, w[k], size, out[k] + begin);
      }
    });
    sums.write_totals(static_cast<Acc*>(grad_weights.mutable_data_ptr()));
  });
  return {grad_outputs, grad_weights};
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("branch_dots", TORCH_BOX(&nasp_ext::branch_dots));
  m.impl("mixed_sum", TORCH_BOX(&nasp_ext::mixed_sum));
  m.impl("mixed_sum_backward", TORCH_BOX(&nasp_ext::mixed_sum_backward));
}
