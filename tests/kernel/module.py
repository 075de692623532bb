# SPDX-License-Identifier: Apache-2.0
"""
Builds the software NIC (zcsim/) for the very kernel that will boot.

A module needs the compiler and the C library that its kernel's suite has; so it is made in a small
root file system of that suite, in the cache folder, with the kernel's headers. The result is kept by
kernel version and by a hash of the sources.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.kernel import packages

SOURCES = Path(__file__).parent / "zcsim"
_SUITES = {"deb13": "trixie", "deb14": "forky"}


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output = f"{done.stdout}\n{done.stderr}"
        raise packages.ArchiveError(f"{' '.join(map(str, command))} failed: {output[-3000:]}")


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _need_debootstrap() -> None:
    if os.geteuid() != 0:
        raise packages.ArchiveError("only root can make the root file system for the module")
    if not shutil.which("debootstrap"):
        packages.install("debootstrap")
    if not shutil.which("debootstrap"):
        raise packages.ArchiveError("debootstrap is missing: apt-get install debootstrap")


def _root(suite: str) -> Path:
    """Give the root file system to compile in; it is made once."""
    root = packages.CACHE / f"build-{suite}"
    if root.exists():
        return root
    _need_debootstrap()
    part = root.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    mirror = packages.mirror()
    print(f"making a root file system of {suite} to compile in", flush=True)
    _run(
        "debootstrap",
        "--variant=minbase",
        "--include=gcc,make,ca-certificates",
        suite,
        part,
        mirror,
    )
    newer = part / "etc/apt/sources.list.d/newer.list"
    newer.write_text(f"deb {mirror} {'trixie-backports' if suite == 'trixie' else 'sid'} main\n")
    _run("chroot", part, "apt-get", "update", "-qq")
    part.rename(root)
    return root


def _make(root: Path, release: str) -> Path:
    work = root / "build/zcsim"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(SOURCES, work)
    headers = f"linux-headers-{release}"
    if not (root / "usr/src" / headers).exists():
        _run(
            "chroot", root, "env", "DEBIAN_FRONTEND=noninteractive",
            "apt-get", "install", "-qq", "-y", "--no-install-recommends", headers,
        )  # fmt: skip
    # objtool reads its limits from there
    _run("mount", "-t", "proc", "proc", root / "proc")
    try:
        _run(
            "chroot", root, "make", "-C", f"/usr/src/{headers}", "M=/build/zcsim", "W=1", "modules"
        )
    finally:
        _run("umount", root / "proc")
    return work / "zcsim.ko"


def build(kernel: Path) -> Path:
    """
    Give the module for a kernel of the archive.

    Raises
    ------
    ArchiveError
        If it cannot be built: what the compiler said, or what is missing.
    """
    release = kernel.parent.name
    suite = next((name for tag, name in _SUITES.items() if f"+{tag}-" in release), None)
    if suite is None or not re.match(r"[0-9.]+\+deb[0-9]+-", release):
        raise packages.ArchiveError(
            f"{kernel} is no kernel of the archive: no headers to build with"
        )
    built = packages.CACHE / f"zcsim-{release}-{_digest()}.ko"
    if not built.exists():
        print(f"building zcsim for {release}", flush=True)
        part = built.with_suffix(".part")
        shutil.copy(_make(_root(suite), release), part)
        part.rename(built)
    return built


if __name__ == "__main__":
    sys.exit(print(build(packages.kernel())))
