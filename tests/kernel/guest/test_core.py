# SPDX-License-Identifier: Apache-2.0
"""The C programs that compare the kernel twin with this kernel."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import ROOT

PROGRAMS = ROOT / "build/asan/native/tests"


def run(*command: str) -> str:
    name, *rest = command
    done = subprocess.run(
        [PROGRAMS / name, *rest], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(320)
@pytest.mark.parametrize("program", ["test_conformance", "test_conformance_zcrx"])
def test_the_twin_completes_as_the_kernel_does(program):
    assert "the same" in run(program)


@pytest.mark.timeout(320)
@pytest.mark.parametrize("transport", ["nodev", "copy"])
def test_the_same_schedules_end_alike(transport):
    assert "agree" in run("test_differential", transport, "1", "100")
