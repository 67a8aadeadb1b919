// SPDX-License-Identifier: MIT
#include "testing.h"

int main(int argc, char** argv) { return nasp_ext::testing::run_tests(argc, argv); }
