// SPDX-License-Identifier: MIT
// Inner products on the CPU: a block of the shared tensor stays in L1 while the branches pass by
// one after the other, so memory is read once and one stream at a time.
#pragma once

#include <vector>

#include "../core/parallel.h"
#include "branch_dots_simd.h"
#include "branches.h"

namespace nasp_ext {

constexpr int64_t kBlocksPerThread = 8;  // a thread takes at least this many blocks

template <class T>
std::vector<const T*> data_of_all(const std::vector<Tensor>& tensors) {
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

}  // namespace nasp_ext
