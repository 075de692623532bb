# SPDX-License-Identifier: Apache-2.0
# Needs Python 3.11 or newer with its headers, gcc and make. Everything else goes into .venv and build/.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

C_FILES = $(shell git ls-files 'native/*.c' 'native/*.h' 'benchmarks/*.c' 'benchmarks/*.h')

.PHONY: help demo test test-native test-python lint format bench clean

help:
	@echo 'make demo    receive a real data set over TCP and watch it become Arrow (ends by itself)'
	@echo 'make test    lint, types, C tests under sanitizers, Python tests'
	@echo 'make bench   compare with a bare recv() loop, Python sockets and Arrow Flight'
	@echo 'make format  put the sources into shape'

# One environment for everything; its stamp is renewed when what it must hold changes.
$(VENV)/.installed: pyproject.toml meson.build meson.options native/meson.build native/tests/meson.build
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q 'meson-python>=0.17' 'meson>=1.3' ninja 'cffi>=2.1'
	$(BIN)/python -m pip install -q --no-build-isolation -e '.[test,bench,lint]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/zcrx-arrow demo

test: lint test-native test-python

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)

# The core without Python: under AddressSanitizer and UndefinedBehaviorSanitizer, and under
# ThreadSanitizer. Any reading of bytes after their lease was given back is caught by the first.
test-native: $(VENV)/.installed
	test -d build/asan || $(BIN)/meson setup build/asan -Dpython_module=false \
		-Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false \
		-Dstrict=true
	test -d build/tsan || $(BIN)/meson setup build/tsan -Dpython_module=false \
		-Dbuildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false -Dstrict=true
	$(BIN)/meson test -C build/asan --print-errorlogs
	setarch -R $(BIN)/meson test -C build/tsan --print-errorlogs --suite threads

test-python: $(VENV)/.installed
	$(BIN)/python -m pytest

bench: $(VENV)/.installed
	test -d build/release || $(BIN)/meson setup build/release -Dpython_module=false
	$(BIN)/meson compile -C build/release bench_frame
	$(BIN)/python -m benchmarks

format: $(VENV)/.installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(C_FILES)

clean:
	rm -rf build $(VENV) dist
