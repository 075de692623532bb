# SPDX-License-Identifier: Apache-2.0
"""
Kernels and their headers, from the package archive that this Debian machine already uses.

Nothing is installed: packages of newer suites are unpacked into a cache folder, by the version that
the archive has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

SUITES = ("trixie-backports", "forky", "sid")
CACHE = Path(
    os.environ.get("ZCRX_ARROW_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "zcrx-arrow"
)
OLDEST = (7, 1)  # the first with ZCRX_REG_NODEV


class ArchiveError(RuntimeError):
    """The archive, or a tool to read it with, is not there."""


def mirror() -> str:
    """Give the archive that apt is configured with."""
    for path in sorted(Path("/etc/apt").rglob("*")):
        if path.suffix in (".sources", ".list") and path.is_file():
            found = re.search(r"https?://\S+/debian/?(?=\s)", path.read_text())
            if found:
                return found.group()
    raise ArchiveError("apt has no Debian archive configured, see /etc/apt")


def install(*names: str) -> None:
    """Have root install packages of this machine's own suite; whether it worked is for the caller."""
    silent = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wanted = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *names]
    for command in (["apt-get", "update", "-qq"], wanted):
        subprocess.run(command, stdout=subprocess.DEVNULL, env=silent, check=False)


def _apt(*command: str, cwd: Path | None = None) -> str:
    """Run an apt tool with sources and state of our own."""
    state = CACHE / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    sources = state / "sources.list"
    archive = mirror()
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    sources.write_text(
        "".join(f"deb [signed-by={keyring}] {archive} {suite} main\n" for suite in SUITES)
    )
    options = [
        f"Dir::Etc::SourceList={sources}",
        "Dir::Etc::SourceParts=-",
        f"Dir::State::Lists={state}/lists",
        f"Dir::Cache={state}/cache",
        "APT::Sandbox::User=root",
    ]
    tool, *rest = command
    if not shutil.which(tool):
        raise ArchiveError(f"{tool} is missing: kernels come from Debian packages")
    done = subprocess.run(
        [tool, *(f"-o{option}" for option in options), *rest],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ArchiveError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def update() -> None:
    """Read what the archive has."""
    _apt("apt-get", "update")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _unpack(packages: list[str], folder: Path) -> None:
    """Download packages and unpack them; whole or not at all."""
    part = folder.parent / f".part-{folder.name}"
    shutil.rmtree(part, ignore_errors=True)
    (part / "deb").mkdir(parents=True)
    _apt("apt-get", "download", *packages, cwd=part / "deb")
    for deb in (part / "deb").iterdir():
        subprocess.run(["dpkg", "-x", deb, part], check=True)
    shutil.rmtree(part / "deb")
    part.rename(folder)


def kernel() -> Path:
    """
    Give a kernel image with zero-copy receive without a device, its modules beside it.

    The newest that the archive has, or what is in the cache already; $KERNEL instead, if set.
    """
    if given := os.environ.get("KERNEL"):
        return Path(given).resolve(strict=True)
    cached = sorted(CACHE.glob("linux-*/usr/lib/modules/*/vmlinuz"))
    if cached:
        return cached[-1]
    update()
    names = _apt("apt-cache", "search", "--names-only", r"^linux-binary-[0-9.]+\+deb[0-9]+-amd64$")
    releases = [line.split()[0].removeprefix("linux-binary-") for line in names.splitlines()]
    fit = [release for release in releases if _numbers(release) >= OLDEST]
    if not fit:
        raise ArchiveError(f"no kernel of {', '.join(SUITES)} is {OLDEST[0]}.{OLDEST[1]} or newer")
    # The newest of the most stable suite: others may have no compiler for its modules today.
    suite = min(release.split("+")[1] for release in fit)
    release = max((each for each in fit if f"+{suite}" in each), key=_numbers)
    folder = CACHE / f"linux-{release}"
    _unpack([f"linux-binary-{release}", f"linux-modules-{release}"], folder)
    return folder / "usr/lib/modules" / release / "vmlinuz"


def unpacked(package: str) -> Path:
    """Give the folder with the newest version of a package that the archive has, unpacked."""
    cached = sorted(CACHE.glob(f"{package}-[0-9]*"))
    if cached:
        return cached[-1]
    update()
    versions = [
        line.split("|")[1].strip() for line in _apt("apt-cache", "madison", package).splitlines()
    ]
    if not versions:
        raise ArchiveError(f"the archive has no {package}")
    newest = max(versions, key=_numbers)
    folder = CACHE / f"{package}-{newest.rpartition(':')[2]}"
    _unpack([f"{package}={newest}"], folder)
    return folder


def headers() -> Path:
    """Give the include folder of the newest kernel headers that the archive has."""
    return unpacked("linux-libc-dev") / "usr/include"
