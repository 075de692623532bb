# SPDX-License-Identifier: Apache-2.0
# Needs Python 3.11 or newer with its headers, gcc and make. Everything else goes into .venv and build/.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

C_FILES = $(shell git ls-files '*.c' '*.h')

.PHONY: help demo test test-native test-python test-kernel fuzz lint format bench clean

help:
	@echo 'make demo    receive a real data set over TCP and watch it become Arrow (ends by itself)'
	@echo 'make test    lint, types, C tests under sanitizers, Python tests, fuzzers, a kernel of its own in a VM'
	@echo 'make test-kernel  only the last of these; KERNEL=path/to/vmlinuz takes another kernel'
	@echo 'make fuzz    every parser by coverage-guided fuzzing; FUZZ_SECONDS=3600 for longer than two minutes'
	@echo 'make bench   compare with a bare recv() loop, Python sockets, Arrow Flight, and with engines over sockets'
	@echo 'make format  put the sources into shape'

# One environment for everything; its stamp is renewed when what it must hold changes.
$(VENV)/.installed: pyproject.toml meson.build meson.options native/meson.build native/tests/meson.build
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q 'meson-python>=0.17' 'meson>=1.3' ninja 'cffi>=2.1'
	$(BIN)/python -m pip install -q --no-build-isolation -e '.[test,bench,lint]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/zcrx-arrow demo

test: lint test-native test-python fuzz test-kernel

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)

build/asan: | $(VENV)/.installed
	$(BIN)/meson setup $@ -Dpython_module=false -Dbuildtype=debugoptimized \
		-Db_sanitize=address,undefined -Db_lundef=false -Dstrict=true

build/tsan: | $(VENV)/.installed
	$(BIN)/meson setup $@ -Dpython_module=false -Dbuildtype=debugoptimized \
		-Db_sanitize=thread -Db_lundef=false -Dstrict=true

# The core without Python: under AddressSanitizer and UndefinedBehaviorSanitizer, and under
# ThreadSanitizer. Any reading of bytes after their lease was given back is caught by the first.
test-native: build/asan build/tsan
	$(BIN)/meson test -C build/asan --print-errorlogs
	setarch -R $(BIN)/meson test -C build/tsan --print-errorlogs --suite threads

test-python: $(VENV)/.installed
	$(BIN)/python -m pytest

# Every parser of bytes from the network, for a bounded time, from a corpus that is kept in the tree.
# Needs clang with libFuzzer, which root gets from Debian's archive if it is missing.
FUZZ_SECONDS ?= 120
fuzz: $(VENV)/.installed
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

# What this machine's kernel may not have: zero-copy receive, in a virtual machine (no KVM needed).
# Root gets QEMU from Debian's archive if it is missing; else this says so, and fails if CI is set.
test-kernel: build/asan
	$(BIN)/meson compile -C build/asan
	ZCRX_ARROW_TEST_TRANSPORTS=nodev,zcrx $(BIN)/python -m tests.kernel.vm --timeout 1100 -- \
		python -m pytest -p no:cacheprovider --durations=10 \
		tests/integration tests/faults/test_backpressure.py tests/faults/test_input.py \
		tests/lifetime/test_lifetime.py \
		--deselect tests/lifetime/test_lifetime.py::test_interpreter_exit_in_any_state \
		tests/kernel/guest

bench: $(VENV)/.installed
	test -d build/release || $(BIN)/meson setup build/release -Dpython_module=false
	$(BIN)/meson compile -C build/release
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.flight_fanout
	$(BIN)/python -m benchmarks.ray_overhead

format: $(VENV)/.installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(C_FILES)

clean:
	rm -rf build $(VENV) dist
