// SPDX-License-Identifier: MIT
// The kernels of branches against the summation tree of branch_dots_math.h run by plain loops, bit
// for bit.
#include "../mixed_sum/mixed_sum_kernel.h"
#include "../mixed_sum/mixed_sum_math.h"

#include "kernel_testing.h"

namespace {

using namespace nasp_ext;
using namespace nasp_ext::testing;

template <class T>
struct Inputs {
  int options;
  int64_t n;
  Array<T> grad;
  std::vector<Array<T>> outputs;
  Array<accumulate_t<T>> weights;

  Inputs(int options_, int64_t n_, bool misaligned)
      : options(options_),
        n(n_),
        grad(normal_numbers<T>(n, 1, misaligned)),
        weights(normal_numbers<accumulate_t<T>>(options, 2)) {
    describe_case(type_name<T>(), "options", options, "n", n, "misaligned", misaligned);
    for (int k = 0; k < options; ++k) {
      outputs.push_back(normal_numbers<T>(n, 10 + static_cast<unsigned>(k), misaligned));
    }
  }
  Branches<const T> branches() const {
    Branches<const T> result{};
    for (int k = 0; k < options; ++k) result.pointer[k] = outputs[k].input("output");
    return result;
  }
  Array<accumulate_t<T>> dots() const {
    using Acc = accumulate_t<T>;
    Array<Acc> result(options);
    for (int k = 0; k < options; ++k) {
      std::vector<Acc> sums;
      for (int64_t begin = 0; begin < n; begin += kDotBlock) {
        Acc lane[kDotLanes] = {};
        for (int64_t i = 0; i < kDotBlock && begin + i < n; ++i) {
          Acc& sum = lane[i % kDotLanes];
          sum = dot_next<T>(sum, grad[begin + i], outputs[k][begin + i]);
        }
        sums.push_back(lane_tree(lane));
      }
      result[k] = static_cast<Acc>(blocks_total(sums.data(), static_cast<int64_t>(sums.size()), 1));
    }
    return result;
  }
};

template <class T>
void check_branch_dots(int options, int64_t n) {
  using Acc = accumulate_t<T>;
  const Inputs<T> in(options, n, false);
  const Array<Acc> expected = in.dots();
  in_every_order([&] {
    const Array<Acc> scratch(options * dot_blocks(n)), dots(options);
    launch_branch_dots<T>({in.grad.input("grad"), in.branches(), options, n,
                           scratch.output("block sums"), dots.output("dots")},
                          nullptr);
    CHECK(same_bits(dots, expected));
  });
}

template <class T>
void check_backward(int options, int64_t n) {
  using Acc = accumulate_t<T>;
  const Inputs<T> in(options, n, false);
  const Array<Acc> expected = in.dots();
  in_every_order([&] {
    const Array<Acc> scratch(options * dot_blocks(n)), dots(options);
    std::vector<Array<T>> grad_outputs;
    Branches<T> out{};
    for (int k = 0; k < options; ++k) {
      grad_outputs.emplace_back(n);
      out.pointer[k] = grad_outputs.back().output("grad_output");
    }
    launch_mixed_sum_backward<T>({in.grad.input("grad"), in.branches(), options, n,
                                  scratch.output("block sums"), dots.output("dots")},
                                 in.weights.input("weights"), out, nullptr);
    CHECK(same_bits(dots, expected));
    for (int k = 0; k < options; ++k) {
      for (int64_t i = 0; i < n; ++i) {
        const T product = static_cast<T>(mix_first<T>(in.weights[k], in.grad[i]));
        CHECK(std::memcmp(&grad_outputs[k][i], &product, sizeof(T)) == 0);
      }
    }
  });
}

template <class T>
void check_mixed_sum(int options, int64_t n, bool misaligned) {
  const Inputs<T> in(options, n, misaligned);
  const Array<T> expected(n);
  for (int64_t i = 0; i < n; ++i) {
    auto sum = mix_first<T>(in.weights[0], in.outputs[0][i]);
    for (int k = 1; k < options; ++k) sum = mix_next<T>(sum, in.weights[k], in.outputs[k][i]);
    expected[i] = static_cast<T>(sum);
  }
  in_every_order([&] {
    const Array<T> sum(n, misaligned);
    launch_mixed_sum<T>(in.branches(), in.weights.input("weights"), options, n, sum.output("sum"),
                        nullptr);
    CHECK(same_bits(sum, expected));
  });
}

}  // namespace

// One element, less than a warp, a block and a bit, several blocks; fewer and more branches than
// warps.
TEST(branch_dots_on_the_device_has_the_bits_of_the_summation_tree) {
  for_every_type([](auto type) {
    using T = decltype(type);
    check_branch_dots<T>(1, 1);
    check_branch_dots<T>(3, 31);
    check_branch_dots<T>(8, 4096);
    check_branch_dots<T>(9, 4096 + 259);
  });
  check_branch_dots<float>(2, 35 * 4096 + 1);  // more blocks than lanes in the second kernel
  check_branch_dots<float>(64, 40);
}

TEST(a_dot_of_nothing_is_zero_on_the_device) {
  check_branch_dots<float>(3, 0);
  const Inputs<float> in(3, 0, false);
  CHECK(in.dots()[2] == 0.0f);
}

TEST(mixed_sum_backward_on_the_device_has_the_bits_of_the_cpu_arithmetic) {
  for_every_type([](auto type) {
    using T = decltype(type);
    check_backward<T>(1, 1);
    check_backward<T>(8, 4096 + 33);
    check_backward<T>(10, 300);
  });
  check_backward<float>(64, 40);
}

TEST(mixed_sum_on_the_device_has_the_bits_of_the_cpu_arithmetic) {
  for_every_type([](auto type) {
    using T = decltype(type);
    check_mixed_sum<T>(1, 1, false);
    check_mixed_sum<T>(8, 1000, false);
    check_mixed_sum<T>(8, 1003, false);
    check_mixed_sum<T>(3, 1003, true);
  });
  check_mixed_sum<float>(64, 40, false);
}
