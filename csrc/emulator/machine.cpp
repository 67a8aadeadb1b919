// SPDX-License-Identifier: MIT
// Runs the blocks of a grid one after another, and the threads of a block in the order the seed
// asks for.
#include "machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>
#include <stdexcept>

namespace nasp_ext::emulator {

Position position;
Config config;
Counts counts;
Observer* observer = nullptr;
Machine machine;

std::string describe(const Site& site) {
  return std::string(site.file) + ":" + std::to_string(site.line);
}

std::string describe(const Thread& thread) {
  const auto triple = [](const uint3& v) {
    return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
  };
  return "block " + triple(thread.position.block) + " thread " + triple(thread.position.thread);
}

void Machine::FreeDelete::operator()(void* p) const { std::free(p); }

void Machine::set_error(const std::string& message) {
  if (!failed()) error = std::string("kernel ") + kernel + ": " + message;
}

namespace {
std::recursive_mutex one_launch_at_a_time;

void fiber_body() {
  machine.thread_main(machine.call);
  machine.running->status = Status::kDone;
}

unsigned volume(const dim3& d) { return d.x * d.y * d.z; }

void check_limits(const char* name, const dim3& grid, const dim3& block, size_t shared_bytes) {
  const bool grid_ok = grid.x >= 1 && grid.x <= 0x7fffffffu && grid.y >= 1 && grid.y <= 65535 &&
                       grid.z >= 1 && grid.z <= 65535;
  const bool block_ok = block.x >= 1 && block.x <= 1024 && block.y >= 1 && block.y <= 1024 &&
                        block.z >= 1 && block.z <= 64 && volume(block) <= 1024;
  if (!grid_ok || !block_ok) {
    throw std::runtime_error(std::string("kernel ") + name + ": invalid grid or block size");
  }
  if (shared_bytes > config.shared_limit) {
    throw std::runtime_error(std::string("kernel ") + name + ": too much shared memory");
  }
}
}  // namespace

void Machine::start_block(uint3 block, dim3 grid_size, dim3 block_size) {
  const unsigned n = volume(block_size);
  ++serial;
  done = at_barrier = epoch = 0;
  barrier_count = 0;
  threads.assign(n, Thread{});
  warps.assign((n + kWarp - 1) / kWarp, Warp{});
  for (unsigned i = 0; i < n; ++i) {
    const uint3 at{i % block_size.x, i / block_size.x % block_size.y,
                   i / block_size.x / block_size.y};
    threads[i].position = Position{at, block, block_size, grid_size, i};
    warps[i / kWarp].alive |= 1u << i % kWarp;
  }
}

// Which threads run, in which order, before the scheduler looks again. A shuffled order alternates
// between passes over the whole block and passes over one warp, so that warps run far apart.
std::vector<unsigned> Machine::next_pass(bool* partial) {
  const unsigned n = static_cast<unsigned>(threads.size());
  unsigned first = 0, count = n;
  *partial = config.seed > 1 && !*partial && random() % 2 == 0;
  if (*partial) {
    first = static_cast<unsigned>(random() % warps.size()) * kWarp;
    count = std::min(kWarp, n - first);
  }
  std::vector<unsigned> order(count);
  std::iota(order.begin(), order.end(), first);
  if (config.seed == 1) std::reverse(order.begin(), order.end());
  if (config.seed > 1) std::shuffle(order.begin(), order.end(), random);
  return order;
}

void Machine::run_thread(Thread& thread) {
  if (thread.status == Status::kNew) {
    if (idle.empty()) {
      fibers.push_back(std::make_unique<Fiber>(config.stack_bytes, fiber_body));
      idle.push_back(fibers.back().get());
    }
    thread.fiber = idle.back();
    idle.pop_back();
    thread.status = Status::kReady;
  }
  running = &thread;
  position = thread.position;
  thread.fiber->resume();
  running = nullptr;
  if (thread.status != Status::kDone) return;
  ++done;
  idle.push_back(thread.fiber);
  const unsigned warp = thread.position.linear / kWarp;
  warps[warp].alive &= ~(1u << thread.position.linear % kWarp);
  lane_exited(warp);
}

void Machine::report_deadlock() {
  unsigned at_collective = 0;
  const Thread* first = nullptr;
  for (const Thread& t : threads) {
    at_collective += t.status == Status::kAtCollective;
    if (first == nullptr && t.status != Status::kDone) first = &t;
  }
  set_error("deadlock: " + std::to_string(at_barrier) + " threads wait at __syncthreads(), " +
            std::to_string(at_collective) + " at a warp collective, " + std::to_string(done) +
            " have exited; " + describe(*first) + " waits at " + describe(first->site));
}

void Machine::end_block() {
  counts.threads += threads.size();
  shared.clear();
  shared_bytes = 0;
  if (!failed()) return;
  idle.clear();  // some stacks hold abandoned threads
  fibers.clear();
}

void Machine::run_block(uint3 block, dim3 grid_size, dim3 block_size) {
  start_block(block, grid_size, block_size);
  bool partial = false;
  while (done < threads.size() && !failed()) {
    bool moved = false;
    for (const unsigned i : next_pass(&partial)) {
      if (threads[i].status > Status::kReady) continue;
      moved = true;
      run_thread(threads[i]);
      if (failed()) break;
    }
    if (!moved && !partial) report_deadlock();
  }
  end_block();
}

void Machine::release_barrier_if_complete() {
  if (at_barrier < threads.size()) return;  // an exited thread never arrives: reported as deadlock
  const Site site = threads.front().site;
  for (Thread& t : threads) {
    if (t.site.line != site.line || std::strcmp(t.site.file, site.file) != 0) {
      return set_error("__syncthreads() reached at different places: " + describe(threads.front()) +
                       " at " + describe(site) + ", " + describe(t) + " at " + describe(t.site));
    }
    t.status = Status::kReady;
  }
  barrier_result = barrier_count;
  barrier_count = 0;
  at_barrier = 0;
  ++epoch;
  ++counts.barriers;
}

int barrier(bool predicate, Site site) {
  Thread& t = *machine.running;
  t.status = Status::kAtBarrier;
  t.site = site;
  ++machine.at_barrier;
  machine.barrier_count += predicate;
  machine.release_barrier_if_complete();
  Fiber::suspend();  // the last to arrive too: the seed decides who goes on first
  return machine.barrier_result;
}

void* shared_memory(const void* key, size_t bytes, size_t element_bytes) {
  auto& slot = machine.shared[key];
  if (slot != nullptr) return slot.get();
  machine.shared_bytes += bytes;
  if (machine.shared_bytes > config.shared_limit) {
    fail("more than " + std::to_string(config.shared_limit) + " bytes of shared memory");
  }
  const size_t rounded = (bytes + 15) / 16 * 16;
  slot.reset(std::aligned_alloc(16, rounded));
  std::memset(slot.get(), 0xff, rounded);  // NaN: what a kernel forgot to write shows
  if (observer != nullptr) observer->shared_allocated(slot.get(), bytes, element_bytes);
  return slot.get();
}

void* dynamic_shared_memory() { return machine.shared[&machine].get(); }

void fail(const std::string& message) {
  machine.set_error(message);
  if (machine.running == nullptr) throw std::runtime_error(machine.error);
  for (;;) Fiber::suspend();  // never resumed: the scheduler ends the block
}

uint64_t block_serial() { return machine.serial; }
unsigned block_epoch() { return machine.epoch; }
unsigned warp_epoch() { return machine.warps[position.linear / kWarp].epoch; }

bool in_emulator_state(const void* address) {
  const char* const p = static_cast<const char*>(address);
  const char* const own = reinterpret_cast<const char*>(&position);
  return (p >= own && p < own + sizeof position) || machine.running->fiber->on_stack(address);
}

void run_grid(const char* name, dim3 grid, dim3 block, size_t dynamic_shared_bytes,
              void (*thread_main)(const void*), const void* call, size_t call_bytes) {
  const std::lock_guard<std::recursive_mutex> lock(one_launch_at_a_time);
  check_limits(name, grid, block, dynamic_shared_bytes);
  machine.kernel = name;
  machine.thread_main = thread_main;
  machine.call = call;
  machine.error.clear();
  machine.random.seed(config.seed);
  ++counts.launches;
  if (observer != nullptr) observer->launch_begins(call, call_bytes);
  std::vector<uint64_t> blocks(static_cast<uint64_t>(grid.x) * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), uint64_t{0});
  if (config.seed == 1) std::reverse(blocks.begin(), blocks.end());
  if (config.seed > 1) std::shuffle(blocks.begin(), blocks.end(), machine.random);
  for (const uint64_t i : blocks) {
    if (observer != nullptr) observer->block_begins();
    if (dynamic_shared_bytes > 0) shared_memory(&machine, dynamic_shared_bytes, sizeof(float));
    const uint3 at{static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                   static_cast<unsigned>(i / grid.x / grid.y)};
    machine.run_block(at, grid, block);
    if (machine.failed()) break;
  }
  if (observer != nullptr) observer->launch_ends();
  if (machine.failed()) throw std::runtime_error(machine.error);
}

}  // namespace nasp_ext::emulator
