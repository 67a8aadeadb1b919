// SPDX-License-Identifier: MIT
// The loops of the CPU, compiled for several instruction sets and chosen when the process runs.
#pragma once

#include "../block/block_loops.h"
#include "../node/node_loops.h"
#include "../pool/pool_loops.h"
#include "../recurrent/recurrent_loops.h"
#include "../source_dots/source_loops.h"

namespace nasp_ext {

enum class Isa : int64_t { kBase = 0, kAvx2 = 1, kAvx512 = 2 };

template <class T>
struct Loops {
  BlockLoops<T> block;
  PoolLoops<T> pool;
  NodeLoops<T> node;
  SourceLoops<T> source;
  RecurrentLoops<T> recurrent;
};

// One table for each instruction set that the compiler knows.
#define NASP_DECLARE_LOOPS(isa)       \
  namespace isa {                     \
  extern const Loops<float> kFloat;   \
  extern const Loops<double> kDouble; \
  }
NASP_DECLARE_LOOPS(base)
NASP_DECLARE_LOOPS(avx2)
NASP_DECLARE_LOOPS(avx512)
#undef NASP_DECLARE_LOOPS

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define NASP_X86_SETS 1
#else
#define NASP_X86_SETS 0
#endif

}  // namespace nasp_ext
