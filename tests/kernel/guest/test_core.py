# SPDX-License-Identifier: Apache-2.0
"""The C programs that compare the kernel twin with this kernel."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.conftest import ROOT
from tests.kernel.guest import nic

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
    try:
        said = run("test_differential", transport, "1", "50")
    except AssertionError as error:
        # Seen once in some hundred schedules on Linux 7.3: the kernel has bytes of a connection and
        # does not say so. Whoever does that with the same schedule again is at fault.
        stuck = re.search(r"seed (\d+): the kernel does not end", str(error))
        if not stuck:
            raise
        said = run("test_differential", transport, stuck[1], str(51 - int(stuck[1])))
    assert "agree" in said


@pytest.fixture
def wire_of_c(wired):
    """What the programs take: queue 1 gets all TCP of the software NIC's wire."""
    rules = nic.steer("zc0", nic.ANY_PORT, 1)
    yield ["zc0", "1", nic.HERE[4], f"/run/netns/{nic.FAR}"]
    nic.forget("zc0", rules)


@pytest.mark.timeout(320)
def test_the_twin_completes_as_the_kernel_does_with_a_nic(wire_of_c):
    assert "dry NIC: the same" in run("test_conformance_zcrx", *wire_of_c)


@pytest.mark.timeout(320)
def test_the_same_schedules_end_alike_with_a_nic(wire_of_c):
    assert "agree" in run("test_differential", "zcrx", "1", "50", *wire_of_c)
