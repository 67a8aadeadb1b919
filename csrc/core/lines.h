// SPDX-License-Identifier: MIT
// Memory that starts on a cache line, on every system: std::aligned_alloc is not everywhere.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace nasp_ext {

constexpr int64_t kCacheLine = 64;

constexpr int64_t whole_lines(int64_t bytes) {
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

struct DeleteLines {
  void operator()(void* data) const noexcept {
    ::operator delete(data, std::align_val_t(kCacheLine));
  }
};
using Lines = std::unique_ptr<void, DeleteLines>;

// Empty if there is not enough memory.
inline Lines new_lines(int64_t bytes) noexcept {
  return Lines(::operator new(static_cast<size_t>(whole_lines(bytes)), std::align_val_t(kCacheLine),
                              std::nothrow));
}

}  // namespace nasp_ext
