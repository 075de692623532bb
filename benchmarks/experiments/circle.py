# SPDX-License-Identifier: Apache-2.0
"""What a fragment of zero-copy receive costs, on the kernel twin: no socket, no kernel, no copy."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import binaries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DRIVER = "bench_circle"


def driver() -> Path | None:
    """Find the C driver; None if it was not built."""
    found = sorted(binaries.ROOT.glob(f"build/**/{DRIVER}"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CircleResult:
    """Medians of interleaved rounds, in nanoseconds of CPU for a fragment."""

    connections: int
    fragment_bytes: int
    fragments: int
    bare_ns: float
    """A loop that reads each completion and writes its refill entry at once."""
    circle_ns: float
    """A source: framing, batch, ArrowArray, release, refill entry."""
    added_ns: float
    allocations: int
    enters: int
    bytes_copied: int


@dataclass(slots=True)
class Circle:
    """The circle case of a run."""

    tell: Callable[[str], None]
    program: Path | None = field(default_factory=driver)

    def run(self) -> list[CircleResult]:
        """Run the driver, which interleaves its own rounds."""
        if self.program is None:
            return []
        self.tell("the whole circle on the kernel twin")
        ran = subprocess.run([self.program], stdout=subprocess.PIPE, check=True)
        return [CircleResult(**json.loads(line)) for line in ran.stdout.splitlines()]
