// SPDX-License-Identifier: MIT
// Batches of images in NHWC memory: PyTorch's channels_last tensors and slices of their channels.
#pragma once

#include <vector>

#include "checks.h"

namespace nasp_ext {

struct Images {
  int64_t count, channels, height, width, pitch;
  int64_t pixels() const { return height * width; }
};

// Strides of dimensions of size 1 mean nothing.
inline Images as_images(const Tensor& t,  // (N, C, H, W)
                        const char* op, const char* name) {
  if (t.dim() != 4) fail(op, ": expected ", name, " of shape (N, C, H, W), found ", shape_text(t));
  Images im{t.size(0), t.size(1), t.size(2), t.size(3), 0};
  im.pitch = im.width > 1    ? t.stride(3)
             : im.height > 1 ? t.stride(2)
             : im.count > 1  ? t.stride(0)
                             : im.channels;
  const bool dense = (im.channels == 1 || t.stride(1) == 1) &&
                     (im.height == 1 || t.stride(2) == im.width * im.pitch) &&
                     (im.count == 1 || t.stride(0) == im.height * im.width * im.pitch);
  if (t.numel() && (!dense || im.pitch < im.channels))
    fail(op, ": expected ", name,
         " in channels_last memory or as a slice of its channels, found other strides; convert it "
         "with .contiguous(memory_format=torch.channels_last)");
  return im;
}

// The images that an operator's other tensors are compared with: of a type that the kernels know.
inline Images as_first_images(const Tensor& t, const char* op, const char* name) {
  const Images images = as_images(t, op, name);
  if (t.scalar_type() != ScalarType::Float && t.scalar_type() != ScalarType::Double)
    fail(op, ": expected ", name, " in float32 or float64, found ",
         torch::headeronly::toString(t.scalar_type()));
  return images;
}

// Where a window slides over images; only the batch may be empty.
inline void check_pixels(const Images& images, const char* op, const char* name) {
  if (images.channels < 1 || images.height < 1 || images.width < 1)
    fail(op, ": expected ", name, " of at least one channel and one pixel, found (", images.count,
         ", ", images.channels, ", ", images.height, ", ", images.width, ")");
  check_sizes({images.channels, images.height, images.width}, sizeof(double), op);
}

// (N, C, H, W) of new images in the dtype of `like`.
inline void check_image_size(const Tensor& like,  // any
                             const std::vector<int64_t>& size, const char* op) {
  if (size.size() != 4) fail(op, ": expected a size (N, C, H, W), found ", size.size(), " numbers");
  const auto element = static_cast<int64_t>(like.element_size());
  check_sizes({size[0], size[1], size[2], size[3]}, element, op);
}

// What is written must not be read as something else.
inline void check_apart(const Tensor& out, const Images& to, const Tensor& t, const Images& from,
                        const char* op, const char* name) {
  if (out.numel() == 0 || t.numel() == 0) return;
  const auto bytes = static_cast<int64_t>(out.element_size());
  const auto last = [](const Images& i) {
    return (i.count * i.pixels() - 1) * i.pitch + i.channels;
  };
  const int64_t apart = (reinterpret_cast<intptr_t>(t.const_data_ptr()) -
                         reinterpret_cast<intptr_t>(out.const_data_ptr())) /
                        bytes;
  if (apart >= last(to) || -apart >= last(from)) return;
  // Slices of the channels of one tensor lie between one another.
  const int64_t channel = to.pitch == from.pitch ? (apart % to.pitch + to.pitch) % to.pitch : 0;
  if (channel >= to.channels && channel + from.channels <= to.pitch) return;
  fail(op, ": expected out in memory of its own, found that it overlaps with ", name);
}

// The same for what is added to it pixel by pixel: it may be `out` itself.
inline void check_apart_or_same(const Tensor& out, const Images& to, const Tensor& t,
                                const Images& from, const char* op, const char* name) {
  if (t.const_data_ptr() == out.const_data_ptr() && to.pitch == from.pitch) return;
  check_apart(out, to, t, from, op, name);
}

inline Tensor empty_images(const Tensor& like, int64_t count, int64_t channels, int64_t height,
                           int64_t width) {
  const int64_t sizes[] = {count, channels, height, width};
  const int64_t strides[] = {height * width * channels, 1, width * channels, channels};
  return empty_strided_on(like, 4, sizes, strides, like.scalar_type());
}

// Calls body(T()) for float32 and float64, the types of the fused kernels.
template <class Body>
auto dispatch_single_double(ScalarType dtype, const char* op, Body&& body) {
  if (dtype == ScalarType::Float) return body(float());
  if (dtype == ScalarType::Double) return body(double());
  fail(op, ": expected float32 or float64, found ", torch::headeronly::toString(dtype));
}

inline void check_images(const Images& found, int64_t count, int64_t channels, int64_t height,
                         int64_t width, const char* op, const char* name) {
  if (found.count != count || found.channels != channels || found.height != height ||
      found.width != width)
    fail(op, ": expected ", name, " of shape (", count, ", ", channels, ", ", height, ", ", width,
         "), found (", found.count, ", ", found.channels, ", ", found.height, ", ", found.width,
         ")");
}

inline void check_same_images(const Images& found, const Images& expected, const char* op,
                              const char* name) {
  check_images(found, expected.count, expected.channels, expected.height, expected.width, op, name);
}

}  // namespace nasp_ext
