# SPDX-License-Identifier: Apache-2.0
"""Programs that tests need beside Python's packages."""

from __future__ import annotations

import os
import shutil

from tests.conftest import unavailable
from tests.kernel import packages


def need(tools: dict[str, str]) -> None:
    """
    See that programs are there; root gets from Debian's archive what is missing.

    `tools` maps each program to its package.
    """
    if missing(tools) and os.geteuid() == 0 and shutil.which("apt-get"):
        packages.install(*missing(tools))
    if still := missing(tools):
        unavailable(f"missing packages: apt-get install {' '.join(still)}")


def missing(tools: dict[str, str]) -> list[str]:
    return [package for tool, package in tools.items() if not shutil.which(tool)]
