// SPDX-License-Identifier: MIT
#include "image_memory.h"

#include <torch/csrc/stable/device.h>

#include <algorithm>
#include <cstdlib>
#include <list>
#include <mutex>
#include <unordered_map>

namespace nasp_ext {
namespace {

constexpr int64_t kLine = 64;
constexpr int64_t kSmallest = int64_t(64) << 10;  // below, malloc itself reuses its memory

class Memory {
 public:
  void* take(int64_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    in_use_ += bytes;
    most_ = std::max(most_, in_use_);
    auto& free = free_[bytes];
    if (!free.empty()) {
      const auto place = free.back();
      free.pop_back();
      void* const data = place->data;
      unused_.erase(place);
      unused_bytes_ -= bytes;
      sizes_[data] = bytes;
      return data;
    }
    drop_until(most_ - in_use_);
    void* const data = std::aligned_alloc(kLine, static_cast<size_t>(bytes));
    if (data == nullptr) {
      in_use_ -= bytes;
      throw std::bad_alloc();
    }
    sizes_[data] = bytes;
    return data;
  }

  void give(void* data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = sizes_.find(data);
    const int64_t bytes = found->second;
    sizes_.erase(found);
    in_use_ -= bytes;
    unused_.push_back({data, bytes});
    free_[bytes].push_back(std::prev(unused_.end()));
    unused_bytes_ += bytes;
  }

  int64_t release() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t bytes = unused_bytes_;
    drop_until(0);
    most_ = in_use_;
    return bytes;
  }

 private:
  struct Piece {
    void* data;
    int64_t bytes;
  };

  // Frees the pieces that were unused for longest, until no more than `bytes` are left.
  void drop_until(int64_t bytes) {
    while (unused_bytes_ > bytes) {
      const auto oldest = unused_.begin();
      auto& free = free_[oldest->bytes];
      free.erase(std::find(free.begin(), free.end(), oldest));
      unused_bytes_ -= oldest->bytes;
      std::free(oldest->data);
      unused_.erase(oldest);
    }
  }

  std::mutex mutex_;
  std::list<Piece> unused_;  // in the order in which they became so
  std::unordered_map<int64_t, std::vector<std::list<Piece>::iterator>> free_;
  std::unordered_map<void*, int64_t> sizes_;
  int64_t in_use_ = 0, most_ = 0, unused_bytes_ = 0;
};

Memory& memory() {
  static Memory* const kept = new Memory;  // never destroyed: tensors may outlive static objects
  return *kept;
}

void give_back(void* data) { memory().give(data); }

Tensor empty_images_like(const Tensor& like, const std::vector<int64_t>& size) {
  check_image_size(size, "empty_images");
  return kept_images(like, size[0], size[1], size[2], size[3]);
}

}  // namespace

Tensor kept_images(const Tensor& like, int64_t count, int64_t channels, int64_t height,
                   int64_t width) {
  const ScalarType dtype = like.scalar_type();
  const int64_t element = dtype == ScalarType::Double ? 8 : 4;
  const int64_t bytes = (count * channels * height * width * element + kLine - 1) / kLine * kLine;
  const bool known = dtype == ScalarType::Double || dtype == ScalarType::Float;
  if (!known || bytes < kSmallest) return empty_images(like, count, channels, height, width);
  const int64_t sizes[] = {count, channels, height, width};
  const int64_t strides[] = {height * width * channels, 1, width * channels, channels};
  return torch::stable::from_blob(memory().take(bytes), {sizes, 4}, {strides, 4},
                                  torch::stable::Device(torch::headeronly::DeviceType::CPU), dtype,
                                  &give_back);
}

int64_t release_memory() { return memory().release(); }

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CPU, m) {
  m.impl("empty_images", TORCH_BOX(&nasp_ext::empty_images_like));
}
STABLE_TORCH_LIBRARY_IMPL(nasp_ext, CompositeExplicitAutograd, m) {
  m.impl("release_memory", TORCH_BOX(&nasp_ext::release_memory));
}
