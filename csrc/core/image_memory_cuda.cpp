// SPDX-License-Identifier: MIT
#include "device.h"
#include "image_memory.h"

namespace nasp_ext {

template <>
Tensor new_images<OnCuda>(const Tensor& like, int64_t count, int64_t channels, int64_t height,
                          int64_t width) {
  return empty_images(like, count, channels, height, width);
}

namespace {

Tensor empty_images_like(const Tensor& like, const std::vector<int64_t>& size) {
  check_image_size(like, size, "empty_images");
  const DeviceScope device(like);
  return new_images<OnCuda>(like, size[0], size[1], size[2], size[3]);
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("empty_images", TORCH_BOX(&nasp_ext::empty_images_like));
}
