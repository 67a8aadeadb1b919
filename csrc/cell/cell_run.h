// SPDX-License-Identifier: MIT
// Options under way, side by side: the blocks at one depth of all of them are one call.
#pragma once

#include "../norm/norm.h"
#include "cell.h"

namespace nasp_ext {

struct Kept {
  Tensor z, norm;
};

// An option that starts from x. When it has run it gives norm(x), and `kept` holds z and norm of
// its pool or of its blocks. Norms that `kept` holds before are those of an earlier run: they are
// taken, and only the z are computed.
struct RunningOption {
  const ProgramOption* option;
  Tensor x, norm;
  std::vector<Kept> kept;
  bool again;
};

inline RunningOption started(const ProgramOption& option, const Tensor& x) {
  return {&option, x, empty_matrix(x, 0, 0, x.scalar_type()), {}, false};
}

inline RunningOption started_again(const ProgramOption& option, const Tensor& x,
                                   const std::vector<Kept>& norms) {
  return {&option, x, empty_matrix(x, 0, 0, x.scalar_type()), norms, true};
}

template <class Device>
class OptionRuns {
 public:
  static void run(std::vector<RunningOption>& all) {
    for (size_t first = 0; first < all.size(); first += kEdgesAtOnce<Device>) {
      const size_t end = std::min(all.size(), first + kEdgesAtOnce<Device>);
      for (size_t i = first; i < end; ++i) run_pool(all[i]);
      for (size_t depth = 0; run_blocks(all, first, end, depth); ++depth) {
      }
    }
  }

 private:
  static void run_pool(RunningOption& r) {
    const ProgramOption& o = *r.option;
    if (o.kind != OptionKind::kPool) return;
    const auto [z, norm] = pool_forward<Device>(
        {r.x, o.max, o.kernel, o.stride, o.norm.exists && !r.again, o.norm.arguments});
    keep(r, 0, z, norm);
  }

  // The blocks at one depth of the chains that reach it; whether there are any.
  static bool run_blocks(std::vector<RunningOption>& all, size_t first, size_t end, size_t depth) {
    std::vector<BlockForwardCall> calls;
    std::vector<RunningOption*> of_call;
    for (size_t i = first; i < end; ++i) {
      RunningOption& r = all[i];
      if (depth >= r.option->blocks.size()) continue;
      const bool normed = depth && r.option->blocks[depth - 1].norm.exists;
      calls.push_back({r.x, normed ? MaybeTensor(r.norm) : std::nullopt, r.option->blocks[depth]});
      if (r.again) calls.back().block.norm.exists = false;
      of_call.push_back(&r);
    }
    if (calls.empty()) return false;
    const std::vector<BlockOutput> found = blocks_forward<Device>(calls);
    for (size_t i = 0; i < found.size(); ++i) {
      const auto& [z, norm] = found[i];
      keep(*of_call[i], depth, z, norm);
    }
    return true;
  }

  static void keep(RunningOption& r, size_t depth, const Tensor& z, const Tensor& norm) {
    if (!r.again) r.kept.push_back({z, norm});
    r.kept[depth].z = z;
    r.x = z;
    r.norm = r.kept[depth].norm;
  }
};

}  // namespace nasp_ext
