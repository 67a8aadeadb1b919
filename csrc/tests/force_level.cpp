// SPDX-License-Identifier: MIT
// Makes a library run the clones (core/simd.h) of one instruction set: NASP_LEVEL 1, 3 or 4, as
// in x86-64-v4. The loader picks a clone from what __cpu_indicator_init found; linked with
// --wrap=__cpu_indicator_init, it finds less.
#define NASP_VISIBLE __attribute__((visibility("default")))
#define NASP_HIDDEN __attribute__((visibility("hidden")))

extern "C" {
extern NASP_HIDDEN unsigned __cpu_features2[];  // of libgcc
NASP_HIDDEN int __real___cpu_indicator_init();
}

namespace {

bool has_level3() { return __builtin_cpu_supports("x86-64-v3"); }
bool has_level4() { return __builtin_cpu_supports("x86-64-v4"); }

// Clears the bit that says so, whichever it is.
void withdraw(bool (*has)()) {
  for (unsigned bit = 0; has(); ++bit) {
    unsigned& word = __cpu_features2[bit / 32];
    const unsigned before = word;
    word &= ~(1u << bit % 32);
    if (has()) word = before;
  }
}

}  // namespace

extern "C" {

// Called while the library is being relocated: hidden, so that no table of addresses is in between.
NASP_HIDDEN int __wrap___cpu_indicator_init() {
  const int status = __real___cpu_indicator_init();
  if (NASP_LEVEL < 4) withdraw(has_level4);
  if (NASP_LEVEL < 3) withdraw(has_level3);
  return status;
}

// For the test: the clone that the loader picked, and something whose place is known.
NASP_VISIBLE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"))) int
nasp_probe(int x) {
  return x;
}
NASP_VISIBLE int nasp_anchor() { return NASP_LEVEL; }
}
