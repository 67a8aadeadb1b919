// SPDX-License-Identifier: MIT
// The index and element arithmetic of blocks, pools and norms.
#include <cmath>
#include <limits>

#include "../block/block_math.h"
#include "../norm/norm_math.h"
#include "../pool/pool_math.h"
#include "testing.h"

namespace {

using namespace nasp_ext;

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();

// Kernel 3 x 5, strides 2 and 1, dilations 1 and 2, uneven padding; or a FactorizedReduce.
BlockGeometry uneven() { return {2, 1, 1, 6, 7, 3, 5, 3, 5, 2, 1, 1, 3, 1, 2, 1, false, true}; }
BlockGeometry factorized() { return {2, 1, 2, 5, 4, 3, 2, 1, 1, 2, 2, 0, 0, 1, 1, 2, false, true}; }

}  // namespace

TEST(an_output_pixel_is_found_from_each_input_pixel_that_it_reads_and_from_no_other) {
  for (const BlockGeometry& g : {uneven(), factorized()}) {
    for (int part = 0; part < g.parts; ++part)
      for (int i = 0; i < g.kernel_h; ++i)
        for (int j = 0; j < g.kernel_w; ++j) {
          int64_t reads = 0, found = 0;
          for (int64_t p = 0; p < g.out_pixels(); ++p) {
            const int64_t q =
                input_pixel(g, place_of(p, g.out_pixels(), g.out_height, g.out_width), part, i, j);
            CHECK(q < g.in_pixels());
            if (q < 0) continue;
            ++reads;
            CHECK(output_pixel(g, place_of(q, g.in_pixels(), g.height, g.width), part, i, j) == p);
          }
          for (int64_t q = 0; q < g.in_pixels(); ++q)
            found +=
                output_pixel(g, place_of(q, g.in_pixels(), g.height, g.width), part, i, j) >= 0;
          CHECK(found == reads);
        }
  }
}

TEST(a_place_behind_the_last_pixel_is_none) {
  const PixelPlace last = place_of(2 * 6 * 7 - 1, 2 * 6 * 7, 6, 7), none = place_of(84, 84, 6, 7);
  CHECK(last.image == 1 && last.y == 5 && last.x == 6);
  CHECK(none.image == -1);
  CHECK(input_pixel(uneven(), none, 0, 1, 1) == -1 && output_pixel(uneven(), none, 0, 1, 1) == -1);
}

TEST(an_activation_and_its_gradient_keep_a_nan) {
  const double norm[] = {0, 0, 0, 2.0, -1.0};  // one channel: scale 2, shift -1
  const auto act = activation_of(norm, 1, 0, true);
  CHECK(act(3.0) == 5.0 && act(0.25) == 0.0 && std::isnan(act(kNan)));
  CHECK(act.gradient(3.0, 7.0) == 7.0 && act.gradient(0.5, 7.0) == 0.0);  // 0 in front of the ReLU
  CHECK(act.gradient(kNan, 7.0) == 7.0);
  const auto none = activation_of<double>(nullptr, 1, 0, false);
  CHECK(none(-3.0) == -3.0 && none.gradient(-3.0, 7.0) == 7.0);
}

TEST(the_gradient_behind_a_norm_is_that_of_its_formula) {
  const double norm[] = {1.0, 4.0, 0.5, 1.5, 0.0};  // mean, var, rstd, scale = gamma * rstd, shift
  const double sums[] = {8.0, 12.0};
  const auto batch = gradient_behind_norm(norm, sums, 1.0 / 4, 1, 0);
  const double xhat = (3.0 - 1.0) * 0.5;
  CHECK(std::fabs(batch(2.0, 3.0) - 1.5 * (2.0 - 8.0 / 4 - xhat * 12.0 / 4)) < 1e-15);
  CHECK(gradient_behind_norm<double>(norm, nullptr, 0.25, 1, 0)(2.0, kNan) == 3.0);
  CHECK(gradient_behind_norm<double>(nullptr, nullptr, 0.25, 1, 0)(2.0, kInf) == 2.0);
}

TEST(tiles_merge_to_the_moments_of_all_their_values) {
  // {1e9 + 1, 1e9 + 3}, {1e9 + 8}: mean 1e9 + 4, squares 9 + 1 + 16.
  const TileSums tiles[] = {{2, 1e9 + 1, 2, 4}, {1, 1e9 + 8, 0, 0}};
  const double mean = (2 * tiles[0].mean() + tiles[1].mean()) / 3;
  CHECK(mean == 1e9 + 4);
  CHECK(tiles[0].squares_about(mean) + tiles[1].squares_about(mean) == 26);
}

TEST(a_norm_column_and_running_statistics_are_those_of_a_batch_norm) {
  const auto column = norm_column<double>(3.0, 0.75, 0.25, 2.0, 5.0);
  CHECK(column.rstd == 1.0 && column.scale == 2.0 && column.shift == -1.0);
  CHECK(moved(10.0, 20.0, 0.25) == 12.5);
  CHECK(unbiased(3.0, 4.0) == 4.0);
}

TEST(windows_and_the_windows_with_a_pixel_are_inverse) {
  for (const int stride : {1, 2, 4})
    for (const int kernel : {1, 3, 5}) {
      const int size = 7, out = (size - 1) / stride + 1;
      const PoolGeometry g{1, 1, size, size, out, out, kernel, stride, kernel / 2, true};
      for (int p = 0; p < out; ++p)
        for (int q = 0; q < size; ++q) {
          const Range window = window_of(g, p, size), holders = windows_with(g, q, out);
          const bool inside = q >= window.begin && q < window.end;
          CHECK(inside == (p >= holders.begin && p < holders.end));
        }
    }
}

TEST(one_pixel_of_a_window_gave_its_maximum) {
  const double images[][6] = {{1, 2, 2, 0, 2, 1},
                              {-kInf, -kInf, -kInf, -kInf, -kInf, -kInf},
                              {0.0, -0.0, 0.0, -1, -1, -1},
                              {1, kNan, 9, kNan, kInf, 0}};
  const int first[] = {1, 0, 0, 3};  // the first maximum in reading order, or the last NaN
  for (int i = 0; i < 4; ++i) {
    const auto at = [&](int y, int x) { return images[i][y * 3 + x]; };
    const Range rows{0, 2}, columns{0, 3};
    const double most = pool_window<double>(true, rows, columns, at);
    for (int p = 0; p < 6; ++p)
      CHECK(gave_maximum(p / 3, p % 3, rows, columns, most, at) == (p == first[i]));
  }
}
