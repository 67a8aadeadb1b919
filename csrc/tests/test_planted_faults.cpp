// SPDX-License-Identifier: MIT
// Every planted fault is reported, with its place, in every thread order. Faults of control flow
// are caught by the scheduler (plain build too), faults of memory by the checked build
// (checked_build()).
#include <set>

#include "../emulator/checker.h"
#include "../emulator/runtime.h"
#include "planted_faults.h"
#include "testing.h"
#include "variant.h"

namespace {

using namespace nasp_ext;
using nasp_ext::testing::checked_build;
using nasp_ext::testing::error_of;

std::string report(void (*fault)(float*, stream_t), uint64_t seed) {
  std::vector<float> data(faults::kSize, 0.5f);
  emulator::config.seed = seed;
  emulator::forget_buffers();
  emulator::track(data.data(), data.size() * sizeof(float), sizeof(float),
                  emulator::Content::kInitialised, "data");
  emulator::set_checking(checked_build());
  const std::string error = error_of([&] { fault(data.data(), nullptr); });
  emulator::set_checking(false);
  emulator::config.seed = 0;
  return error;
}

void expect_report(void (*fault)(float*, stream_t), const std::string& problem) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    nasp_ext::testing::context = "seed " + std::to_string(seed);
    const std::string error = report(fault, seed);
    CHECK_CONTAINS(error, problem);
    CHECK_CONTAINS(error, "planted_faults.cu:");
  }
}

}  // namespace

// In the checked build the race on data[] that some of these contain may be reported first.
TEST(a_barrier_that_half_the_block_skips_is_reported) {
  expect_report(faults::half_block_at_barrier, "deadlock: 64 threads wait at __syncthreads()");
}
TEST(two_halves_at_different_barriers_are_reported) {
  expect_report(faults::two_barriers_at_once, "__syncthreads() reached at different places");
}
TEST(a_thread_that_exits_before_a_barrier_is_reported) {
  expect_report(faults::exit_before_barrier, "28 have exited");
}
TEST(a_shuffle_from_an_exited_lane_is_reported) {
  expect_report(faults::shuffle_from_exited_lane, "reads lane 16, which takes no part");
}
TEST(lanes_at_different_shuffles_are_reported) {
  expect_report(faults::divergent_shuffles, "lanes of one warp at different collectives");
}

TEST(memory_faults_are_reported_by_the_checked_build) {
  if (!checked_build()) return;
  expect_report(faults::global_out_of_bounds, "out of bounds: write of 4 bytes at data+1024");
  expect_report(faults::shared_out_of_bounds,
                "out of bounds: write of 4 bytes at shared memory+512");
  expect_report(faults::dynamic_shared_too_small, "out of bounds: write of 4 bytes at shared");
  expect_report(faults::uninitialised_shared,
                "uninitialised: read of 4 bytes at shared memory+508");
  expect_report(faults::misaligned_vector, "misaligned: read of");
}

TEST(races_are_reported_by_the_checked_build) {
  if (!checked_build()) return;
  expect_report(faults::shared_reused_too_early, "race: ");
  expect_report(faults::blocks_race, "race: ");
  for (uint64_t seed = 0; seed < 6;
       ++seed) {  // whichever comes first: both name the missing barrier
    const std::string error = report(faults::missing_barrier, seed);
    CHECK(error.find("race: ") != std::string::npos ||
          error.find("uninitialised: ") != std::string::npos);
  }
}

// No error, but a sum that depends on the order: the tests of the real kernels compare bits.
TEST(the_order_of_float_atomics_shows_in_the_bits) {
  std::vector<float> terms(faults::kSize);
  for (int i = 0; i < faults::kSize; ++i) terms[i] = 1.0f / static_cast<float>(i * i + 1);
  std::set<float> sums;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    float sum = 0.0f;
    emulator::config.seed = seed;
    faults::order_of_float_atomics(terms.data(), &sum, nullptr);
    sums.insert(sum);
  }
  emulator::config.seed = 0;
  CHECK(sums.size() > 1);
}

TEST(a_report_names_the_line_of_the_access) {
  if (!checked_build()) return;
  const std::string error = report(faults::global_out_of_bounds, 0);
  CHECK_CONTAINS(error, "by block (2,0,0) thread (0,0,0) at planted_faults.cu:");
}
