// SPDX-License-Identifier: MIT
// State of the block that is running; shared by machine.cpp and collectives.cpp only.
#pragma once
#include <memory>
#include <random>
#include <unordered_map>
#include <vector>

#include "fiber.h"
#include "runtime.h"

namespace nasp_ext::emulator {

constexpr unsigned kWarp = 32;

enum class Status : uint8_t { kNew, kReady, kAtBarrier, kAtCollective, kDone };

struct Thread {
  Position position;
  Status status;
  Site site;            // where it waits
  CollectiveCall call;  // what it asked for, while at a collective
  uint64_t result;
  Fiber* fiber;
};

struct Warp {
  unsigned alive = 0;    // lanes that exist and have not exited
  unsigned waiting = 0;  // lanes at a collective
  unsigned epoch = 0;    // __syncwarp() calls of all live lanes so far
};

struct Machine {
  const char* kernel = "";
  void (*thread_main)(const void*) = nullptr;
  const void* call = nullptr;
  std::string error;  // the first one; empty while all is well
  std::mt19937_64 random;

  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Thread* running = nullptr;
  unsigned done = 0;
  unsigned at_barrier = 0;
  int barrier_count = 0;
  int barrier_result = 0;
  unsigned epoch = 0;
  uint64_t serial = 0;

  struct FreeDelete {
    void operator()(void* p) const;
  };
  std::unordered_map<const void*, std::unique_ptr<void, FreeDelete>> shared;
  size_t shared_bytes = 0;

  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Fiber*> idle;

  bool failed() const { return !error.empty(); }
  void set_error(const std::string& message);
  Thread& lane(unsigned warp, unsigned lane) { return threads[warp * kWarp + lane]; }

  void run_block(uint3 block, dim3 grid_size, dim3 block_size);
  void release_barrier_if_complete();
  void complete_collective(unsigned warp, unsigned mask);
  void lane_exited(unsigned warp);

 private:
  void start_block(uint3 block, dim3 grid_size, dim3 block_size);
  std::vector<unsigned> next_pass(bool* partial);
  void run_thread(Thread& thread);
  void report_deadlock();
  void end_block();
};
extern Machine machine;

std::string describe(const Thread& thread);  // "block (x,y,z) thread (x,y,z)"
std::string describe(const Site& site);      // "file:line"

}  // namespace nasp_ext::emulator
