// SPDX-License-Identifier: MIT
// makecontext() gives a fiber its stack; _setjmp/_longjmp switch afterwards, because swapcontext()
// makes a system call at every switch. The fortified longjmp refuses to leave a stack, so it is
// off.
#undef _FORTIFY_SOURCE
#include "fiber.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <new>

namespace nasp_ext::emulator {

struct Fiber::Context {
  ucontext_t start;
  jmp_buf resume_point;
  char* mapping;
  size_t mapping_bytes;
  void (*body)();
  bool started;
};

namespace {
jmp_buf scheduler_point;
jmp_buf* running_point = nullptr;  // where the running fiber saves itself
void (*running_body)() = nullptr;

void run_forever() {
  void (*const body)() = running_body;
  for (;;) {
    body();
    Fiber::suspend();
  }
}
}  // namespace

Fiber::Fiber(size_t stack_bytes, void (*body)()) : context_(new Context) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  Context& c = *context_;
  c.body = body;
  c.started = false;
  c.mapping_bytes = (stack_bytes + page - 1) / page * page + page;
  void* const mapping = mmap(nullptr, c.mapping_bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    delete context_;
    throw std::bad_alloc();
  }
  c.mapping = static_cast<char*>(mapping);
  mprotect(c.mapping, page, PROT_NONE);  // a stack that overflows stops here
  getcontext(&c.start);
  c.start.uc_stack.ss_sp = c.mapping + page;
  c.start.uc_stack.ss_size = c.mapping_bytes - page;
  c.start.uc_link = nullptr;
  makecontext(&c.start, run_forever, 0);
}

Fiber::~Fiber() {
  munmap(context_->mapping, context_->mapping_bytes);
  delete context_;
}

void Fiber::resume() {
  Context& c = *context_;
  running_point = &c.resume_point;
  if (_setjmp(scheduler_point) != 0) return;
  if (c.started) _longjmp(c.resume_point, 1);
  c.started = true;
  running_body = c.body;
  setcontext(&c.start);
}

void Fiber::suspend() {
  if (_setjmp(*running_point) == 0) _longjmp(scheduler_point, 1);
}

bool Fiber::on_stack(const void* address) const {
  const char* const p = static_cast<const char*>(address);
  return p >= context_->mapping && p < context_->mapping + context_->mapping_bytes;
}

}  // namespace nasp_ext::emulator
