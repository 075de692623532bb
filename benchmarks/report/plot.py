# SPDX-License-Identifier: Apache-2.0
"""The report as a picture: throughput and CPU of each way to receive, latency, from memory."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from benchmarks.report.tables import how

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.run import Report
    from benchmarks.stats import Spread

OURS, OTHERS, LIMIT = "#0b6e4f", "#9aa5b1", "#c0392b"
WIDTH_INCHES = 11.0


def _bars(axes: Axes, names: Sequence[str], spreads: Sequence[Spread], ours: list[bool]) -> None:
    medians = [value.median for value in spreads]
    reach = [
        [value.median - value.low for value in spreads],
        [value.high - value.median for value in spreads],
    ]
    colors = [OURS if mine else OTHERS for mine in ours]
    axes.barh(names, medians, xerr=reach, color=colors, ecolor="#52606d", capsize=2)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    room = max(value.high for value in spreads)
    axes.set_xlim(0, room * 1.18)
    for row, value in enumerate(spreads):
        axes.text(value.high + room * 0.015, row, f"{value.median:.3g}", va="center", fontsize=8)


def _throughput(report: Report, left: Axes, right: Axes) -> None:
    names = [f"({case.key}) {case.title}" for case in report.throughput]
    ours = [case.ours for case in report.throughput]
    _bars(left, names, [case.gbps for case in report.throughput], ours)
    left.set_title("Throughput, Gb/s (more is better)", loc="left", fontsize=10)
    _bars(right, names, [case.cpu_per_gb for case in report.throughput], ours)
    right.set_title("CPU of the receiver, s/GB (less is better)", loc="left", fontsize=10)
    right.set_yticklabels([])
    for case in report.throughput:
        if case.key == "a":
            left.axvline(case.gbps.median, color=LIMIT, linewidth=0.8, linestyle="--")
            right.axvline(case.cpu_per_gb.median, color=LIMIT, linewidth=0.8, linestyle="--")


def _latency(report: Report, left: Axes, right: Axes) -> None:
    names = [case.title for case in report.latency]
    ours = [case.ours for case in report.latency]
    for axes, title, spreads in (
        (left, "p50", [case.p50_us for case in report.latency]),
        (right, "p99", [case.p99_us for case in report.latency]),
    ):
        _bars(axes, names, spreads, ours)
        axes.set_title(f"Round trip of 64 bytes, {title}, us", loc="left", fontsize=10)
    right.set_yticklabels([])


def _memory(report: Report, left: Axes, right: Axes) -> None:
    """Draw speeds; what looks at no byte would dwarf the rest."""
    cases = [case for case in report.memory if case.key != "core.blocks"]
    names = [f"{case.group}: {case.title}" for case in cases]
    ours = [case.ours for case in cases]
    _bars(left, names, [case.gb_per_second for case in cases], ours)
    left.set_title("From memory, one core, GB/s", loc="left", fontsize=10)
    _bars(right, names, [case.million_rows_per_second for case in cases], ours)
    right.set_title("Million rows a second", loc="left", fontsize=10)
    right.set_yticklabels([])


def write(report: Report, path: Path) -> bool:
    """Draw what there is; False if matplotlib is missing or there is nothing to draw."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (an extra)
    except ImportError:
        return False
    panels = [
        (draw, len(cases))
        for draw, cases in (
            (_throughput, report.throughput),
            (_latency, report.latency),
            (_memory, report.memory),
        )
        if cases
    ]
    if not panels:
        return False
    heights = [0.9 + 0.32 * rows for _, rows in panels]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights) + 0.6), layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False, height_ratios=heights)
    for (draw, _), (left, right) in zip(panels, grid, strict=True):
        draw(report, left, right)
    figure.supxlabel("\n".join(textwrap.wrap(how(report), 150)), fontsize=7, color="#52606d")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return True
