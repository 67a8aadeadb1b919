// SPDX-License-Identifier: MIT
// Arrays that emulated kernels may touch, and the comparison of their bits across thread orders.
#pragma once
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstring>
#include <memory>
#include <random>

#include "../core/host_device.h"
#include "../emulator/checker.h"
#include "../emulator/runtime.h"
#include "testing.h"
#include "variant.h"

namespace nasp_ext::testing {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

// `misaligned` shifts the elements by one, so that no 16-byte access is allowed.
template <class T>
class Array {
 public:
  explicit Array(int64_t size, bool misaligned = false)
      : storage_(new T[static_cast<size_t>(size) + 1]), size_(size), shift_(misaligned ? 1 : 0) {
    std::memset(static_cast<void*>(storage_.get()), 0x7b,
                (static_cast<size_t>(size) + 1) * sizeof(T));
  }
  T* data() const { return storage_.get() + shift_; }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) const { return data()[i]; }

  Array copy() const {
    Array other(size_, shift_ == 1);
    for (int64_t i = 0; i < size_; ++i) other[i] = (*this)[i];
    return other;
  }
  const T* input(const char* name) const { return allow(emulator::Content::kReadOnly, name); }
  T* in_place(const char* name) const { return allow(emulator::Content::kInitialised, name); }
  T* output(const char* name) const { return allow(emulator::Content::kUninitialised, name); }

 private:
  std::unique_ptr<T[]> storage_;
  int64_t size_;
  int shift_;

  T* allow(emulator::Content content, const char* name) const {
    if (checked_build()) {
      emulator::track(data(), static_cast<size_t>(size_) * sizeof(T), sizeof(T), content, name);
    }
    return data();
  }
};

// Equal bits; every NaN counts as the same.
template <class T>
bool same_bits(const Array<T>& a, const Array<T>& b) {
  for (int64_t i = 0; i < a.size(); ++i) {
    const bool both_nan = a[i] != a[i] && b[i] != b[i];
    if (!both_nan && std::memcmp(&a[i], &b[i], sizeof(T)) != 0) return false;
  }
  return a.size() == b.size();
}

// Multiples of 1/4 in [-1, 2]: ties and both clips are frequent.
template <class T>
Array<T> coarse_numbers(int64_t size, unsigned seed, bool misaligned = false) {
  std::mt19937 random(seed);
  Array<T> numbers(size, misaligned);
  for (int64_t i = 0; i < size; ++i) {
    numbers[i] = static_cast<T>(static_cast<float>(static_cast<int>(random() % 13) - 4) / 4.0f);
  }
  return numbers;
}

template <class T>
Array<T> normal_numbers(int64_t size, unsigned seed, bool misaligned = false) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Array<T> numbers(size, misaligned);
  for (int64_t i = 0; i < size; ++i) numbers[i] = static_cast<T>(normal(random));
  return numbers;
}

// Each option exists with probability 3/4; some rows are empty.
inline Array<bool> random_mask(int64_t size, int64_t options, unsigned seed) {
  std::mt19937 random(seed);
  Array<bool> mask(size);
  for (int64_t i = 0; i < size; ++i) mask[i] = i / options % 5 != 4 && random() % 4 != 0;
  return mask;
}

// Runs `launch`, which allows its arrays itself, in several thread orders.
template <class Launch>
void in_every_order(const Launch& launch) {
  const std::string outer = context;
  for (const uint64_t seed : {0, 1, 2, 3, 4}) {
    context = outer + " seed " + std::to_string(seed);
    emulator::forget_buffers();
    emulator::set_checking(checked_build());
    emulator::config.seed = seed;
    try {
      launch();
    } catch (const std::exception& e) {
      emulator::set_checking(false);
      fail(__FILE__, __LINE__, e.what());
    }
    emulator::set_checking(false);
    emulator::config.seed = 0;
  }
  context = outer;
}

template <class T>
const char* type_name();
template <>
inline const char* type_name<float>() {
  return "float";
}
template <>
inline const char* type_name<double>() {
  return "double";
}
template <>
inline const char* type_name<Half>() {
  return "half";
}
template <>
inline const char* type_name<BFloat16>() {
  return "bfloat16";
}

template <class... Parts>
void describe_case(const Parts&... parts) {
  context.clear();
  const auto add = [](const auto& part) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(part)>>) {
      context += std::to_string(part) + " ";
    } else {
      context += std::string(part) + " ";
    }
  };
  (add(parts), ...);
}

// body(T()) for each type the kernels are built for.
template <class Body>
void for_every_type(const Body& body) {
  body(float());
  body(double());
  body(Half());
  body(BFloat16());
}

}  // namespace nasp_ext::testing
