# SPDX-License-Identifier: Apache-2.0
"""The live table."""

import time

import pyarrow as pa
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import zcrx_arrow as zc
from zcrx_arrow.cli.common import human_bytes, printable

__all__ = ["LiveView"]

_SHOWN_CONNECTIONS = 12
_WIDTH = 76


class LiveView:
    """Rates and states of a source, as a rich renderable made anew for each refresh."""

    def __init__(self, source: zc.Source) -> None:
        self._source = source
        self._before = source.metrics()
        self._at = time.monotonic()
        self._sample = b""

    def see(self, batch: pa.RecordBatch) -> None:
        """Remember the batch's last payload as a sample, copied so that nothing is held."""
        payload = batch.column("payload")[batch.num_rows - 1].as_py()
        self._sample = payload.encode() if isinstance(payload, str) else payload

    def render(self) -> Group:
        """Show this moment; rates are since the last call."""
        now, metrics = time.monotonic(), self._source.metrics()
        seconds = max(now - self._at, 1e-3)
        head = Table.grid(padding=(0, 3))
        head.add_row(
            f"[bold]{(metrics.rows - self._before.rows) / seconds:,.0f}[/] rows/s",
            f"[bold]{(metrics.bytes - self._before.bytes) * 8e-9 / seconds:.2f}[/] Gb/s",
            f"{metrics.rows:,} rows",
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
        shown = self._connections(metrics, seconds)
        self._before, self._at = metrics, now
        host, port = self._source.address
        title = f"{host}:{port} · {self._source.transport}"
        last = Text("last payload  ", style="dim") + Text(printable(self._sample, _WIDTH))
        return Group(Panel(Group(head, last), title=title), shown)

    def _connections(self, metrics: zc.Metrics, seconds: float) -> Table:
        table = Table(expand=False)
        for name in ("id", "peer", "state", "rows", "bytes", "Gb/s"):
            table.add_column(name, justify="left" if name in ("peer", "state") else "right")
        rows = self._source.connections().to_pylist()
        for row in rows[-_SHOWN_CONNECTIONS:]:
            before = self._before.connection_bytes.get(row["id"], 0)
            now = metrics.connection_bytes.get(row["id"])
            rate = f"{(now - before) * 8e-9 / seconds:.2f}" if now is not None else ""
            table.add_row(
                str(row["id"]),
                Text(row["peer"] or "?"),
                row["close_reason"] or "open",
                f"{row['rows']:,}",
                human_bytes(row["bytes"]),
                rate,
            )
        if len(rows) > _SHOWN_CONNECTIONS:
            table.caption = f"the last {_SHOWN_CONNECTIONS} of {len(rows):,} connections"
        return table
