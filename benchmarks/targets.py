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
        *_ipc(report),
        *_memory(report),
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


def _ipc(report: Report) -> Iterator[Target]:
    for case in report.throughput:
        if case.key == "j":
            yield from _least("Arrow IPC: throughput to open_stream's", 1.3, case.gbps_to_ipc)
            yield from _most("Arrow IPC: CPU per GB to open_stream's", 0.8, case.cpu_to_ipc)
            what = "Arrow IPC: times less CPU per GB than Flight"
            yield from _least(what, 3, case.cpu_below_flight)


def _memory(report: Report) -> Iterator[Target]:
    cases = {case.key: case for case in report.memory}
    for key, who in (("core.lines", "core"), ("lines.frame", "frame()")):
        if lines := cases.get(key):
            yield from _least(f"lines, {who}: GB a second", 4, lines.gb_per_second)
            yield from _least(f"lines, {who}: times the best peer", 1.5, lines.to_best)
            python = lines.to_peers.get("lines.split_array")
            yield from _least(f"lines, {who}: times bytes.split + pa.array", 5, python)
    for key, what, limit in (
        ("core.prefixed", "length-prefixed, core", 60),
        ("core.fixed", "fixed size, core", 150),
    ):
        if messages := cases.get(key):
            rows = messages.million_rows_per_second
            yield from _least(f"{what}: million messages a second", limit, rows)
    for order, what in (("little", "records"), ("big", "records, big-endian")):
        if records := cases.get(f"records.ours_{order}"):
            yield from _least(f"{what}: GB a second", 3, records.gb_per_second)
            for peer, how in (("array", "numpy + pa.array"), ("wrapped", "numpy, wrapped by hand")):
                ratio = records.to_peers.get(f"records.{peer}_{order}")
                yield from _least(f"{what}: times {how}", 3, ratio)
    for form, what in (("ndjson", "NDJSON"), ("csv", "CSV")):
        if text := cases.get(f"text.ours_{form}"):
            yield from _least(f"{what}: times pyarrow's", 1, text.to_best)


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
