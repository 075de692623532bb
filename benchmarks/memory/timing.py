# SPDX-License-Identifier: Apache-2.0
"""How a sample from memory is taken."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.probe import cpu_seconds, say

if TYPE_CHECKING:
    from collections.abc import Callable


def measure(size: int, rows: int, work: Callable[[], int]) -> None:
    """Do the work twice and time the second: the first one touches the memory that both need.

    ``work`` says how many rows it made of the ``size`` bytes; there must be ``rows``.
    """
    for _ in range(2):
        cpu = cpu_seconds()
        started = time.perf_counter()
        got = work()
        seconds = time.perf_counter() - started
        cpu = cpu_seconds() - cpu
        if got != rows:
            message = f"{got} rows instead of {rows}"
            raise AssertionError(message)
    say(bytes=size, rows=rows, seconds=seconds, cpu_seconds=cpu)
