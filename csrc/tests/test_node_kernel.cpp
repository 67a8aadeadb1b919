// SPDX-License-Identifier: MIT
// Node sums, running statistics and totals against plain loops, the same bits in every order of
// threads.
#include "../node/node_kernel.h"
#include "../norm/norm_kernel.h"
#include "../update_statistics/update_statistics_kernel.h"
#include "block_testing.h"

namespace {

using namespace nasp_ext;
using namespace nasp_ext::testing;

// Term e has a norm unless e is 1, and pixels of a pitch of e more than the channels.
template <class T>
struct Node {
  int count, channels;
  int64_t images, pixels;
  std::vector<Array<T>> z, norms;
  Array<T> factors;

  Node(int count_, int channels_, int64_t images_, int64_t pixels_of_image)
      : count(count_),
        channels(channels_),
        images(images_),
        pixels(images_ * pixels_of_image),
        factors(normal_numbers<T>(count_ * images_, 3)) {
    describe_case(type_name<T>(), "node of", count, channels, images, pixels_of_image);
    for (int e = 0; e < count; ++e) {
      z.push_back(normal_numbers<T>(pixels * (channels + e), 10 + static_cast<unsigned>(e)));
      norms.push_back(normal_numbers<T>(5 * channels, 50 + static_cast<unsigned>(e)));
    }
  }
  NodeTerms<T> input() const {
    NodeTerms<T> n{};
    for (int e = 0; e < count; ++e) {
      n.term[e] = {z[e].input("z"), e == 1 ? nullptr : norms[e].input("norm"), channels + e};
    }
    n.count = count;
    n.channels = channels;
    n.pixels = pixels;
    n.pixels_of_image = pixels / images;
    n.factors = factors.input("factors");
    n.images = images;
    return n;
  }
  double factor(int e, int64_t pixel) const {
    return factors[e * images + pixel / (pixels / images)];
  }
  double term(int e, int64_t pixel, int c) const { return z[e][pixel * (channels + e) + c]; }
  double row(int e, int number, int c) const { return norms[e][number * channels + c]; }
};

template <class T>
void check_node(int count, int channels, int64_t images, int64_t pixels_of_image) {
  const Node<T> node(count, channels, images, pixels_of_image);
  const Array<T> grad = normal_numbers<T>(node.pixels * channels, 4);
  const bool with_base = count % 2 > 0;
  std::vector<double> sum(static_cast<size_t>(node.pixels * channels));
  for (int64_t i = 0; with_base && i < node.pixels * channels; ++i)
    sum[static_cast<size_t>(i)] = static_cast<double>(grad[i]);
  std::vector<double> grads(static_cast<size_t>(count * 2 * channels));
  for (int e = 0; e < count; ++e)
    for (int64_t p = 0; p < node.pixels; ++p)
      for (int c = 0; c < channels; ++c) {
        const double v = node.term(e, p, c), f = node.factor(e, p);
        const double g = f * static_cast<double>(grad[p * channels + c]);
        sum[static_cast<size_t>(p * channels + c)] +=
            f * (e == 1 ? v : v * node.row(e, 3, c) + node.row(e, 4, c));
        grads[static_cast<size_t>(e * 2 * channels + c)] += g;
        grads[static_cast<size_t>((e * 2 + 1) * channels + c)] +=
            g * (e == 1 ? v : (v - node.row(e, 0, c)) * node.row(e, 2, c));
      }
  std::vector<Array<double>> first;
  in_every_order([&] {
    const Array<T> out(node.pixels * channels);
    launch_node_sum(node.input(), out.output("out"), channels,
                    with_base ? grad.input("base") : nullptr, channels, nullptr);
    CHECK(close(out, sum, kClose<T>));
    const int64_t tiles = (node.pixels + kNodeTile - 1) / kNodeTile, size = count * 2 * channels;
    const Array<T> rows(tiles * size);
    const Array<double> total(size);
    launch_node_gradient_sums(node.input(), grad.input("grad"), channels, rows.output("rows"),
                              nullptr);
    SumsOfRows<T> sums{};
    sums.sum[0] = {rows.data(), tiles, size, size, nullptr, total.output("total")};
    launch_sums_of_rows(sums, 1, nullptr);
    CHECK(close(total, grads, kClose<T>));
    if (first.empty()) first.push_back(total.copy());
    CHECK(same_bits(total, first[0]));
  });
}

template <class T>
void check_statistics(int64_t channels) {
  describe_case(type_name<T>(), "statistics of", channels);
  const Array<T> norm = normal_numbers<T>(5 * channels, 1), start = normal_numbers<T>(channels, 2);
  std::vector<double> mean, var;
  for (int64_t c = 0; c < channels; ++c) {
    mean.push_back(0.9 * static_cast<double>(start[c]) + 0.1 * static_cast<double>(norm[c]));
    var.push_back(0.9 * static_cast<double>(start[c]) +
                  0.1 * static_cast<double>(norm[channels + c]) * 5.0 / 4.0);
  }
  in_every_order([&] {
    const Array<T> means = start.copy(), variances = start.copy();
    const Array<int64_t> batches(1);
    batches[0] = 7;
    UpdatesOfStatistics<T> updates{};
    updates.update[0] = {
        {means.in_place("mean"), variances.in_place("var"), batches.in_place("n"), 0.1},
        norm.input("norm"),
        5.0,
        static_cast<int>(channels)};
    launch_update_statistics(updates, 1, nullptr);
    CHECK(close(means, mean, kClose<T>));
    CHECK(close(variances, var, kClose<T>));
    CHECK(batches[0] == 8);
  });
}

}  // namespace

TEST(node_sums_on_the_device_are_those_of_plain_loops) {
  check_node<float>(3, 5, 2, 77);
  check_node<double>(2, 16, 3, 9);
  check_node<float>(1, 259, 1, 3);
  check_node<double>(4, 1, 1, 300);
}

TEST(running_statistics_on_the_device_are_those_of_plain_loops) {
  check_statistics<float>(259);
  check_statistics<double>(3);
}

TEST(totals_add_the_channels_that_an_option_has) {
  const Array<double> terms = normal_numbers<double>(3 * 40, 1);
  TotalChannels channels{};
  const int sizes[] = {40, 1, 0};
  std::vector<double> expected(3);
  for (int i = 0; i < 3; ++i) {
    channels.channels[i] = sizes[i];
    for (int c = 0; c < sizes[i]; ++c) expected[static_cast<size_t>(i)] += terms[i * 40 + c];
  }
  in_every_order([&] {
    const Array<double> out(3);
    launch_totals(terms.input("terms"), 40, channels, 3, out.output("out"), nullptr);
    CHECK(close(out, expected, 1e-12));
  });
}

TEST(a_norm_from_running_statistics_reads_no_sums_and_may_move_them) {
  const Array<double> start = normal_numbers<double>(3, 1);
  in_every_order([&] {
    const Array<double> mean = start.copy(), var(3), norm(15);
    const Array<int64_t> batches(1);
    batches[0] = 0;
    for (int c = 0; c < 3; ++c) var[c] = c + 1;
    FinishNorms<double> finish{};
    FinishNorm<double>& f = finish.norm[0];
    f.running = {mean.in_place("mean"), var.in_place("var"), batches.in_place("batches"), 0.5};
    f.norm = norm.output("norm");
    f.eps = 1.0;
    f.pixels = 2;
    f.tile_pixels = 64;
    f.channels = 3;
    f.from_running = true;
    launch_finish_norms(finish, 1, nullptr);
    for (int c = 0; c < 3; ++c) {
      CHECK(norm[c] == start[c] && norm[3 + c] == c + 1.0);
      CHECK(std::fabs(norm[6 + c] - 1 / std::sqrt(c + 2.0)) < 1e-15);
      CHECK(mean[c] == start[c] && var[c] == 1.5 * (c + 1));
    }
    CHECK(batches[0] == 1);
  });
}
