# SPDX-License-Identifier: Apache-2.0
"""The C targets of native/fuzz, built with libFuzzer. Root gets clang from Debian's archive."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.kernel import packages

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "fuzz"
PROBE = "int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n > 8; }\n"
FLAGS = "-fsanitize=fuzzer,address,undefined"


class Unavailable(RuntimeError):
    """There is no compiler with libFuzzer."""


def _version(path: Path) -> int:
    found = re.fullmatch(r"clang-(\d+)", path.name)
    return int(found.group(1)) if found else 0


def _works(compiler: str) -> bool:
    """Whether it has libFuzzer and the sanitizers."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text(PROBE)
        command = [compiler, FLAGS, str(source), "-o", str(source.with_suffix(""))]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _find() -> str | None:
    """Give $CC if that is clang, clang, or the newest clang-N, if it works."""
    given = os.environ.get("CC", "")
    folders = [Path(each) for each in os.environ.get("PATH", "").split(":") if each]
    numbered = sorted({path for each in folders for path in each.glob("clang-*")}, key=_version)
    names = [given if "clang" in given else "", "clang"]
    names += [str(path) for path in reversed(numbered) if _version(path)]
    return next((each for each in names if shutil.which(each) and _works(each)), None)


def compiler() -> str:
    """Give a clang that has libFuzzer; root installs one."""
    found = _find()
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing clang with apt-get", flush=True)
        packages.install("clang")
        done = subprocess.run(
            ["clang", "-dumpversion"], capture_output=True, text=True, check=False
        )
        packages.install(f"libclang-rt-{done.stdout.split('.')[0]}-dev")
        found = _find()
    if not found:
        raise Unavailable("no clang with libFuzzer: apt-get install clang libclang-rt-14-dev")
    return found


def build() -> Path:
    """Give the folder with the fuzzers."""
    if not (BUILD / "build.ninja").exists():
        options = [
            "-Dfuzz=true",
            "-Dpython_module=false",
            "-Dnative_tests=false",
            "-Dstrict=true",
            "-Dbuildtype=debugoptimized",
            "-Db_sanitize=address,undefined",
            "-Db_lundef=false",
        ]
        environment = {**os.environ, "CC": compiler()}
        subprocess.run(["meson", "setup", BUILD, *options], cwd=ROOT, env=environment, check=True)
    subprocess.run(["meson", "compile", "-C", BUILD], check=True)
    return BUILD / "native" / "fuzz"
