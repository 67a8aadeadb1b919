// SPDX-License-Identifier: MIT
// A shadow cell per element holds the last write and two last reads; an access that conflicts with
// one of them, and that no barrier separates from it, is a race. Never compiled with -fsanitize.
#include "checker.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "runtime.h"

namespace nasp_ext::emulator {

namespace {

constexpr size_t kGuard = 64;  // bytes around a buffer that still count as a miss of that buffer

struct Record {  // one past access
  uint64_t block = 0;
  unsigned block_epoch = 0;
  unsigned warp_epoch = 0;
  unsigned thread = 0;
  bool present = false;
  bool atomic = false;
};

bool same_thread(const Record& a, const Record& b) {
  return a.block == b.block && a.thread == b.thread;
}

bool ordered(const Record& past, const Record& now) {
  if (!past.present || same_thread(past, now) || (past.atomic && now.atomic)) return true;
  if (past.block != now.block) return false;  // blocks are never ordered
  if (past.block_epoch != now.block_epoch) return true;
  return past.thread / 32 == now.thread / 32 && past.warp_epoch != now.warp_epoch;
}

struct Cell {
  Record write;
  Record reads[2];
  bool written = false;
};

struct Buffer {
  const char* begin;
  size_t bytes;
  size_t element_bytes;
  Content content;
  std::string name;
  std::vector<Cell> cells;

  Buffer(const void* address, size_t bytes_, size_t element, Content content_, std::string name_)
      : begin(static_cast<const char*>(address)),
        bytes(bytes_),
        element_bytes(element),
        content(content_),
        name(std::move(name_)),
        cells((bytes_ + element - 1) / element) {}
  bool holds(const char* p) const { return p >= begin && p < begin + bytes; }
  bool nearly_holds(const char* p) const {
    return p + kGuard >= begin && p < begin + bytes + kGuard;
  }
};

// "file:line" of a return address, from the debug information.
std::string source_line(const void* code) {
  Dl_info image;
  const char* const call = static_cast<const char*>(code) - 1;
  if (dladdr(call, &image) == 0) return "?";
  const auto offset = static_cast<size_t>(call - static_cast<const char*>(image.dli_fbase));
  char command[1024], answer[1024] = "";
  std::snprintf(command, sizeof command, "addr2line -s -e '%s' 0x%zx", image.dli_fname, offset);
  FILE* const pipe = popen(command, "r");
  if (pipe == nullptr) return "?";
  const bool ok = std::fgets(answer, sizeof answer, pipe) != nullptr;
  pclose(pipe);
  std::string line = ok ? answer : "?";
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

bool in_loaded_image(const char* p) {  // constants and static tables of the program
  struct Query {
    const char* p;
    bool found;
  } query{p, false};
  const auto visit = [](dl_phdr_info* info, size_t, void* data) {
    Query& q = *static_cast<Query*>(data);
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      const auto& segment = info->dlpi_phdr[i];
      const char* const begin = reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr);
      if (segment.p_type == PT_LOAD && q.p >= begin && q.p < begin + segment.p_memsz)
        q.found = true;
    }
    return 0;
  };
  dl_iterate_phdr(visit, &query);
  return query.found;
}

const char* verb(Access kind) {
  return kind == Access::kRead ? "read" : kind == Access::kWrite ? "write" : "atomic";
}

class Checker final : public Observer {
 public:
  std::vector<Buffer> buffers;

  void launch_begins(const void* arguments, size_t bytes) override {
    arguments_ = static_cast<const char*>(arguments);
    argument_bytes_ = bytes;
    for (Buffer& b : buffers) {
      for (Cell& c : b.cells) c.write.present = c.reads[0].present = c.reads[1].present = false;
    }
    in_kernel_ = true;
  }
  void block_begins() override { shared_.clear(); }
  void launch_ends() override { in_kernel_ = false; }
  void shared_allocated(const void* address, size_t bytes, size_t element_bytes) override {
    shared_.emplace_back(address, bytes, element_bytes, Content::kUninitialised, "shared memory");
  }
  void accessed(const void* address, size_t bytes, Access kind, const void* code) override;

 private:
  std::vector<Buffer> shared_;
  const char* arguments_ = nullptr;
  size_t argument_bytes_ = 0;
  bool in_kernel_ = false;

  Buffer* find(const char* p);
  void check_cell(Buffer& buffer, Cell& cell, const char* p, size_t bytes, Access kind,
                  const void* code);
  [[noreturn]] void stop(const std::string& what) {
    in_kernel_ = false;
    fail(what);
  }
  static std::string describe(const char* problem, const Buffer& buffer, const char* p,
                              size_t bytes, Access kind, const void* code);
};

Buffer* Checker::find(const char* p) {
  Buffer* near = nullptr;
  for (std::vector<Buffer>* list : {&shared_, &buffers}) {
    for (Buffer& b : *list) {
      if (b.holds(p)) return &b;
      if (b.nearly_holds(p)) near = &b;
    }
  }
  return near;
}

std::string Checker::describe(const char* problem, const Buffer& buffer, const char* p,
                              size_t bytes, Access kind, const void* code) {
  const uint3 b = position.block, t = position.thread;
  char text[512];
  std::snprintf(text, sizeof text,
                "%s: %s of %zu bytes at %s%+td (of %zu bytes) by block (%u,%u,%u) thread "
                "(%u,%u,%u) at ",
                problem, verb(kind), bytes, buffer.name.c_str(), p - buffer.begin, buffer.bytes,
                b.x, b.y, b.z, t.x, t.y, t.z);
  return text + source_line(code);
}

void Checker::accessed(const void* address, size_t bytes, Access kind, const void* code) {
  if (!in_kernel_ || in_emulator_state(address)) return;
  const char* const p = static_cast<const char*>(address);
  Buffer* const buffer = find(p);
  if (buffer == nullptr) {
    const bool argument = p >= arguments_ && p < arguments_ + argument_bytes_;
    if (argument || (kind == Access::kRead && in_loaded_image(p))) return;
    stop(std::string(verb(kind)) + " of " + std::to_string(bytes) +
         " bytes at an address in no buffer, at " + source_line(code));
  }
  const auto refuse = [&](const char* problem) {
    stop(describe(problem, *buffer, p, bytes, kind, code));
  };
  if (p < buffer->begin || p + bytes > buffer->begin + buffer->bytes) refuse("out of bounds");
  const size_t alignment = std::min<size_t>(bytes & -bytes, 16);  // of a value of this size
  if (reinterpret_cast<uintptr_t>(p) % alignment != 0) refuse("misaligned");
  if (kind != Access::kRead && buffer->content == Content::kReadOnly) {
    refuse("write to a read-only buffer");
  }
  const size_t first = static_cast<size_t>(p - buffer->begin) / buffer->element_bytes;
  const size_t last = static_cast<size_t>(p - buffer->begin + bytes - 1) / buffer->element_bytes;
  for (size_t i = first; i <= last; ++i) {
    check_cell(*buffer, buffer->cells[i], p, bytes, kind, code);
  }
}

void Checker::check_cell(Buffer& buffer, Cell& cell, const char* p, size_t bytes, Access kind,
                         const void* code) {
  if (kind != Access::kWrite && buffer.content == Content::kUninitialised && !cell.written) {
    stop(describe("uninitialised", buffer, p, bytes, kind, code));
  }
  const Record now{block_serial(),  block_epoch(), warp_epoch(),
                   position.linear, true,          kind == Access::kAtomic};
  const Record* other = ordered(cell.write, now) ? nullptr : &cell.write;
  if (kind != Access::kRead) {
    for (const Record& read : cell.reads) {
      if (!ordered(read, now)) other = &read;
    }
  }
  if (other != nullptr) {
    stop(describe("race", buffer, p, bytes, kind, code) + " with a " +
         (other == &cell.write ? "write" : "read") + " by block #" + std::to_string(other->block) +
         " thread " + std::to_string(other->thread));
  }
  if (kind == Access::kRead) {  // a read that is ordered before this one needs no memory
    cell.reads[ordered(cell.reads[0], now) ? 0 : 1] = now;
  } else {
    cell.write = now;
    cell.written = true;
  }
}

Checker checker;

}  // namespace

void track(const void* address, size_t bytes, size_t element_bytes, Content content,
           const char* name) {
  checker.buffers.emplace_back(address, bytes, element_bytes, content, name);
}

void forget_buffers() { checker.buffers.clear(); }

void set_checking(bool on) { observer = on ? &checker : nullptr; }

}  // namespace nasp_ext::emulator
