# SPDX-License-Identifier: Apache-2.0
"""
Builds the software NIC (zcsim/) for the very kernel that will boot.

The result is kept in the cache folder, by kernel version and by a hash of the sources.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from tests.kernel import packages, rootfs

SOURCES = Path(__file__).parent / "zcsim"


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _make(root: Path, release: str) -> Path:
    work = root / "build/zcsim"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(SOURCES, work)
    headers = f"linux-headers-{release}"
    rootfs.install(root, headers, f"usr/src/{headers}")
    # objtool reads its limits from there
    rootfs.run("mount", "-t", "proc", "proc", root / "proc")
    try:
        make = ("make", "-C", f"/usr/src/{headers}", "M=/build/zcsim", "W=1", "modules")
        rootfs.run("chroot", root, *make)
    finally:
        rootfs.run("umount", root / "proc")
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
    built = packages.CACHE / f"zcsim-{release}-{_digest()}.ko"
    if not built.exists():
        root = rootfs.make(release)
        print(f"building zcsim for {release}", flush=True)
        part = built.with_suffix(".part")
        shutil.copy(_make(root, release), part)
        part.rename(built)
    return built


if __name__ == "__main__":
    sys.exit(print(build(packages.kernel())))
