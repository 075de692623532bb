# SPDX-License-Identifier: Apache-2.0
"""The software NIC for a test, without faults before and after it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.guest import nic
from tests.kernel.guest.feed import start_sender

if TYPE_CHECKING:
    import subprocess


def reserve_huge_pages(count: int) -> None:
    """Have the kernel find memory that lies together, for which it may first have to make room."""
    pages, vm = Path("/proc/sys/vm/nr_hugepages"), Path("/proc/sys/vm")
    deadline = time.monotonic() + 60
    while True:
        pages.write_text(str(count))
        if int(pages.read_text()) == count:
            return
        assert time.monotonic() < deadline, "no memory lies together"
        (vm / "drop_caches").write_text("3")
        (vm / "compact_memory").write_text("1")
        time.sleep(0.1)


@pytest.fixture(scope="module")
def reserved_huge_pages():
    reserve_huge_pages(16)
    yield
    Path("/proc/sys/vm/nr_hugepages").write_text("0")


@pytest.fixture
def huge_pages(reserved_huge_pages):
    """Free ones: the kernel lets go of an area's a moment after its ring is closed."""
    yield
    deadline = time.monotonic() + 120
    while "HugePages_Free:       16\n" not in Path("/proc/meminfo").read_text():
        assert time.monotonic() < deadline, "an area's huge pages did not come back"
        time.sleep(0.02)


@pytest.fixture
def wired(card):
    """The card; its faults are taken away at the end."""
    yield
    for device in ("zc0", "zc1"):
        for name in ("drop_every", "reorder_every", "fail_restarts", "delay_us"):
            nic.knob(device, name, 0)
        for name in ("linear", "share", "refuse_split"):
            nic.knob(device, name, False)


@pytest.fixture
def steered(wired):
    rules: list[int] = []

    def to(port: int, queue: int) -> None:
        rules.extend(nic.steer("zc0", port, queue))

    yield to
    nic.forget("zc0", rules)


@pytest.fixture
def peer(wired):
    """Senders that must get to their end."""
    running: list[subprocess.Popen[bytes]] = []

    def start(port: int, **options) -> None:
        running.append(start_sender(port, **options))

    yield start
    for process in running:
        assert process.wait(60) == 0, "a sender failed"
