# SPDX-License-Identifier: Apache-2.0
"""What ``zcrx-arrow top`` shows."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import zcrx_arrow as zc
from zcrx_arrow.cli.common import human_bytes
from zcrx_arrow.cli.pictures import (
    AREA_LEGEND,
    SIZES,
    area_picture,
    size_bucket,
    size_picture,
    spark,
)

__all__ = ["Looked", "TopView"]

_TREND: Final = 24
_AREA_LINES: Final = 4
_ELSE_LINES: Final = 21  # of everything but connections
_LEAST_CONNECTIONS: Final = 3
_OF_CONNECTION: Final = ["id", "peer", "close_reason", "bytes", "rows"]


@dataclass
class _Moment:
    """What rates are differences of."""

    at: float
    metrics: zc.Metrics
    rows: int
    rows_of: dict[int, int] = field(default_factory=dict)


class Decoded(Protocol):
    """Counters of a decoder."""

    @property
    def rows(self) -> int:
        """Rows so far."""


class Looked(Protocol):
    """A source, or one of another program, as far as it is shown."""

    address: tuple[str, int]
    transport: str
    chunk_bytes: int

    def metrics(self) -> zc.Metrics:
        """Give counters and gauges."""

    def connections(self) -> pa.Table:
        """Give connections."""

    def area_map(self) -> npt.NDArray[np.uint8]:
        """Give what becomes of each chunk."""


class TopView:
    """
    Rates, area, sizes and connections of a source.

    Parameters
    ----------
    source : Source, or one of another program
        What is looked at.
    stats : DecodeStats, optional
        Of its decoder, if it has one: what has ``rows``.
    sizes : str
        What is said of the sizes of batches.
    """

    def __init__(
        self, source: Looked, stats: Decoded | None = None, sizes: str = "rows a batch"
    ) -> None:
        self._source, self._stats, self._of_sizes = source, stats, sizes
        self._sizes = [0] * SIZES
        self._trends: dict[int, deque[float]] = {}
        self._before = self._now()
        self.width, self.height = 100, 40
        """Room, in characters."""
        self.untold = 0
        """Connections of which nothing is known but that there are some."""

    def begin(self) -> None:
        """Let time begin now, for the first rates."""
        self._before.at = time.monotonic()

    def see(self, batch: pa.RecordBatch) -> None:
        """Count its size."""
        self.count(batch.num_rows, 1)

    def count(self, rows: int, batches: int) -> None:
        """Count batches of a size."""
        self._sizes[size_bucket(rows)] += batches

    def render(self) -> Group:
        """Show this moment; rates are since the last call."""
        now, before = self._now(), self._before
        seconds = max(now.at - before.at, 1e-3)
        # Not its times: without pandas, Python has no nanoseconds.
        connections = self._source.connections().select(_OF_CONNECTION).to_pylist()
        now.rows_of = {row["id"]: row["rows"] for row in connections if not row["close_reason"]}
        parts: list[RenderableType] = [
            Panel(_head(now, before, seconds), title=_title(self._source)),
            self._area(now.metrics),
            Panel(size_picture(self._sizes), title=self._of_sizes, title_align="left"),
            self._connections(connections, now, seconds),
        ]
        self._before = now
        return Group(*parts)

    def _now(self) -> _Moment:
        metrics = self._source.metrics()
        rows = self._stats.rows if self._stats is not None else metrics.rows
        return _Moment(time.monotonic(), metrics, rows)

    def _area(self, metrics: zc.Metrics) -> Panel:
        picture, group = area_picture(self._source.area_map(), self.width - 4, _AREA_LINES)
        legend = f"{AREA_LEGEND}   a character is {group} chunk{'s' if group > 1 else ''}"
        title = (
            f"area: {metrics.chunks:,} chunks of {human_bytes(self._source.chunk_bytes)}; "
            f"{metrics.chunks_leased:,} leased, {metrics.chunks_offered:,} the kernel's, "
            f"{metrics.chunks_free:,} free"
        )
        return Panel(Group(picture, Text(legend, "dim")), title=title, title_align="left")

    def _connections(self, rows: list[dict[str, Any]], now: _Moment, seconds: float) -> Table:
        bytes_before, rows_before = self._before.metrics.connection_bytes, self._before.rows_of
        rates = {
            number: max(count - bytes_before.get(number, 0), 0) / seconds
            for number, count in now.metrics.connection_bytes.items()
        }
        self._follow(rates)
        # The open ones that bring the most come first, then those that have ended last.
        rows.sort(key=lambda row: (row["id"] not in rates, -rates.get(row["id"], 0), -row["id"]))
        # What a connection counts as rows are blocks of them if they are decoded.
        counted = self._stats is None
        table = Table(expand=False, box=None, pad_edge=False)
        for name in ("id", "peer", "state", "Gb/s", *(["rows/s"] if counted else []), "bytes", ""):
            table.add_column(name, justify="left" if name in ("peer", "state") else "right")
        room = max(self.height - _ELSE_LINES, _LEAST_CONNECTIONS)
        for row in rows[:room]:
            number = row["id"]
            of_rows = max(row["rows"] - rows_before.get(number, 0), 0) / seconds
            shown = number in rates
            table.add_row(
                str(number),
                Text(row["peer"] or "?"),
                Text(row["close_reason"] or "open"),
                f"{rates[number] * 8e-9:.2f}" if shown else "",
                *([f"{of_rows:,.0f}" if shown else ""] if counted else []),
                human_bytes(row["bytes"]),
                spark(self._trends[number], _TREND) if shown else "",
            )
        if len(rows) > room or self.untold:
            shown_rows, all_rows = min(room, len(rows)), len(rows) + self.untold
            table.caption = f"{shown_rows} of {all_rows:,} connections"
        return table

    def _follow(self, rates: dict[int, float]) -> None:
        self._trends = {number: self._trends.get(number, deque(maxlen=_TREND)) for number in rates}
        for number, rate in rates.items():
            self._trends[number].append(rate)


def _title(source: Looked) -> Text:
    # Not markup: another program may say what it likes.
    return Text(f"{source.address[0]}:{source.address[1]} · {source.transport}")


def _head(now: _Moment, before: _Moment, seconds: float) -> Group:
    new, old = now.metrics, before.metrics
    came = new.bytes - old.bytes
    copied = new.copied_out_bytes + new.stitched_bytes - old.copied_out_bytes - old.stitched_bytes
    share = max(1 - copied / came, 0.0) if came else 1.0
    stalled = min((new.stalled_ns - old.stalled_ns) / 1e9 / seconds, 1.0)
    return Group(
        _line(
            f"[bold]{(now.rows - before.rows) / seconds:,.0f}[/] rows/s",
            f"[bold]{came * 8e-9 / seconds:.2f}[/] Gb/s",
            f"{now.rows:,} rows",
            human_bytes(new.bytes),
            f"{new.connections:,} connections",
        ),
        _line(
            f"{(new.batches - old.batches) / seconds:,.0f} batches/s",
            f"zero-copy {share:.1%}, since start {new.zero_copy_share:.1%}",
            f"{human_bytes(new.copied_out_bytes)} copied out",
            "[yellow]copying out[/]" if new.copying_out else "",
        ),
        _line(
            f"queue {new.queue_batches:,} batches, {human_bytes(new.queue_bytes)}",
            f"stalled {stalled:.0%}, {new.stalls:,} times",
            f"{new.gaps:,} gaps",
            "[yellow]waits for its reader[/]" if new.paused else "",
        ),
    )


def _line(*words: str) -> Text:
    line = Text.from_markup("   ".join(words))
    line.no_wrap, line.overflow = True, "ellipsis"
    return line
