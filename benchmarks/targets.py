# SPDX-License-Identifier: Apache-2.0
"""The numbers this project wants to reach, next to those of a run. Nothing fails if they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.run import Report
    from benchmarks.stats import Spread

OBJECTS_SLACK = 100
RSS_SLACK_MIB = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A limit and what was measured against it."""

    what: str
    limit: float
    at_most: bool
    measured: float

    @property
    def met(self) -> bool:
        """Whether the measurement keeps the limit."""
        if self.at_most:
            return self.measured <= self.limit
        return self.measured >= self.limit

    def limit_text(self) -> str:
        """Say the limit with its direction."""
        return f"{'at most' if self.at_most else 'at least'} {self.limit:g}"


def _most(what: str, limit: float, measured: Spread | float | None) -> Iterator[Target]:
    yield from _target(what, limit, measured, at_most=True)


def _least(what: str, limit: float, measured: Spread | float | None) -> Iterator[Target]:
    yield from _target(what, limit, measured, at_most=False)


def _target(
    what: str, limit: float, measured: Spread | float | None, *, at_most: bool
) -> Iterator[Target]:
    if measured is None:
        return
    value = measured if isinstance(measured, int | float) else measured.median
    yield Target(what=what, limit=limit, at_most=at_most, measured=value)


def targets(report: Report) -> list[Target]:
    """List the targets that the report has numbers for."""
    return [
        *_throughput(report),
        *_latency(report),
        *_framing(report),
        *_circle(report),
        *_connections(report),
        *_flatness(report),
    ]


def _throughput(report: Report) -> Iterator[Target]:
    cases = {case.key: case for case in report.throughput}
    if raw := cases.get("f"):
        yield from _most("raw: CPU per GB to the floor's", 1.15, raw.cpu_to_floor)
        yield from _least("raw: throughput to the floor's", 0.95, raw.gbps_to_floor)
        yield from _least("raw: times less CPU per GB than Flight", 4, raw.cpu_below_flight)
    if lines := cases.get("g"):
        yield from _most("lines: CPU per GB to the floor's", 2, lines.cpu_to_floor)


def _latency(report: Report) -> Iterator[Target]:
    for case in report.latency:
        if case.ours:
            yield from _most("latency p50 to the blocking socket's", 1.3, case.p50_to_socket)
            yield from _most("latency p99 to the blocking socket's", 2, case.p99_to_socket)


def _framing(report: Report) -> Iterator[Target]:
    if report.framing:
        yield from _least("framing: GB a second", 2.5, report.framing.ours_gb_per_second)
        yield from _least("framing: times Python's", 5, report.framing.times_python)


def _circle(report: Report) -> Iterator[Target]:
    for case in report.circle:
        where = f"{case.connections} connection{'s' * (case.connections != 1)}"
        what = f"whole circle, ns a fragment over a bare loop, {where}"
        yield from _most(what, 30, case.added_ns)


def _connections(report: Report) -> Iterator[Target]:
    if many := report.connections:
        yield from _least("connections served", many.connections, many.served)
        yield from _least("slowest connection to the mean", 0.5, many.slowest_to_mean)
        yield from _most(
            "connections: growth of RSS, MiB", many.memory_bound_mib, many.rss_growth_mib
        )


def _flatness(report: Report) -> Iterator[Target]:
    if flat := report.flatness:
        size = f"{flat.payload_bytes / 1e9:g} GB"
        yield from _most(f"objects more after {size}", OBJECTS_SLACK, flat.gc_objects_drift)
        yield from _most(f"RSS more after {size}, MiB", RSS_SLACK_MIB, flat.rss_drift_mib)
        yield from _most(f"chunks leased after {size}", 0, flat.chunks_leased_at_end)
