# SPDX-License-Identifier: Apache-2.0
"""How much of the machine others used while a sample was taken."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

IDLE_FIELDS = (3, 4)  # of the line "cpu" in /proc/stat: idle, iowait
FIELDS = 8  # up to and with steal; the guests' times are contained in the user's


def _busy_seconds() -> float:
    ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    busy = sum(value for index, value in enumerate(ticks[:FIELDS]) if index not in IDLE_FIELDS)
    return busy / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class OtherWork:
    """Measures it from ``with`` to its end; all children must have ended by then.

    Attributes
    ----------
    share
        Of all CPUs' time, what neither this process nor its children used: other processes, and
        what the hypervisor stole. 0 is a quiet machine.
    """

    share: float = 0.0

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._busy = _busy_seconds()
        self._own = _own_seconds()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        wall = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        others = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
        self.share = max(0.0, others / wall) if wall else 0.0
