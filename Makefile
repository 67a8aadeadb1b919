# SPDX-License-Identifier: MIT
# make demo   set up, search on the embedded digits, retrain what was found, show the accuracy and the cells
# make test   set up and run the tests
# make check  format, lint, types, C++ tests, tests
# make clang  every C++ source past clang's front end, warnings as errors; GCC compiles them in all other targets
# make wheel  one wheel in dist/ for every Python from 3.10 on, with manylinux in its name where auditwheel can say so
# make torture   10^5 damaged calls of each operator, an hour; the tests make 10^3
# make sanitize  the CPU operators under the address and undefined-behaviour sanitizers; CI runs both
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
RUN ?= runs/demo
BIN = $(VENV)/bin
CXX_FILES = $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
SOURCES = pyproject.toml setup.py $(CXX_FILES) $(shell find build_backend nasp_ext -name '*.py')

.PHONY: demo test check format lint types ctest clang wheel torture sanitize install benchmark report clean

demo: $(VENV)/installed
	$(BIN)/nasp-ext search --out $(RUN) --overwrite
	$(BIN)/nasp-ext retrain --genotype $(RUN)/genotype.json --out $(RUN)/retrain --overwrite
	@echo "The cells that were found: $(RUN)/cell_normal.svg and $(RUN)/cell_reduce.svg"

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

check: lint types ctest test
	$(BIN)/python -m pytest benchmarks --benchmark-disable

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(CXX_FILES)

types: $(VENV)/installed-dev
	$(BIN)/mypy

ctest: $(VENV)/torch
	cmake -S . -B build/cmake -DPython_EXECUTABLE=$(abspath $(BIN))/python $(CMAKE_OPTIONS)
	cmake --build build/cmake --parallel 2
	ctest --test-dir build/cmake --output-on-failure --parallel 2

# The device side is compiled against the emulator, as its tests do. force_level.cpp serves GCC's clones alone. PyTorch
# brings pybind11.
CLANG ?= clang++
CLANG_FILES = $(filter-out csrc/tests/force_level.cpp,$(filter %.cpp %.cu,$(CXX_FILES)))
# Conditions joined by & instead of && are meant: without a branch, loops become vector code.
CLANG_FLAGS = -std=c++17 -fsyntax-only -Wall -Wextra -Werror -Wno-psabi -Wno-bitwise-instead-of-logical \
  -DNASP_EMULATED -DNASP_WITH_CUDA=0 \
  -DNASP_TORCH_VERSION='""' -DNASP_CUDA_ARCHS='""' -DNASP_CUDA_REASON='""' -DTORCH_TARGET_VERSION=0x020b000000000000
clang: $(VENV)/torch
	headers=$$($(BIN)/python -c "import sysconfig; p = sysconfig.get_path; \
	  print('-isystem', p('purelib') + '/torch/include', '-isystem', p('include'))") && \
	printf '%s\n' $(CLANG_FILES) | xargs -P 2 -n 1 $(CLANG) $(CLANG_FLAGS) $$headers -x c++

# PyTorch's own libraries are those of the environment and stay out of the wheel.
wheel: $(VENV)/torch
	rm -rf build/release build/wheel
	NASP_RELEASE=1 $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	mkdir -p dist
	PATH="$(abspath $(BIN)):$$PATH"; \
	if ! { command -v auditwheel && command -v patchelf; } > /dev/null; then \
	  echo "auditwheel or patchelf is not installed: the wheel keeps the tag of this system alone"; cp build/wheel/*.whl dist; \
	else auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' --wheel-dir dist build/wheel/*.whl; fi
	@ls dist

torture: $(VENV)/installed-dev
	$(BIN)/python python_tests/ops/torture.py --calls 100000

# The sources of setup.py by the same globs, in a folder that Python finds before site-packages. libstdc++ is loaded
# early as well, or the sanitizer does not find the exceptions. Leaks: Python and PyTorch have their own.
SANITIZED = $(abspath build/sanitize)
SANITIZE_FLAGS = -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -D_GLIBCXX_ASSERTIONS
SANITIZE_ENV = LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
  ASAN_OPTIONS=detect_leaks=0:max_allocation_size_mb=6144:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=$(SANITIZED)
sanitize: $(VENV)/installed-dev
	cmake -S . -B $(SANITIZED) -DPython_EXECUTABLE=$(abspath $(BIN))/python -DNASP_CUDA=0 -DCMAKE_BUILD_TYPE=None \
	  -DCMAKE_CXX_FLAGS="$(SANITIZE_FLAGS)" -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(SANITIZED)/nasp_ext
	cmake --build $(SANITIZED) --target _C --parallel 2
	$(SANITIZE_ENV) $(BIN)/python -c "import nasp_ext._C as c; assert c.__file__.startswith('$(SANITIZED)'), c.__file__"
	$(SANITIZE_ENV) $(BIN)/python -m pytest --capture=sys python_tests/ops python_tests/optim

benchmark: $(VENV)/installed-dev
	$(BIN)/python -m pytest benchmarks --benchmark-only

report: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.report

install: $(VENV)/installed

$(VENV)/torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)" numpy
	touch $@

$(VENV)/installed: $(VENV)/torch $(SOURCES)
	$(BIN)/python -m pip install --quiet .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet pytest pytest-benchmark hypothesis pillow ruff mypy clang-format build
	touch $@

clean:
	rm -rf build dist *.egg-info $(VENV)
