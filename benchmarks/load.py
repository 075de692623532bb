# SPDX-License-Identifier: Apache-2.0
"""How much of the machine others used while a sample was taken."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Sample = TypeVar("Sample")

IDLE_FIELDS = (3, 4)  # of the line "cpu" in /proc/stat: idle, iowait
QUIET_SHARE = 0.04
TRIES = 5
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


def quietly(take: Callable[[], Sample], tell: Callable[[str], None]) -> tuple[Sample, float]:
    """Take a sample, and again when others used the machine meanwhile; the last try counts.

    Whether a sample is taken again depends on the others' work only, never on its result.

    Returns
    -------
    tuple
        The sample and the share of the machine that others used during it.
    """
    for attempt in range(TRIES):
        with OtherWork() as others:
            sample = take()
        if others.share <= QUIET_SHARE or attempt == TRIES - 1:
            break
        tell(f"again: other work took {others.share:.0%} of the machine")
    return sample, others.share
