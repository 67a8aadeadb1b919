// SPDX-License-Identifier: MIT
#include "image_memory.h"

#include <torch/csrc/stable/device.h>

#include <algorithm>
#include <list>
#include <mutex>
#include <unordered_map>

#include "lines.h"
#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace nasp_ext {
namespace {

constexpr int64_t kSmallest = int64_t(64) << 10;  // below, malloc itself reuses its memory

// Every function leaves the counts as they were if it throws.
class Memory {
 public:
  void* take(int64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    void* data = taken_from_unused(bytes);
    if (data == nullptr) {
      drop_until(std::max(most_, in_use_ + bytes) - in_use_ - bytes);
      Lines fresh = new_lines(bytes);
      if (!fresh) {  // what is kept may be what is missing
        drop_until(0);
        fresh = new_lines(bytes);
      }
      if (!fresh)
        throw std::runtime_error("not enough memory: you tried to allocate " +
                                 std::to_string(bytes) + " bytes for a batch of images");
      sizes_.emplace(fresh.get(), bytes);
      data = fresh.release();
    }
    in_use_ += bytes;
    most_ = std::max(most_, in_use_);
    return data;
  }

  // Called by destructors, so it never throws: what there is no room to note is freed.
  void give(void* data) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = sizes_.find(data);
    const int64_t bytes = found->second;
    sizes_.erase(found);
    in_use_ -= bytes;
    try {
      keep(data, bytes);
    } catch (const std::bad_alloc&) {
      DeleteLines()(data);
    }
  }

  int64_t release() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t bytes = unused_bytes_;
    drop_until(0);
    most_ = in_use_;
    return bytes;
  }

  // Around a fork: the child finds the lists whole and the mutex free, whoever was at work here.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  struct Piece {
    void* data;
    int64_t bytes;
  };

  // nullptr: none of this size is unused.
  void* taken_from_unused(int64_t bytes) {
    const auto found = free_.find(bytes);
    if (found == free_.end() || found->second.empty()) return nullptr;
    const auto place = found->second.back();
    void* const data = place->data;
    sizes_.emplace(data, bytes);  // first, for it may throw
    found->second.pop_back();
    unused_.erase(place);
    unused_bytes_ -= bytes;
    return data;
  }

  void keep(void* data, int64_t bytes) {
    auto& free = free_[bytes];
    unused_.push_back({data, bytes});
    try {
      free.push_back(std::prev(unused_.end()));
    } catch (const std::bad_alloc&) {
      unused_.pop_back();
      throw;
    }
    unused_bytes_ += bytes;
  }

  // Frees the pieces that were unused for longest, until no more than `bytes` are left.
  void drop_until(int64_t bytes) {
    while (unused_bytes_ > bytes) {
      const auto oldest = unused_.begin();
      auto& free = free_.find(oldest->bytes)->second;
      free.erase(std::find(free.begin(), free.end(), oldest));
      unused_bytes_ -= oldest->bytes;
      DeleteLines()(oldest->data);
      unused_.erase(oldest);
    }
  }

  std::mutex mutex_;
  std::list<Piece> unused_;  // in the order in which they became so
  std::unordered_map<int64_t, std::vector<std::list<Piece>::iterator>> free_;
  std::unordered_map<void*, int64_t> sizes_;
  int64_t in_use_ = 0, most_ = 0, unused_bytes_ = 0;
};

Memory& memory();

// Never destroyed: tensors may outlive static objects.
Memory* make_memory() {
#if !defined(_WIN32)
  const auto unlock = [] { memory().unlock(); };
  if (pthread_atfork([] { memory().lock(); }, unlock, unlock) != 0) throw std::bad_alloc();
#endif
  return new Memory;
}

Memory& memory() {
  static Memory* const kept = make_memory();
  return *kept;
}

// Made while the library is loaded: a fork in the middle of the first call would leave the child a
// half-made one.
[[maybe_unused]] const Memory& made_early = memory();

void give_back(void* data) { memory().give(data); }

}  // namespace

template <>
Tensor new_images<OnCpu>(const Tensor& like, int64_t count, int64_t channels, int64_t height,
                         int64_t width) {
  const ScalarType dtype = like.scalar_type();
  const int64_t element = dtype == ScalarType::Double ? 8 : 4;
  const int64_t bytes = whole_lines(count * channels * height * width * element);
  const bool known = dtype == ScalarType::Double || dtype == ScalarType::Float;
  if (!known || bytes < kSmallest) return empty_images(like, count, channels, height, width);
  const int64_t sizes[] = {count, channels, height, width};
  const int64_t strides[] = {height * width * channels, 1, width * channels, channels};
  return torch::stable::from_blob(memory().take(bytes), {sizes, 4}, {strides, 4},
                                  torch::stable::Device(torch::headeronly::DeviceType::CPU), dtype,
                                  &give_back);
}

namespace {

Tensor empty_images_like(const Tensor& like, const std::vector<int64_t>& size) {
  check_image_size(like, size, "empty_images");
  return new_images<OnCpu>(like, size[0], size[1], size[2], size[3]);
}

// Gives unused memory back; returns the bytes.
int64_t release_memory() { return memory().release(); }

}  // namespace

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("empty_images", TORCH_BOX(&nasp_ext::empty_images_like));
}
STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CompositeExplicitAutograd, m) {
  m.impl("release_memory", TORCH_BOX(&nasp_ext::release_memory));
}
