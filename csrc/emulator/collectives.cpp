// SPDX-License-Identifier: MIT
// Warp collectives: complete when every live lane that the mask names has arrived, at one place.
#include <cstring>

#include "machine.h"

namespace nasp_ext::emulator {

namespace {
unsigned lowest(unsigned lanes) { return static_cast<unsigned>(__builtin_ctz(lanes)); }

bool same_call(const CollectiveCall& a, const CollectiveCall& b) {
  return a.kind == b.kind && a.mask == b.mask && a.site.line == b.site.line &&
         std::strcmp(a.site.file, b.site.file) == 0;
}

// The lane whose value `lane` receives: its own where the CUDA guide says the value is unchanged.
int source_lane(int lane, const CollectiveCall& call) {
  const int first = lane & ~(call.width - 1), end = first + call.width;
  switch (call.kind) {
    case Collective::kShuffle:
      return first + (call.argument & (call.width - 1));
    case Collective::kShuffleUp:
      return lane - call.argument < first ? lane : lane - call.argument;
    case Collective::kShuffleDown:
      return lane + call.argument >= end ? lane : lane + call.argument;
    case Collective::kShuffleXor:
      return (lane ^ call.argument) >= end ? lane : lane ^ call.argument;
    default:
      return lane;
  }
}
}  // namespace

void Machine::complete_collective(unsigned warp, unsigned mask) {
  Warp& w = warps[warp];
  const unsigned group = mask & w.alive;
  if (group == 0 || (group & ~w.waiting) != 0) return;  // somebody is still on the way
  const Thread& first = lane(warp, lowest(group));
  unsigned ballot = 0;
  for (unsigned left = group; left != 0; left &= left - 1) {
    const Thread& t = lane(warp, lowest(left));
    if (!same_call(t.call, first.call)) {
      return set_error("lanes of one warp at different collectives: " + describe(first) + " at " +
                       describe(first.site) + ", " + describe(t) + " at " + describe(t.site));
    }
    ballot |= static_cast<unsigned>(t.call.value & 1) << lowest(left);
  }
  for (unsigned left = group; left != 0; left &= left - 1) {
    Thread& t = lane(warp, lowest(left));
    const unsigned source =
        static_cast<unsigned>(source_lane(static_cast<int>(lowest(left)), t.call));
    if ((group >> source & 1) == 0) {
      return set_error(describe(t) + " reads lane " + std::to_string(source) +
                       ", which takes no part, at " + describe(t.site));
    }
    t.result = t.call.kind == Collective::kBallot ? ballot : lane(warp, source).call.value;
  }
  // Shuffles and votes order no memory; __syncwarp() of the whole warp does.
  if (first.call.kind == Collective::kSync && group == w.alive) ++w.epoch;
  for (unsigned left = group; left != 0; left &= left - 1) {
    lane(warp, lowest(left)).status = Status::kReady;
  }
  w.waiting &= ~group;
  ++counts.collectives;
}

void Machine::lane_exited(unsigned warp) {
  for (unsigned left = warps[warp].waiting; left != 0 && !failed();) {
    complete_collective(warp, lane(warp, lowest(left)).call.mask);
    left &= left - 1;
    left &= warps[warp].waiting;
  }
}

uint64_t collective(const CollectiveCall& call) {
  Thread& t = *machine.running;
  const unsigned warp = t.position.linear / kWarp, lane = t.position.linear % kWarp;
  t.call = call;
  t.site = call.site;
  if ((call.mask >> lane & 1) == 0) {
    fail(describe(t) + " is not in its own mask at " + describe(call.site));
  }
  if (call.width < 1 || call.width > 32 || (call.width & (call.width - 1)) != 0) {
    fail("shuffle width " + std::to_string(call.width) + " at " + describe(call.site));
  }
  t.status = Status::kAtCollective;
  machine.warps[warp].waiting |= 1u << lane;
  machine.complete_collective(warp, call.mask);
  Fiber::suspend();
  return t.result;
}

}  // namespace nasp_ext::emulator
