// SPDX-License-Identifier: MIT
// The block kernels against plain loops in double, the same bits in every order of threads.
#include "../norm/norm_kernel.h"
#include "block_testing.h"

namespace {

using namespace nasp_ext;
using namespace nasp_ext::testing;

// The bits of the first order of threads, kept in `first`.
template <class T>
void check_again(const Array<T>& a, const Array<T>& b, std::vector<Array<T>>& first) {
  if (first.empty()) {
    first.push_back(a.copy());
    first.push_back(b.copy());
  }
  CHECK(same_bits(a, first[0]));
  CHECK(same_bits(b, first[1]));
}

template <class T>
void check_forward(const BlockCase<T>& c) {
  const BlockGeometry& g = c.g;
  const int64_t pixels = g.out_pixels(), channels = g.out_channels;
  const int64_t tiles = tiles_of(pixels, kTilePixels);
  const Array<T> grad = normal_numbers<T>(pixels * c.z_pitch, 6);
  const Array<T> weight = normal_numbers<T>(channels, 7), bias = normal_numbers<T>(channels, 8);
  const auto expected = c.z();
  std::vector<double> rows(static_cast<size_t>(5 * channels)), dots(static_cast<size_t>(channels));
  for (int64_t k = 0; k < channels; ++k) {
    double sum = 0, squares = 0;
    for (int64_t p = 0; p < pixels; ++p) sum += expected[static_cast<size_t>(p * channels + k)];
    const double mean = sum / pixels;
    for (int64_t p = 0; p < pixels; ++p) {
      const double apart = expected[static_cast<size_t>(p * channels + k)] - mean;
      squares += apart * apart;
      dots[static_cast<size_t>(k)] += static_cast<double>(grad[p * c.z_pitch + k]) * apart;
    }
    const double var = squares / pixels, rstd = 1 / std::sqrt(var + 1e-5), scale = rstd * weight[k];
    double grads = 0;
    for (int64_t p = 0; p < pixels; ++p) grads += grad[p * c.z_pitch + k];
    dots[static_cast<size_t>(k)] = dots[static_cast<size_t>(k)] * scale + grads * bias[k];
    const double values[] = {mean, var, rstd, scale, bias[k] - mean * scale};
    for (int row = 0; row < 5; ++row) rows[static_cast<size_t>(row * channels + k)] = values[row];
  }
  std::vector<Array<T>> first;
  in_every_order([&] {
    const Array<T> z(pixels * channels), sums(kSumRows * tiles * channels), norm(5 * channels);
    const Array<double> contributions(channels);
    BlockForwards<T> blocks{};
    blocks.block[0] = {g,
                       c.x_pitch,
                       c.z_pitch,
                       c.weights_input(),
                       c.x.input("x"),
                       c.with_norm ? c.in_norm.input("in_norm") : nullptr,
                       z.output("z"),
                       grad.input("grad"),
                       sums.output("sums")};
    launch_block_forward(blocks, 1, nullptr);
    CHECK(close(z, expected, kClose<T>));
    FinishNorms<T> finish{};
    FinishNorm<T>& f = finish.norm[0];
    f.sums = sums.data();
    f.dots = sums.data() + kMomentRows * tiles * channels;
    f.weight = weight.input("weight");
    f.bias = bias.input("bias");
    f.norm = norm.output("norm");
    f.contributions = contributions.output("contributions");
    f.eps = 1e-5;
    f.pixels = pixels;
    f.tile_pixels = kTilePixels;
    f.channels = g.out_channels;
    launch_finish_norms(finish, 1, nullptr);
    CHECK(close(norm, rows, 5 * kClose<T>));
    CHECK(close(contributions, dots, 5 * kClose<T>));
    check_again(z, norm, first);
  });
}

// Behind no BN, so that the gradient of z is `grad` times the factors.
template <class T>
void check_backward(const BlockCase<T>& c) {
  const BlockGeometry& g = c.g;
  const int64_t in = g.in_pixels() * g.in_channels;
  const Array<T> grad = normal_numbers<T>(g.out_pixels() * c.z_pitch, 6);
  const Array<T> z = normal_numbers<T>(g.out_pixels() * g.out_channels, 7);
  const Array<T> factors = normal_numbers<T>(g.images, 8), base = normal_numbers<T>(in, 9);
  const auto gz = [&](int64_t p, int channel) {
    const int64_t image = p / (g.out_height * g.out_width);
    return static_cast<double>(grad[p * c.z_pitch + channel]) * static_cast<double>(factors[image]);
  };
  std::vector<double> products(static_cast<size_t>(c.product_size() * g.parts));
  std::vector<double> activated(static_cast<size_t>(in)),
      taps(static_cast<size_t>(c.depthwise.size()));
  std::vector<double> between(static_cast<size_t>(g.out_pixels() * g.in_channels));
  c.for_products(
      [&](int64_t p, int channel, double v, int part, int o, int i, int tap, int64_t at) {
        const int64_t w =
            part * c.product_size() + (int64_t{o} * g.in_channels + i) * g.product_taps() + tap;
        products[static_cast<size_t>(w)] += v * gz(p, channel);
        (g.depthwise ? between : activated)[static_cast<size_t>(at * g.in_channels + i)] +=
            c.weight(part, o, i, tap) * gz(p, channel);
      });
  if (g.depthwise)
    c.for_taps([&](int64_t p, int64_t q, int, int tap) {
      for (int i = 0; i < g.in_channels; ++i) {
        const double d = between[static_cast<size_t>(p * g.in_channels + i)];
        activated[static_cast<size_t>(q * g.in_channels + i)] +=
            d * static_cast<double>(c.depthwise[int64_t{i} * g.taps() + tap]);
        taps[static_cast<size_t>(int64_t{i} * g.taps() + tap)] += d * c.activated(q, i);
      }
    });
  std::vector<double> out(static_cast<size_t>(in)), sums(static_cast<size_t>(2 * g.in_channels));
  for (int64_t q = 0; q < g.in_pixels(); ++q)
    for (int i = 0; i < g.in_channels; ++i) {
      const auto k = static_cast<size_t>(q * g.in_channels + i);
      const double d = c.activated(q, i) > 0 ? activated[k] : 0;
      const double mean = c.with_norm ? c.in_norm[i] : 0;
      const double rstd = c.with_norm ? c.in_norm[2 * g.in_channels + i] : 1;
      out[k] = d + static_cast<double>(base[static_cast<int64_t>(k)]);
      sums[static_cast<size_t>(i)] += d;
      sums[static_cast<size_t>(g.in_channels + i)] += d * (c.x[q * c.x_pitch + i] - mean) * rstd;
    }
  std::vector<Array<T>> first;
  in_every_order([&] {
    const int64_t tiles = tiles_of(g.in_pixels(), kTilePixels);
    const int splits = product_splits<T>(g), tap_splits = depthwise_splits<T>(g);
    const Array<T> spread(g.out_pixels() * g.in_channels), to(in),
        in_sums(tiles * 2 * g.in_channels);
    const Array<T> products_pieces(splits * static_cast<int64_t>(products.size()));
    const Array<T> taps_pieces(tap_splits * c.depthwise.size());
    BlockBackwards<T> blocks{};
    BlockBackward<T>& b = blocks.block[0];
    b.shape = g;
    b.x_pitch = c.x_pitch;
    b.grad_pitch = c.z_pitch;
    b.z_pitch = g.out_channels;
    b.out_pitch = b.base_pitch = g.in_channels;
    b.weights = c.weights_input();
    b.grad = grad.input("grad");
    b.factors = factors.input("factors");
    b.z = z.input("z");
    b.x = c.x.input("x");
    b.in_norm = c.with_norm ? c.in_norm.input("in_norm") : nullptr;
    b.between = spread.output("between");
    b.out = to.output("out");
    b.base = base.input("base");
    b.in_sums = in_sums.output("in_sums");
    b.grad_products = products_pieces.output("products");
    b.grad_depthwise = g.depthwise ? taps_pieces.output("taps") : nullptr;
    b.product_splits = splits;
    b.depthwise_splits = tap_splits;
    launch_product_backward(blocks, 1, nullptr);
    if (g.depthwise) launch_depthwise_backward(blocks, 1, nullptr);
    const Array<T> total(static_cast<int64_t>(products.size())), taps_total(c.depthwise.size());
    const Array<double> sums_total(2 * g.in_channels);
    SumsOfRows<T> rows{};
    rows.sum[0] = {b.grad_products,       splits, total.size(), total.size(),
                   total.output("total"), nullptr};
    rows.sum[1] = {b.in_sums,         tiles,   sums_total.size(),
                   sums_total.size(), nullptr, sums_total.output("sums")};
    rows.sum[2] = {b.grad_depthwise,
                   tap_splits,
                   taps_total.size(),
                   taps_total.size(),
                   taps_total.output("taps total"),
                   nullptr};
    launch_sums_of_rows(rows, g.depthwise ? 3 : 2, nullptr);
    CHECK(close(to, out, kClose<T>));
    CHECK(close(total, products, kClose<T>));
    CHECK(close(sums_total, sums, kClose<T>));
    if (g.depthwise) CHECK(close(taps_total, taps, kClose<T>));
    check_again(to, total, first);
  });
}

}  // namespace

TEST(a_block_and_its_norm_on_the_device_are_those_of_plain_loops) {
  for (const BlockGeometry& g : block_geometries()) {
    check_forward(BlockCase<float>(g, true));
    check_forward(BlockCase<double>(g, false));
  }
}

TEST(the_gradients_of_a_block_on_the_device_are_those_of_plain_loops) {
  for (const BlockGeometry& g : block_geometries()) {
    check_backward(BlockCase<float>(g, true));
    check_backward(BlockCase<double>(g, false));
  }
}
