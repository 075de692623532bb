# SPDX-License-Identifier: Apache-2.0
"""Framing: cutting lines that are in memory already, no socket involved."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import binaries, processes
from benchmarks.stats import Spread, paired_ratio, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.options import Options

ENVIRONMENT = "ZCRX_ARROW_BENCH_FRAME"
DRIVER = "bench_frame"


def driver() -> Path | None:
    """Find the C driver that runs the core on the kernel twin; None if it was not built."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    found = sorted(binaries.ROOT.glob(f"build/**/{DRIVER}"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FramingResult:
    """Gigabytes a second of one core."""

    python_gb_per_second: Spread
    ours_gb_per_second: Spread | None
    times_python: Spread | None
    samples: dict[str, list[dict[str, Any]]]


@dataclass(slots=True)
class Framing:
    """The framing case of a run."""

    options: Options
    tell: Callable[[str], None]
    program: Path | None = field(default_factory=driver)
    _samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def run_round(self) -> None:
        """Cut the same amount of lines with Python and with the core."""
        self.tell("framing from memory")
        with processes.python("split_lines", total=self.options.stream_bytes // 4) as child:
            self._samples.setdefault("python", []).append(child.finish())
        if self.program is not None:
            ran = subprocess.run([self.program], stdout=subprocess.PIPE, check=True)
            self._samples.setdefault("ours", []).append(json.loads(ran.stdout))

    def result(self) -> FramingResult:
        """Summarise the rounds so far."""
        speeds = {
            key: [sample["bytes"] / sample["seconds"] * 1e-9 for sample in samples]
            for key, samples in self._samples.items()
        }
        ours = speeds.get("ours")
        return FramingResult(
            python_gb_per_second=spread(speeds["python"]),
            ours_gb_per_second=spread(ours) if ours else None,
            times_python=paired_ratio(ours, speeds["python"]) if ours else None,
            samples=self._samples,
        )
