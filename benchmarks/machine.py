# SPDX-License-Identifier: Apache-2.0
"""The machine under test: what it is, and holding its idle CPUs awake."""

from __future__ import annotations

import contextlib
import os
import platform
import struct
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE_LATENCY = Path("/dev/cpu_dma_latency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a reader needs to judge the numbers."""

    cpu: str
    cores: int
    virtual: bool
    memory_gib: float
    kernel: str
    python: str
    pyarrow: str
    zcrx_arrow: str | None

    def one_line(self) -> str:
        """Describe the machine in a sentence without a verb."""
        kind = "virtual, " if self.virtual else ""
        return (
            f"{self.cpu} ({kind}{self.cores} cores, {self.memory_gib:.0f} GiB), "
            f"Linux {self.kernel}, Python {self.python}, pyarrow {self.pyarrow}"
        )


def _cpuinfo(field: str) -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def describe() -> Machine:
    """Describe this machine."""
    return Machine(
        cpu=_cpuinfo("model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        virtual="hypervisor" in _cpuinfo("flags").split(),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        kernel=platform.release(),
        python=platform.python_version(),
        pyarrow=_version("pyarrow") or "none",
        zcrx_arrow=_version("zcrx-arrow"),
    )


@contextlib.contextmanager
def idle_polling(*, wanted: bool) -> Iterator[bool]:
    """Keep idle CPUs polling instead of halting, as long as the context lasts.

    A receiver that is faster than its sender sleeps between segments. Waking a halted CPU costs a
    virtual machine an exit, which the *sender* pays, and by far the most of the noise between
    rounds comes from there. A latency bound of 0 us (the kernel's PM QoS interface) avoids it, for
    every case alike. Needs root.

    Yields
    ------
    bool
        Whether it is in force.
    """
    if not wanted:
        yield False
        return
    try:
        bound = os.open(IDLE_LATENCY, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        os.write(bound, struct.pack("i", 0))
        yield True
    finally:
        os.close(bound)
