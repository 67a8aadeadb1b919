// SPDX-License-Identifier: MIT
// A test is TEST(name_of_behaviour) { ... CHECK(condition); }. main() runs all, or those named.
#pragma once
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace nasp_ext::testing {

struct Test {
  const char* name;
  void (*run)();
};
inline std::vector<Test>& all_tests() {
  static std::vector<Test> tests;
  return tests;
}
struct Register {
  Register(const char* name, void (*run)()) { all_tests().push_back({name, run}); }
};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
inline std::string context;  // what a loop is busy with, shown beside a failure

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + what +
                (context.empty() ? "" : " [" + context + "]"));
}

// The message of the exception that `action` throws; empty if it throws none.
inline std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

inline int run_tests(int argc, char** argv) {
  int ran = 0, failed = 0;
  for (const Test& test : all_tests()) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted |= std::string(argv[i]) == test.name;
    if (!wanted) continue;
    ++ran;
    context.clear();
    try {
      test.run();
    } catch (const std::exception& e) {
      ++failed;
      std::printf("FAILED %s\n  %s\n", test.name, e.what());
    }
  }
  std::printf("%d tests, %d failed\n", ran, failed);
  return ran == 0 || failed > 0;
}

}  // namespace nasp_ext::testing

#define TEST(name)                                                            \
  static void name();                                                         \
  static const ::nasp_ext::testing::Register name##_registered(#name, &name); \
  static void name()
#define CHECK(condition) \
  if (!(condition)) ::nasp_ext::testing::fail(__FILE__, __LINE__, #condition)
#define CHECK_CONTAINS(text, part)                       \
  if (std::string(text).find(part) == std::string::npos) \
  ::nasp_ext::testing::fail(__FILE__, __LINE__,          \
                            "expected \"" + std::string(part) + "\" in \"" + (text) + "\"")
