# SPDX-License-Identifier: Apache-2.0
"""The live table."""

import time
from typing import Protocol

import pyarrow as pa
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import zcrx_arrow as zc
from zcrx_arrow.cli.common import human_bytes, printable
from zcrx_arrow.cli.summary import share_in_place
from zcrx_arrow.connectors.json_rows import json_rows
from zcrx_arrow.decoders import DecodeStats
from zcrx_arrow.replay import Replay

__all__ = ["LiveView", "View"]

_SHOWN_CONNECTIONS = 12
_WIDTH = 76
_SAMPLE_S = 0.1


class View(Protocol):
    """What shows a feed while it is moved."""

    def see(self, batch: pa.RecordBatch) -> None:
        """Look at a batch; nothing of it may be held."""

    def render(self) -> RenderableType:
        """Show this moment."""


class LiveView:
    """
    Rates and states of a source, as a rich renderable made anew for each refresh.

    Parameters
    ----------
    source : Source or Replay
        What is looked at.
    stats : DecodeStats, optional
        Of its decoder, if it has one.
    title : str, optional
        Default: address and transport.
    """

    def __init__(
        self,
        source: zc.Source | Replay,
        stats: DecodeStats | None = None,
        title: str | None = None,
    ) -> None:
        self._source, self._stats = source, stats
        if title is None and isinstance(source, zc.Source):
            title = f"{source.address[0]}:{source.address[1]} · {source.transport}"
        self._title = title
        self._before = source.metrics()
        self._rows_before = 0
        self._at = time.monotonic()
        self._sample: bytes | str = b""
        self._sampled = 0.0

    def see(self, batch: pa.RecordBatch) -> None:
        """Remember the batch's last row as a sample, copied so that nothing is held."""
        if time.monotonic() < self._sampled + _SAMPLE_S:
            return
        self._sampled = time.monotonic()
        last = batch.slice(batch.num_rows - 1)
        if self._stats is None:
            self._sample = last.column("payload")[0].as_py()
        else:
            self._sample = next(json_rows(last))

    def render(self) -> Group:
        """Show this moment; rates are since the last call."""
        now, metrics = time.monotonic(), self._source.metrics()
        seconds = max(now - self._at, 1e-3)
        rows = self._stats.rows if self._stats is not None else metrics.rows
        head = Table.grid(padding=(0, 3))
        head.add_row(
            f"[bold]{(rows - self._rows_before) / seconds:,.0f}[/] rows/s",
            f"[bold]{(metrics.bytes - self._before.bytes) * 8e-9 / seconds:.2f}[/] Gb/s",
            f"{rows:,} rows",
            human_bytes(metrics.bytes),
            f"zero-copy {metrics.zero_copy_share:.1%}",
        )
        head.add_row(
            f"{metrics.batches:,} batches",
            f"queue {metrics.queue_batches}",
            f"area {metrics.chunks_leased} of {metrics.chunks} chunks leased",
            "[yellow]paused[/]" if metrics.paused else "",
            "[yellow]copying out[/]" if metrics.copying_out else "",
        )
        parts: list[Table | Text] = [head]
        if self._stats is not None:
            parts.append(_decoding(self._stats))
        parts.append(self._last())
        panel = Panel(Group(*parts), title=self._title)
        shown = [self._connections(metrics, seconds)] if isinstance(self._source, zc.Source) else []
        self._before, self._rows_before, self._at = metrics, rows, now
        return Group(panel, *shown)

    def _last(self) -> Text:
        name = "last payload  " if self._stats is None else "last row  "
        sample = self._sample.encode() if isinstance(self._sample, str) else self._sample
        return Text(name, style="dim") + Text(printable(sample, _WIDTH))

    def _connections(self, metrics: zc.Metrics, seconds: float) -> Table:
        assert isinstance(self._source, zc.Source)  # noqa: S101 - see render
        # What a connection counts as rows are blocks of them if they are decoded.
        counted = self._stats is None
        table = Table(expand=False)
        for name in ("id", "peer", "state", *(["rows"] if counted else []), "bytes", "Gb/s"):
            table.add_column(name, justify="left" if name in ("peer", "state") else "right")
        # Not its times: without pandas, Python has no nanoseconds.
        wanted = ["id", "peer", "close_reason", "rows", "bytes"]
        rows = self._source.connections().select(wanted).to_pylist()
        for row in rows[-_SHOWN_CONNECTIONS:]:
            before = self._before.connection_bytes.get(row["id"], 0)
            now = metrics.connection_bytes.get(row["id"])
            rate = f"{(now - before) * 8e-9 / seconds:.2f}" if now is not None else ""
            table.add_row(
                str(row["id"]),
                Text(row["peer"] or "?"),
                row["close_reason"] or "open",
                *([f"{row['rows']:,}"] if counted else []),
                human_bytes(row["bytes"]),
                rate,
            )
        if len(rows) > _SHOWN_CONNECTIONS:
            table.caption = f"the last {_SHOWN_CONNECTIONS} of {len(rows):,} connections"
        return table


def _decoding(stats: DecodeStats) -> Text:
    share = share_in_place(stats)
    words = [
        f"{stats.rejected_rows:,} rejected",
        f"{stats.nulled_rows:,} nulled",
        f"{stats.drifts:,} drifts",
        f"{stats.failed_connections:,} failed connections",
        *([f"{share:.1%} read in place"] if share is not None else []),
    ]
    return Text("   ".join(words))
