// SPDX-License-Identifier: MIT
// The emulator's machine as kernels, tests and the checker see it: one block at a time, each CUDA
// thread a fiber, switched only at barriers and warp collectives.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "vector_types.h"

namespace nasp_ext::emulator {

struct Position {  // what one CUDA thread knows about itself
  uint3 thread;
  uint3 block;
  dim3 block_size;
  dim3 grid_size;
  unsigned linear;  // index of the thread in its block
};
extern Position position;  // rewritten at every switch

struct Config {
  uint64_t seed = 0;  // order of threads and blocks: 0 ascending, 1 descending, else shuffled
  size_t shared_limit = 48 * 1024;  // what every GPU grants without asking
  size_t stack_bytes = 64 * 1024;
};
extern Config config;

struct Counts {
  uint64_t launches = 0;
  uint64_t threads = 0;
  uint64_t barriers = 0;
  uint64_t collectives = 0;
};
extern Counts counts;

struct Site {  // a place in a kernel's source
  const char* file;
  int line;
};

enum class Collective : uint8_t { kShuffle, kShuffleUp, kShuffleDown, kShuffleXor, kBallot, kSync };
struct CollectiveCall {
  Collective kind;
  unsigned mask;
  uint64_t value;
  int argument;  // lane, distance or lane mask
  int width;
  Site site;
};

// Called by cuda_names.h on behalf of kernels.
void run_grid(const char* name, dim3 grid, dim3 block, size_t dynamic_shared_bytes,
              void (*thread_main)(const void* call), const void* call, size_t call_bytes);
int barrier(bool predicate, Site site);  // number of threads whose predicate is true
uint64_t collective(const CollectiveCall& call);
void* shared_memory(const void* key, size_t bytes, size_t element_bytes);
void* dynamic_shared_memory();
[[noreturn]] void fail(const std::string& message);  // ends the launch; run_grid throws

// How far the calling thread got: accesses of different epochs are ordered.
uint64_t block_serial();
unsigned block_epoch();
unsigned warp_epoch();
bool in_emulator_state(const void* address);  // a fiber's stack or `position`

enum class Access : uint8_t { kRead, kWrite, kAtomic };
struct Observer {  // the checker
  virtual ~Observer() = default;
  virtual void launch_begins(const void* arguments, size_t bytes) = 0;
  virtual void block_begins() = 0;
  virtual void shared_allocated(const void* address, size_t bytes, size_t element_bytes) = 0;
  virtual void accessed(const void* address, size_t bytes, Access kind, const void* code) = 0;
  virtual void launch_ends() = 0;
};
extern Observer* observer;  // null: nothing is checked

}  // namespace nasp_ext::emulator
