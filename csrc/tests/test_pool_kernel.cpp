// SPDX-License-Identifier: MIT
// The pool kernels against plain loops, the same bits in every order of threads.
#include "../norm/norm_kernel.h"
#include "../pool/pool_kernel.h"
#include "block_testing.h"

namespace {

using namespace nasp_ext;
using namespace nasp_ext::testing;

PoolGeometry pool(int images, int channels, int height, int width, int kernel, int stride,
                  bool max) {
  return {images, channels, height,     width, (height - 1) / stride + 1, (width - 1) / stride + 1,
          kernel, stride,   kernel / 2, max};
}

// body(output pixel, input pixel) of every pixel of every window, windows and pixels in reading
// order.
template <class Body>
void for_windows(const PoolGeometry& g, const Body& body) {
  for (int64_t p = 0; p < g.out_pixels(); ++p) {
    const int x = static_cast<int>(p % g.out_width),
              y = static_cast<int>(p / g.out_width % g.out_height);
    const int64_t image = p / (int64_t{g.out_width} * g.out_height);
    for (int v = y * g.stride - g.pad; v < y * g.stride - g.pad + g.kernel; ++v)
      for (int u = x * g.stride - g.pad; u < x * g.stride - g.pad + g.kernel; ++u)
        if (v >= 0 && v < g.height && u >= 0 && u < g.width)
          body(p, (image * g.height + v) * g.width + u);
  }
}

// What plain loops make of coarse numbers: many ties. Gradients are those behind no BN.
template <class T>
struct Expected {
  std::vector<double> z, out;

  Expected(const PoolGeometry& g, const Array<T>& x, const Array<T>& grad)
      : z(static_cast<size_t>(g.out_pixels() * g.channels)),
        out(static_cast<size_t>(g.in_pixels() * g.channels)) {
    for (int c = 0; c < g.channels; ++c) {
      std::vector<int64_t> size(static_cast<size_t>(g.out_pixels())), place(size.size(), -1);
      std::vector<double> sum(size.size());
      for_windows(g, [&](int64_t p, int64_t q) {
        const auto k = static_cast<size_t>(p);
        const double value = x[q * g.channels + c];
        ++size[k];
        sum[k] += value;
        if (place[k] < 0 || value > static_cast<double>(x[place[k] * g.channels + c])) place[k] = q;
      });
      for (size_t p = 0; p < size.size(); ++p) {
        const double most = x[place[p] * g.channels + c];
        z[p * g.channels + c] = g.max ? most : sum[p] / static_cast<double>(size[p]);
      }
      for_windows(g, [&](int64_t p, int64_t q) {
        const auto k = static_cast<size_t>(p);
        const double share = g.max ? place[k] == q : 1.0 / static_cast<double>(size[k]);
        out[static_cast<size_t>(q * g.channels + c)] += share * grad[p * g.channels + c];
      });
    }
  }
};

template <class T>
void check_pool(const PoolGeometry& g, int grad_count) {
  describe_case(type_name<T>(), "pool of", g.images, g.channels, g.height, g.width, "kernel",
                g.kernel, "stride", g.stride, "max", g.max);
  const Array<T> x = coarse_numbers<T>(g.in_pixels() * g.channels, 1);
  const Array<T> grad = coarse_numbers<T>(g.out_pixels() * g.channels, 2);
  const Expected<T> expected(g, x, grad);
  const int64_t tiles = tiles_of(g.out_pixels(), kTilePixels);
  std::vector<double> mean(static_cast<size_t>(g.channels)), dots(mean.size());
  for (size_t i = 0; i < expected.z.size(); ++i) {
    mean[i % mean.size()] += expected.z[i] / static_cast<double>(g.out_pixels());
    dots[i % mean.size()] += expected.z[i] * static_cast<double>(grad[static_cast<int64_t>(i)]);
  }
  std::vector<Array<T>> first;
  in_every_order([&] {
    const Array<T> z(g.out_pixels() * g.channels), out(g.in_pixels() * g.channels);
    const Array<T> sums(kMomentRows * tiles * g.channels),
        of_dots(grad_count * 2 * tiles * g.channels);
    PoolForwards<T> forwards{};
    PoolForward<T>& f = forwards.pool[0];
    f = {g,  g.channels, x.input("x"), z.output("z"), sums.output("sums"), of_dots.output("dots"),
         {}, {},         grad_count};
    const T* const read = grad.input("grad");
    for (int i = 0; i < grad_count; ++i) {
      f.grads[i] = read;
      f.grad_pitches[i] = g.channels;
    }
    launch_pool_forward(forwards, 1, nullptr);
    CHECK(close(z, expected.z, kClose<T>));
    const Array<T> norm(5 * g.channels);
    const Array<double> contributions(g.channels), plain(g.channels);
    FinishNorms<T> finish{};
    for (FinishNorm<T>& n : finish.norm) {
      n.sums = sums.data();
      n.dots = of_dots.data() + (grad_count - 1) * 2 * tiles * g.channels;
      n.pixels = g.out_pixels();
      n.tile_pixels = kTilePixels;
      n.channels = g.channels;
    }
    finish.norm[0].norm = norm.output("norm");
    finish.norm[0].contributions = contributions.output("contributions");
    finish.norm[1].contributions = plain.output("without a BN");
    launch_finish_norms(finish, 2, nullptr);
    for (int c = 0; c < g.channels; ++c) {
      CHECK(std::fabs(static_cast<double>(norm[c]) - mean[static_cast<size_t>(c)]) < 1e-5);
    }
    CHECK(close(plain, dots, 5 * kClose<T>));

    PoolBackward<T> b{};
    b.shape = g;
    b.x_pitch = b.grad_pitch = b.z_pitch = b.out_pitch = g.channels;
    b.grad = grad.input("grad again");
    b.z = z.data();
    b.x = x.input("x again");
    b.out = out.output("out");
    launch_pool_backward(b, nullptr);
    CHECK(close(out, expected.out, kClose<T>));
    if (first.empty()) first.push_back(norm.copy());
    CHECK(same_bits(norm, first[0]));
  });
}

}  // namespace

TEST(pools_on_the_device_are_those_of_plain_loops) {
  for (const bool max : {true, false}) {
    check_pool<float>(pool(2, 5, 7, 9, 3, 1, max), kGradsOfPool);
    check_pool<double>(pool(1, 33, 9, 10, 3, 2, max), 1);
    check_pool<float>(pool(1, 3, 6, 5, 5, 3, max), 2);
    check_pool<float>(pool(1, 259, 2, 1, 1, 1, max), 1);  // more channels than threads
  }
}
