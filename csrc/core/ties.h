// SPDX-License-Identifier: MIT
// How exact ties between the entries of a row are broken, and the numbers that stand for no entry.
#pragma once

#include "host_device.h"

namespace nasp_ext {

constexpr int64_t kPruned = -1;  // nothing selected: a fully masked row, or a pruned edge
constexpr int64_t kNanRow = -2;  // an unmasked entry of the row is NaN

// Exact ties: the lowest index wins, or (random) the largest hash of (seed, row, option).
struct Ties {
  bool random = false;
  uint64_t seed = 0;

  // Stateless, so every thread of every device computes the same key: two rounds of the 64-bit
  // finaliser by Stafford (variant 13, as in SplitMix64); the increment is 2^64 / golden ratio.
  NASP_HOST_DEVICE uint64_t key(int64_t row, int64_t option) const {
    return random
               ? mix(mix(seed + kGolden * (uint64_t(row) + 1)) + kGolden * (uint64_t(option) + 1))
               : 0;
  }

 private:
  static constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ULL;
  NASP_HOST_DEVICE static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
  }
};

}  // namespace nasp_ext
