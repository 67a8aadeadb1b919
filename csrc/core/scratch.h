// SPDX-License-Identifier: MIT
// Images over threads, and scratch memory that a thread keeps between calls.
#pragma once

#include <algorithm>
#include <new>

#include "lines.h"
#include "parallel.h"
#include "pixels.h"

namespace nasp_ext {

// How many pieces a batch is worked on in; fixed for a number of threads, so that sums are too.
inline int64_t image_chunks(int64_t images) {
  const auto threads = static_cast<int64_t>(torch::stable::get_num_threads());
  return std::max<int64_t>(1, std::min(images, threads));
}

// body(chunk, first image, image after the last) in threads.
template <class Body>
void for_image_chunks(int64_t images, const Body& body) {
  const int64_t chunks = image_chunks(images);
  const auto range = [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) body(c, images * c / chunks, images * (c + 1) / chunks);
  };
  if (chunks == 1)
    range(0, 1);
  else
    parallel_for(0, chunks, 1, range);
}

// Memory of one thread, handed out in pieces that start on a cache line; kept for the next call.
// The thread that calls an operator may hold one piece of each kind at a time.
enum class ScratchKind { kOwn, kShared };

template <ScratchKind kKind>
class KeptMemory {
 public:
  explicit KeptMemory(int64_t bytes) : next_(memory(bytes + kCacheLine)) {}

  template <class T>
  T* take(int64_t count) {
    T* const piece = reinterpret_cast<T*>(next_);
    next_ += whole_lines(count * static_cast<int64_t>(sizeof(T)));
    return piece;
  }
  template <class T>
  static int64_t bytes(int64_t count) {
    return count * static_cast<int64_t>(sizeof(T)) + kCacheLine;
  }

 private:
  static char* memory(int64_t bytes) {
    thread_local Lines kept;
    thread_local int64_t size = 0;
    if (size < bytes) {
      kept.reset();
      size = 0;
      kept = new_lines(bytes);
      if (!kept) throw std::bad_alloc();
      size = whole_lines(bytes);
    }
    return static_cast<char*>(kept.get());
  }

  char* next_;
};

using Scratch = KeptMemory<ScratchKind::kOwn>;           // inside a chunk of images
using SharedScratch = KeptMemory<ScratchKind::kShared>;  // of a call, seen by all its threads

// A scratch image with a border, see Blocked.
template <class T>
struct BlockedScratch {
  int64_t block, row, size;
  BlockedScratch(int64_t height, int64_t width, int64_t channels_pad, int64_t lanes)
      : block(height * width * lanes), row(width * lanes), size(height * width * channels_pad) {}
  Blocked<T> zeroed(Scratch& scratch) const {
    T* const data = scratch.take<T>(size);
    std::fill(data, data + size, T(0));
    return {data, block, row};
  }
};

template <class T>
Blocked<const T> readable(const Blocked<T>& image) {
  return {image.data, image.block, image.row};
}

}  // namespace nasp_ext
