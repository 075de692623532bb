# SPDX-License-Identifier: Apache-2.0
"""Compiles the C programs of the benchmarks into the build directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = Path(__file__).parent / "native"
BUILD = ROOT / "build" / "bench"
PROGRAMS = ("floor", "sender", "pinger", "fanout")
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion")


def _compiler() -> str:
    name = os.environ.get("CC", "cc")
    path = shutil.which(name)
    if path is None:
        message = f"no C compiler: {name} is not on the PATH (set CC)"
        raise FileNotFoundError(message)
    return path


def _fresh(program: Path, sources: list[Path]) -> bool:
    return program.exists() and all(
        source.stat().st_mtime <= program.stat().st_mtime for source in sources
    )


def build(name: str) -> Path:
    """Compile a program unless it is newer than its sources, and say where it is."""
    program = BUILD / name
    source = SOURCES / f"{name}.c"
    if not _fresh(program, [source, SOURCES / "bench.h"]):
        BUILD.mkdir(parents=True, exist_ok=True)
        subprocess.run([_compiler(), *FLAGS, source, "-o", program], check=True)
    return program


def build_all() -> None:
    """Compile them all, before anything is measured."""
    for name in PROGRAMS:
        build(name)
