# SPDX-License-Identifier: Apache-2.0
"""Our names for the kernel's ABI against the newest headers that the archive offers."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.kernel import packages


@pytest.fixture(scope="module")
def headers() -> Path:
    try:
        return packages.headers()
    except packages.ArchiveError as error:
        unavailable(str(error))
        raise


def compile_check(headers: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    builtin = subprocess.run(
        ["gcc", "-print-file-name=include"], capture_output=True, text=True, check=True
    ).stdout.strip()
    arch = headers / f"{platform.machine()}-linux-gnu"
    return subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-nostdinc"]
        + [f"-isystem{folder}" for folder in (builtin, headers, arch)]
        + [*flags, Path(__file__).parent / "uapi_check.c"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_sizes_offsets_and_constants(headers):
    done = compile_check(headers)
    assert done.returncode == 0, done.stderr


def test_a_difference_is_found(headers, tmp_path):
    """The check can fail: against a header whose value differs it must."""
    wrong = tmp_path / "wrong.h"
    wrong.write_text("#include <linux/io_uring/zcrx.h>\n#define ZCRX_CTRL_EXPORT 7\n")
    done = compile_check(headers, f"-include{wrong}")
    assert done.returncode != 0
    assert "ZA_ZCRX_CTRL_EXPORT" in done.stderr
