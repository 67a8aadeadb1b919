// SPDX-License-Identifier: MIT
// Batches of images in NHWC memory: PyTorch's channels_last tensors and slices of their channels.
#pragma once

#include "../common/tensors.h"
#include "block.h"

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

inline void check_like(const Tensor& t, const Tensor& like, const char* op, const char* name) {
  if (t.scalar_type() != like.scalar_type())
    fail(op, ": expected ", name, " in ", torch::headeronly::toString(like.scalar_type()),
         ", found ", torch::headeronly::toString(t.scalar_type()));
  check_device(t, like, op, name);
}

inline void check_images(const Images& found, int64_t count, int64_t channels, int64_t height,
                         int64_t width, const char* op, const char* name) {
  if (found.count != count || found.channels != channels || found.height != height ||
      found.width != width)
    fail(op, ": expected ", name, " of shape (", count, ", ", channels, ", ", height, ", ", width,
         "), found (", found.count, ", ", found.channels, ", ", found.height, ", ", found.width,
         ")");
}

}  // namespace nasp_ext
