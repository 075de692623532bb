# SPDX-License-Identifier: Apache-2.0
"""The report as plain tables: titles, columns, cells. Terminal and markdown render the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.targets import targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.run import Report
    from benchmarks.stats import Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells as text; the first column is left-aligned, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def number(value: Spread | None, digits: int, unit: str = "") -> str:
    """Write a median with its extremes."""
    if value is None:
        return "–"
    low, high = f"{value.low:.{digits}f}", f"{value.high:.{digits}f}"
    return f"{value.median:.{digits}f}{unit} ({low}–{high})"


def _times(value: Spread | None) -> str:
    return "–" if value is None else f"{value.median:.2f}x"


def _throughput(report: Report) -> Table:
    columns = (
        "one stream",
        "Gb/s",
        "CPU s/GB",
        "CPU to (a)",
        "Gb/s to (a)",
        "less CPU than (e)",
        "peak RSS, MiB (growth)",
    )
    rows = [
        (
            f"({case.key}) {case.title}",
            number(case.gbps, 1),
            number(case.cpu_per_gb, 3),
            _times(case.cpu_to_floor),
            _times(case.gbps_to_floor),
            _times(case.cpu_below_flight),
            f"{case.rss_peak_mib:.0f} ({case.rss_growth_mib:+.0f})",
        )
        for case in report.throughput
    ]
    return Table(title="Throughput", columns=columns, rows=rows)


def _latency(report: Report) -> Table:
    columns = ("round trip of 64 bytes", "p50, us", "p99, us", "p50 ratio", "p99 ratio")
    rows = [
        (
            case.title,
            number(case.p50_us, 1),
            number(case.p99_us, 1),
            _times(case.p50_to_socket),
            _times(case.p99_to_socket),
        )
        for case in report.latency
    ]
    return Table(title="Latency", columns=columns, rows=rows)


def _ipc(report: Report) -> Table:
    columns = (
        "Arrow batches of 1 MiB",
        "Gb/s to (d)",
        "CPU to (d)",
        "less CPU than (e)",
        "in place",
    )
    rows = [
        (
            f"({case.key}) {case.title}",
            _times(case.gbps_to_ipc),
            _times(case.cpu_to_ipc),
            _times(case.cpu_below_flight),
            "–" if case.in_place is None else f"{case.in_place.median:.0%}",
        )
        for case in report.throughput
        if case.gbps_to_ipc is not None
    ]
    return Table(title="Arrow IPC", columns=columns, rows=rows)


def _memory(report: Report) -> Table:
    columns = ("from memory, one core", "GB/s", "million rows/s", "to the best peer")
    rows = [
        (
            f"{case.group}: {case.title}",
            number(case.gb_per_second, 2),
            number(case.million_rows_per_second, 1),
            _times(case.to_best),
        )
        for case in report.memory
    ]
    return Table(title="From memory", columns=columns, rows=rows)


def _more(report: Report) -> Table:
    return Table(title="More", columns=("what", "measured"), rows=list(_more_rows(report)))


def _more_rows(report: Report) -> Iterator[tuple[str, str]]:
    if many := report.connections:
        yield f"{many.connections} connections, Gb/s in all", number(many.gbps, 1)
        yield "slowest connection to the mean", number(many.slowest_to_mean, 2)
        yield (
            "growth of RSS, bound (area + queue)",
            f"{many.rss_growth_mib:.0f} MiB, {many.memory_bound_mib:.0f} MiB",
        )
    if flat := report.flatness:
        yield (
            f"{flat.payload_bytes / 1e9:g} GB received: objects, RSS, leased chunks",
            (
                f"{flat.gc_objects_drift:+d}, {flat.rss_drift_mib:+.1f} MiB, "
                f"{flat.chunks_leased_at_end} at the end"
            ),
        )


def _targets(report: Report) -> Table:
    rows = [
        (target.what, target.limit_text(), f"{target.measured:.4g}", "yes" if target.met else "no")
        for target in targets(report)
    ]
    return Table(title="Targets", columns=("target", "limit", "measured", "met"), rows=rows)


def tables(report: Report) -> list[Table]:
    """Make the tables that have rows."""
    every = (
        _throughput(report),
        _ipc(report),
        _latency(report),
        _memory(report),
        _more(report),
        _targets(report),
    )
    return [table for table in every if table.rows]


def how(report: Report) -> str:
    """Say on what and how the numbers were taken."""
    pinned = "sender pinned to one CPU, receiver on the others" if report.pinned else "not pinned"
    idle = "idle CPUs polling" if report.idle_poll else "idle CPUs may sleep (more noise)"
    shares = [sample.others_share for case in report.throughput for sample in case.samples]
    shares += [sample["others_share"] for case in report.memory for sample in case.samples]
    most = max(shares, default=0.0)
    return (
        f"{report.machine.one_line()}. Loopback TCP, {pinned}, {idle}; from memory on one CPU. "
        f"Medians (extremes) of {report.rounds} interleaved rounds; ratios are medians of ratios "
        f"within a round. Other work took at most {most:.0%} of the machine in a sample."
    )
