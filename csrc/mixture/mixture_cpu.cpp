// SPDX-License-Identifier: MIT
// branch_dots, mixed_sum and its backward on the CPU: a block of the shared tensor stays in L1
// while the branches pass by one after the other, so memory is read once and one stream at a time.
#include <tuple>
#include <vector>

#include "../common/parallel.h"
#include "branches.h"
#include "mixture_simd.h"

namespace nasp_ext {
namespace {

constexpr int64_t kBlocksPerThread = 8;  // a thread takes at least this many blocks

template <class T>
std::vector<const T*> data_of(const std::vector<Tensor>& tensors) {
  std::vector<const T*> data;
  for (const Tensor& t : tensors) data.push_back(static_cast<const T*>(t.const_data_ptr()));
  return data;
}

// The block sums of all branches, whose blocks begin at element `begin`.
template <class T>
void block_dots_all(const std::vector<const T*>& tensors,  // g, y_0, y_1, ...
                    int64_t begin, int64_t size, accumulate_t<T>* out) {
  const T* at[kMaxBranches + 1];
  const auto count = static_cast<int64_t>(tensors.size()) - 1;
  for (size_t i = 0; i < tensors.size(); ++i) at[i] = tensors[i] + begin;
  const T* const* y = at + 1;
  int64_t k = 0;
  for (; k + kGroup <= count; k += kGroup) block_dots<kGroup>(at[0], y + k, size, out + k);
  if (k + 4 <= count) {
    block_dots<4>(at[0], y + k, size, out + k);
    k += 4;
  }
  if (k + 2 <= count) {
    block_dots<2>(at[0], y + k, size, out + k);
    k += 2;
  }
  if (k < count) block_dots<1>(at[0], y + k, size, out + k);
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
    parallel_for(0, blocks, kBlocksPerThread, range);
}

// The K block sums of every block, and the totals.
template <class Acc>
class BlockSums {
 public:
  BlockSums(int64_t n, int64_t branches)
      : blocks_(dot_blocks(n)),
        branches_(branches),
        sums_(static_cast<size_t>(blocks_ * branches)) {}

  Acc* of_block(int64_t block) { return sums_.data() + block * branches_; }
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
      block_dots_all(data, begin, size, sums.of_block(block));
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
      const T* y[kMaxBranches];
      for (size_t k = 0; k < data.size(); ++k) y[k] = data[k] + begin;
      mix_block(y, w, static_cast<int64_t>(data.size()), size, out + begin);
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
      block_dots_all(data, begin, size, sums.of_block(block));
      for (int64_t k = 0; k < branches; ++k)
        scale_block(data[0] + begin, w[k], size, out[static_cast<size_t>(k)] + begin);
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
