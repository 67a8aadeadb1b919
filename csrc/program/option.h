// SPDX-License-Identifier: MIT
// Candidate operations as an operator call can carry them: flat lists that are read in order.
//
// An option is its kind, then
//   kIdentity: nothing
//   kPool:     max, kernel, stride, NORM
//   kChain:    number of blocks, for each: depthwise, parts, geometry (8 numbers), relu, NORM
// NORM: exists, affine, batch statistics, updates running ones. In the order in which they are
// named, `weights` holds the depthwise and product weights, then weight and bias if affine;
// `statistics` holds running mean and variance if they are read or updated, then the number of
// batches if updated; `numbers` holds eps and momentum of each norm that exists.
#pragma once

#include "block_weights.h"
#include "norm_arguments.h"
#include "pool_shape.h"

namespace nasp_ext {

enum class OptionKind : int64_t { kIdentity = 0, kPool = 1, kChain = 2 };
constexpr int64_t kOptionKinds = 3;

struct ProgramNorm {
  bool exists = false, batch = false, updates = false;
  NormArguments arguments{};  // mean and var only where they replace those of the batch
  std::optional<Tensor> mean, var, batches;
  double momentum = 0;
  size_t place = 0;  // of `weight` among the weights
};

struct ProgramBlock {
  BlockWeights weights;
  std::vector<int64_t> geometry;
  bool relu = false;
  ProgramNorm norm;
  size_t place = 0;    // of the first of its convolutions among the weights
  BlockShape shape{};  // once it is known
};

struct ProgramOption {
  OptionKind kind = OptionKind::kIdentity;
  bool max = false;
  int64_t kernel = 1, stride = 1;    // of the pool
  ProgramNorm norm;                  // of the pool
  std::vector<ProgramBlock> blocks;  // of the chain
};

// The lists that a call carries.
struct ProgramLists {
  std::vector<int64_t> program;
  Tensors weights, statistics;
  std::vector<double> numbers;
};

// Whether the options read their running statistics: a backward does not, and gets none.
enum class Statistics { kNone, kRead };

class OptionReader {
 public:
  OptionReader(const char* op, const ProgramLists& lists, Statistics statistics)
      : op_(op), lists_(lists), reads_statistics_(statistics == Statistics::kRead) {}

  bool at_end() const { return next_ >= lists_.program.size(); }
  int64_t number() { return take(lists_.program, next_, "entries in the program"); }
  bool flag() { return number() != 0; }
  int64_t count(const char* what) {
    const int64_t found = number();
    if (found < 0) fail(op_, ": expected a number of ", what, " >= 0, found ", found);
    return found;
  }

  ProgramOption option(int64_t kind) {
    if (kind < 0 || kind >= kOptionKinds)
      fail(op_, ": expected a kind in 0..", kOptionKinds - 1, ", found ", kind);
    ProgramOption o;
    o.kind = static_cast<OptionKind>(kind);
    if (o.kind == OptionKind::kPool) {
      o.max = flag();
      o.kernel = number();
      o.stride = number();
      o.norm = norm();
    } else if (o.kind == OptionKind::kChain) {
      const int64_t blocks = number();
      if (blocks < 1) fail(op_, ": expected at least one block in a chain, found ", blocks);
      for (int64_t i = 0; i < blocks; ++i) o.blocks.push_back(block());
    }
    return o;
  }

  void check_all_used() const {
    const size_t statistics = reads_statistics_ ? lists_.statistics.size() - next_statistic_ : 0;
    if (next_weight_ != lists_.weights.size() || statistics > 0 ||
        next_number_ != lists_.numbers.size())
      fail(op_, ": expected every weight, statistic and number to be used by the program, found ",
           lists_.weights.size() - next_weight_, ", ", statistics, " and ",
           lists_.numbers.size() - next_number_, " left over");
  }

 private:
  template <class List>
  const typename List::value_type& take(const List& list, size_t& next, const char* what) {
    if (next >= list.size())
      fail(op_, ": expected more ", what, " than ", list.size(), ", as the program says");
    return list[next++];
  }
  const Tensor& weight() { return take(lists_.weights, next_weight_, "weights"); }
  const Tensor& statistic() { return take(lists_.statistics, next_statistic_, "statistics"); }

  ProgramNorm norm() {
    ProgramNorm n;
    n.exists = flag();
    const bool affine = flag();
    n.batch = flag();
    n.updates = flag();
    if (!n.exists) return {};  // whatever its other flags say: it has no tensors
    n.place = next_weight_;
    if (affine) {
      n.arguments.weight = weight();
      n.arguments.bias = weight();
    }
    if (reads_statistics_ && (n.updates || !n.batch)) {
      n.mean = statistic();
      n.var = statistic();
    }
    if (reads_statistics_ && n.updates) n.batches = statistic();
    if (!n.batch) {
      n.arguments.mean = n.mean;
      n.arguments.var = n.var;
    }
    n.arguments.eps = take(lists_.numbers, next_number_, "numbers");
    n.momentum = take(lists_.numbers, next_number_, "numbers");
    return n;
  }

  ProgramBlock block() {
    ProgramBlock b;
    const bool depthwise = flag();
    const int64_t parts = number();
    if (parts < 1 || parts > 2)
      fail(op_, ": expected 1 or 2 tensors of product weights in a block, found ", parts);
    if (next_ + kGeometry > lists_.program.size()) fail(op_, ": expected the geometry of a block");
    const auto geometry = lists_.program.begin() + static_cast<std::ptrdiff_t>(next_);
    b.geometry.assign(geometry, geometry + kGeometry);
    next_ += kGeometry;
    b.relu = flag();
    b.place = next_weight_;
    if (depthwise) b.weights.depthwise = weight();
    for (int64_t i = 0; i < parts; ++i) b.weights.products.push_back(weight());
    b.norm = norm();
    return b;
  }

  const char* op_;
  const ProgramLists& lists_;
  const bool reads_statistics_;
  size_t next_ = 0, next_weight_ = 0, next_statistic_ = 0, next_number_ = 0;
};

}  // namespace nasp_ext
