# SPDX-License-Identifier: Apache-2.0
"""
Builds programs of others to compare with, and what it takes to compare.

A zero-copy receiver: examples/zcrx.c of liburing, from its package. If it fails on the software NIC
too, the fault is the NIC's; if not, it is ours.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.kernel import packages

_HEADERS = Path(__file__).parent / "witness"


def build() -> Path:
    """
    Give the program.

    Raises
    ------
    ArchiveError
        If the archive has no liburing with that example, or it cannot be compiled.
    """
    folder = packages.unpacked("liburing-dev")
    program = folder / "zcrx"
    if program.exists():
        return program
    examples = folder / "usr/share/doc/liburing-dev/examples"
    library = next(folder.glob("usr/lib/*/liburing.a"), None)
    if library is None or not (examples / "zcrx.c").exists():
        raise packages.ArchiveError(f"{folder.name} has no example of zero-copy receive")
    sources = [examples / "zcrx.c", examples / "helpers.c", library]
    part = program.with_suffix(".part")
    compiled = subprocess.run(
        ["gcc", "-w", "-O2", "-D_GNU_SOURCE", "-DCONFIG_HAVE_MEMFD_CREATE", f"-I{_HEADERS}",
         f"-I{folder}/usr/include", "-isystem", packages.headers(), *sources, "-o", part],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if compiled.returncode:
        raise packages.ArchiveError(f"liburing's example: {compiled.stderr[-3000:]}")
    part.rename(program)
    return program


def build_tap() -> Path:
    """Give the library of tap.c, which shows what a program asks of an interface."""
    source = Path(__file__).parent / "tap.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    library = packages.CACHE / f"tap-{digest}.so"
    if not library.exists():
        part = library.with_suffix(".part")
        flags = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror")
        subprocess.run(["gcc", *flags, source, "-o", part, "-ldl"], check=True)
        part.rename(library)
    return library


if __name__ == "__main__":
    sys.exit(print(build()))
