// SPDX-License-Identifier: MIT
// PyTorch's threads, and what is left of them in the child of a fork.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <new>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace nasp_ext {

// Only the thread that forks lives on in the child, where its OpenMP would wait for ever for the
// helpers that it had in the parent.
class Helpers {
 public:
  static bool lost() { return state().lost; }
  static void used() {
#if !defined(_WIN32)
    static const int failed =
        pthread_atfork(nullptr, nullptr, [] { state().lost = state().lost || state().used; });
    if (failed != 0) throw std::bad_alloc();
#endif
    state().used = true;
  }

 private:
  struct State {
    bool used, lost;
  };
  static State& state() {
    static thread_local State of_thread = {false, false};
    return of_thread;
  }
};

// body(begin, end) of pieces of at least `grain`, in threads; of all at once in a child of a fork
// whose parent had used threads here. Where a piece begins must not change what is computed.
template <class Body>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const Body& body) {
  if (Helpers::lost()) {
    if (begin < end) body(begin, end);
    return;
  }
  if (end - begin > grain && torch::stable::get_num_threads() > 1) Helpers::used();
  torch::stable::parallel_for(begin, end, grain, body);
}

}  // namespace nasp_ext
