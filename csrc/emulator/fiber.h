// SPDX-License-Identifier: MIT
// Cooperative threads for the kernel emulator: at any moment either the scheduler or one fiber
// runs.
#pragma once
#include <cstddef>

namespace nasp_ext::emulator {

// One worker with a stack of its own. It runs `body` again and again; each run ends in finish().
class Fiber {
 public:
  Fiber(size_t stack_bytes, void (*body)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();          // scheduler: let the fiber run until it suspends
  static void suspend();  // fiber: back to the scheduler; returns at the next resume()
  bool on_stack(const void* address) const;

 private:
  struct Context;
  Context* context_;
};

}  // namespace nasp_ext::emulator
