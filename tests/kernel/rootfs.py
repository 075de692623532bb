# SPDX-License-Identifier: Apache-2.0
"""
A small root file system of the kernel's own suite, in the cache folder.

A module needs the compiler and the C library that its kernel's suite has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.kernel import packages

if TYPE_CHECKING:
    from pathlib import Path

_SUITES = {"deb13": "trixie", "deb14": "forky"}
_NEWER = {"trixie": "trixie-backports", "forky": "sid"}


def run(*command: str | Path) -> None:
    """Run a command; raises `ArchiveError` with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output = f"{done.stdout}\n{done.stderr}"
        raise packages.ArchiveError(f"{' '.join(map(str, command))} failed: {output[-3000:]}")


def _need_debootstrap() -> None:
    if os.geteuid() != 0:
        raise packages.ArchiveError("only root can make a root file system")
    if not shutil.which("debootstrap"):
        packages.install("debootstrap")
    if not shutil.which("debootstrap"):
        raise packages.ArchiveError("debootstrap is missing: apt-get install debootstrap")


def make(release: str) -> Path:
    """
    Give the root file system of a kernel's suite; it is made once.

    Raises
    ------
    ArchiveError
        If it is no kernel of the archive, or what is missing.
    """
    suite = next((name for tag, name in _SUITES.items() if f"+{tag}-" in release), None)
    if suite is None:
        raise packages.ArchiveError(f"{release} is no kernel of the archive")
    root = packages.CACHE / f"build-{suite}"
    if root.exists():
        return root
    _need_debootstrap()
    part = root.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    mirror = packages.mirror()
    print(f"making a root file system of {suite}", flush=True)
    included = "--include=gcc,make,ca-certificates"
    run("debootstrap", "--variant=minbase", included, suite, part, mirror)
    newer = part / "etc/apt/sources.list.d/newer.list"
    newer.write_text(f"deb {mirror} {_NEWER[suite]} main\n")
    run("chroot", part, "apt-get", "update", "-qq")
    part.rename(root)
    return root


def install(root: Path, package: str, shows: str) -> None:
    """Install a package there, unless the path that shows it exists."""
    if not (root / shows).exists():
        quiet = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq", "-y")
        run("chroot", root, *quiet, "--no-install-recommends", package)
