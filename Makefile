# SPDX-License-Identifier: MIT
# make demo   set up, search on the embedded digits, retrain what was found, show the accuracy and the cells
# make test   set up and run the tests
# make check  format, lint, types, C++ tests, tests: what CI runs
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
RUN ?= runs/demo
BIN = $(VENV)/bin
CXX_FILES = $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
SOURCES = pyproject.toml setup.py $(CXX_FILES) $(shell find build_backend nasp_ext -name '*.py')

.PHONY: demo test check format lint types ctest install benchmark report clean

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
