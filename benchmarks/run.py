# SPDX-License-Identifier: Apache-2.0
"""One run: the chosen experiments, their rounds interleaved."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import binaries, machine
from benchmarks.experiments.circle import Circle, CircleResult
from benchmarks.experiments.connections import Connections, ConnectionsResult
from benchmarks.experiments.flatness import Flatness, FlatnessResult
from benchmarks.experiments.latency import Latency, LatencyResult
from benchmarks.experiments.memory import Memory, MemoryResult
from benchmarks.experiments.throughput import CASES, CaseResult, Throughput

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.options import Options

CONNECTIONS_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a run found; None is what was not asked for or not available."""

    taken_at: str
    machine: machine.Machine
    rounds: int
    pinned: bool
    idle_poll: bool
    missing: list[str]
    throughput: list[CaseResult]
    latency: list[LatencyResult]
    connections: ConnectionsResult | None
    flatness: FlatnessResult | None
    memory: list[MemoryResult]
    circle: list[CircleResult]


def why_without_ours() -> str | None:
    """Say why this project's own cases cannot run; None if they can."""
    attempt = subprocess.run(
        [sys.executable, "-c", "import zcrx_arrow; zcrx_arrow.listen"],
        cwd=binaries.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if attempt.returncode == 0:
        return None
    return (attempt.stderr.strip().splitlines() or ["no reason given"])[-1]


def run(options: Options, tell: Callable[[str], None]) -> Report:
    """Run what the options ask for; ``tell`` hears of each step."""
    binaries.build_all()
    missing = why_without_ours()
    with machine.idle_polling(wanted=options.idle_poll) as polling:
        return _run(options, tell, missing, polling=polling)


def _run(
    options: Options, tell: Callable[[str], None], missing: str | None, *, polling: bool
) -> Report:
    chosen = set(options.cases)
    ours = missing is None
    cases = [case for case in CASES if case.key in chosen and (ours or not case.ours)]
    throughput = Throughput(options, cases, tell)
    latency = Latency(options, ours, tell) if "latency" in chosen else None
    connections = Connections(options, tell) if "connections" in chosen and ours else None
    flatness = Flatness(options, tell) if "flatness" in chosen and ours else None
    memory = Memory(options, ours, tell) if "memory" in chosen else None
    for number in range(options.rounds):
        tell(f"round {number + 1} of {options.rounds}")
        throughput.run_round()
        for experiment in (latency, memory):
            if experiment:
                experiment.run_round()
        if connections and number < CONNECTIONS_ROUNDS:
            connections.run_round()
    if flatness:
        flatness.run_round()
    circle = Circle(tell).run() if "circle" in chosen else []
    return Report(
        taken_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        machine=machine.describe(),
        rounds=options.rounds,
        pinned=options.sender_cpu is not None,
        idle_poll=polling,
        missing=[f"zcrx-arrow: {missing}"] if missing else [],
        throughput=throughput.result(),
        latency=latency.result() if latency else [],
        connections=connections.result() if connections else None,
        flatness=flatness.result() if flatness else None,
        memory=memory.result() if memory else [],
        circle=circle,
    )
