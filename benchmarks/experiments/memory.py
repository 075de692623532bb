# SPDX-License-Identifier: Apache-2.0
"""From bytes that are in memory to messages and columns, on one core; no socket involved."""

from __future__ import annotations

import json
import os
import random
import subprocess
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import binaries, processes
from benchmarks.load import quietly
from benchmarks.stats import Spread, paired_ratio, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.options import Options

ENVIRONMENT = "ZCRX_ARROW_BENCH_FRAME"
DRIVER = "bench_frame"
CORE = "core."
SEED = 20_240_917
CORE_TIMES = 8  # as many bytes for the C driver, which is done with them at once


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCase:
    """A way to make rows of bytes.

    Attributes
    ----------
    key
        Module and function below ``benchmarks.memory``; ``core.`` and a kind: the C driver.
    group
        What the bytes are: cases of a group are compared.
    ours
        Of this project; the others of a group are its peers.
    info
        Not compared with, for what it does is not the same; the title says why.
    """

    key: str
    group: str
    title: str
    ours: bool = False
    info: bool = False


LINES = "lines of 100 bytes"
PREFIXED = "length-prefixed, 100 bytes"
FIXED = "fixed size, 64 bytes"
LITTLE = "records, 8 fields, 64 bytes"
BIG = "records, big-endian"
NDJSON = "NDJSON, 10 columns"
CSV = "CSV, 10 columns"

CASES = (
    MemoryCase(key="core.lines", group=LINES, title="zcrx-arrow, core in cache", ours=True),
    MemoryCase(key="lines.frame", group=LINES, title="zcrx-arrow frame()", ours=True),
    MemoryCase(key="lines.pyarrow_csv", group=LINES, title="pyarrow.csv, one column"),
    MemoryCase(key="lines.polars_csv", group=LINES, title="polars.read_csv, one column"),
    MemoryCase(key="lines.polars_lines", group=LINES, title="polars.read_lines"),
    MemoryCase(key="lines.split", group=LINES, title="bytes.split, a list"),
    MemoryCase(key="lines.split_array", group=LINES, title="bytes.split + pa.array"),
    MemoryCase(key="core.prefixed", group=PREFIXED, title="zcrx-arrow, core in cache", ours=True),
    MemoryCase(
        key="messages.frame_prefixed", group=PREFIXED, title="zcrx-arrow frame()", ours=True
    ),
    MemoryCase(key="messages.struct_prefixed", group=PREFIXED, title="struct, a loop + pa.array"),
    MemoryCase(key="core.fixed", group=FIXED, title="zcrx-arrow, core in cache", ours=True),
    MemoryCase(
        key="core.blocks",
        group=FIXED,
        title="zcrx-arrow, core, as blocks (looks at no byte)",
        ours=True,
    ),
    MemoryCase(key="messages.frame_fixed", group=FIXED, title="zcrx-arrow frame()", ours=True),
    MemoryCase(key="records.ours_little", group=LITTLE, title="zcrx-arrow decode()", ours=True),
    MemoryCase(key="records.array_little", group=LITTLE, title="numpy + pa.array"),
    MemoryCase(
        key="records.wrapped_little", group=LITTLE, title="numpy, fields of bytes wrapped by hand"
    ),
    MemoryCase(key="records.ours_big", group=BIG, title="zcrx-arrow decode()", ours=True),
    MemoryCase(key="records.array_big", group=BIG, title="numpy + pa.array"),
    MemoryCase(
        key="records.wrapped_big", group=BIG, title="numpy, fields of bytes wrapped by hand"
    ),
    MemoryCase(key="text.ours_ndjson", group=NDJSON, title="zcrx-arrow decode()", ours=True),
    MemoryCase(key="text.pyarrow_ndjson", group=NDJSON, title="pyarrow.json"),
    MemoryCase(
        key="text.polars_ndjson",
        group=NDJSON,
        title="polars.read_ndjson (times stay text)",
        info=True,
    ),
    MemoryCase(key="text.ours_csv", group=CSV, title="zcrx-arrow decode()", ours=True),
    MemoryCase(key="text.pyarrow_csv", group=CSV, title="pyarrow.csv"),
    MemoryCase(key="text.polars_csv", group=CSV, title="polars.read_csv", info=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryResult:
    """What the rounds of a case came to.

    Attributes
    ----------
    to_peers
        Times as fast as each peer of the group, by key; empty without peers, and for them.
    best_peer
        The one with the highest median.
    """

    key: str
    group: str
    title: str
    ours: bool
    samples: list[dict[str, Any]]
    gb_per_second: Spread
    million_rows_per_second: Spread
    to_peers: dict[str, Spread]
    best_peer: str | None

    @property
    def to_best(self) -> Spread | None:
        """Times as fast as the best peer."""
        return self.to_peers[self.best_peer] if self.best_peer else None


def driver() -> Path | None:
    """Find the C driver; None if it was not built."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    found = sorted(binaries.ROOT.glob(f"build/**/{DRIVER}"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


@dataclass(slots=True)
class Memory:
    """The cases from memory of a run."""

    options: Options
    with_ours: bool
    tell: Callable[[str], None]
    program: Path | None = field(default_factory=driver)
    _samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _order: random.Random = field(default_factory=lambda: random.Random(SEED))

    def _possible(self) -> list[MemoryCase]:
        def possible(case: MemoryCase) -> bool:
            if case.key.startswith(CORE):
                return self.program is not None
            return self.with_ours or not case.ours

        return [case for case in CASES if possible(case)]

    def run_round(self) -> None:
        """Take a sample of each case, in an order of this round's own."""
        cases = self._possible()
        for case in self._order.sample(cases, len(cases)):
            self.tell(f"from memory, {case.group}: {case.title}")
            sample, share = quietly(partial(self._sample, case), self.tell)
            self._samples.setdefault(case.key, []).append(sample | {"others_share": share})

    def _sample(self, case: MemoryCase) -> dict[str, Any]:
        total, cpu = self.options.memory_bytes, self.options.receiver_cpu
        if not case.key.startswith(CORE):
            with processes.python("memory", case=case.key, total=total, cpu=cpu) as child:
                return child.finish()
        pinned = [] if cpu is None else ["taskset", "-c", str(cpu)]
        kind = case.key.removeprefix(CORE)
        command = [*pinned, str(self.program), kind, str(total * CORE_TIMES)]
        ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        sample: dict[str, Any] = json.loads(ran.stdout)
        return sample

    def result(self) -> list[MemoryResult]:
        """Summarise the rounds so far."""
        return [self._summary(case) for case in CASES if case.key in self._samples]

    def _speeds(self, key: str, what: str) -> list[float]:
        return [sample[what] / sample["seconds"] for sample in self._samples[key]]

    def _summary(self, case: MemoryCase) -> MemoryResult:
        speeds = self._speeds(case.key, "bytes")
        peers = {
            peer.key: self._speeds(peer.key, "bytes")
            for peer in CASES
            if case.ours and peer.group == case.group and not peer.ours and not peer.info
            if peer.key in self._samples
        }
        medians = {key: spread(values).median for key, values in peers.items()}
        return MemoryResult(
            key=case.key,
            group=case.group,
            title=case.title,
            ours=case.ours,
            samples=self._samples[case.key],
            gb_per_second=spread([speed * 1e-9 for speed in speeds]),
            million_rows_per_second=spread(
                [speed * 1e-6 for speed in self._speeds(case.key, "rows")]
            ),
            to_peers={key: paired_ratio(speeds, values) for key, values in peers.items()},
            best_peer=max(medians, key=medians.__getitem__) if medians else None,
        )
