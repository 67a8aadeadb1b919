// SPDX-License-Identifier: MIT
// Discretisation of A (Yao et al. 2020, Alg. 2, step 5): the option each row keeps (prox_math.h),
// then the best rows of each node, then the weight written into the network.
#pragma once

#include "../prox/prox_math.h"

namespace nasp_ext {

// A row as a competitor of the other rows of its node. score: the selected entry, unclipped.
// Rows without a selected option (fully masked, or NaN) do not compete.
template <class Acc>
NASP_HOST_DEVICE Candidate<Acc> row_candidate(Acc score, int64_t option, const Ties& ties,
                                              int64_t row) {
  if (option < 0) return no_candidate<Acc>();
  return {score, ties.key(row, kPruned), row};  // option -1: a key of the row's own
}

// Whether `row` is among the `edges` best rows of its node [begin, end): fewer than `edges` rows
// beat it. No order of evaluation is involved, so each row may decide for itself.
template <class Acc>
NASP_HOST_DEVICE bool row_survives(const Acc* score,       // (R,) selected entry of each row
                                   const int32_t* option,  // (R,) before pruning
                                   int64_t begin, int64_t end, int64_t row, int64_t edges,
                                   const Ties& ties) {
  const auto self = row_candidate(score[row], option[row], ties, row);
  int64_t above = 0;
  for (int64_t other = begin; other < end; ++other)
    above += beats(row_candidate(score[other], option[other], ties, other), self) ? 1 : 0;
  return above < edges;
}

// Element `option` of the weight row whose active option is `active`; a NaN row is all NaN.
template <class T>
NASP_HOST_DEVICE T weight_entry(T a, int64_t option, int64_t active, bool keep_value) {
  return keep_value ? projected_entry<ProxC>(a, option, active)
                    : projected_entry<OneHot>(a, option, active);
}

}  // namespace nasp_ext
