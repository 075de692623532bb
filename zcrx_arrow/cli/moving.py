# SPDX-License-Identifier: Apache-2.0
"""From a source, or a file that is decoded, to a sink: until something ends it."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.live import Live

import zcrx_arrow as zc
from zcrx_arrow.cli.common import tell
from zcrx_arrow.cli.folders import open_folder
from zcrx_arrow.cli.rejects import drain
from zcrx_arrow.cli.summary import Summary
from zcrx_arrow.cli.view import View
from zcrx_arrow.connectors.rolling_sink import RollingSink
from zcrx_arrow.connectors.sink import NullSink, Sink, open_sink
from zcrx_arrow.decoded import DecodedSource
from zcrx_arrow.decoders import Decoder
from zcrx_arrow.errors import FramingError, ZcrxError
from zcrx_arrow.replay import Replay

__all__ = ["Move", "Stop", "opened"]

_REFRESH_S = 0.25


@dataclass(frozen=True, slots=True)
class Stop:
    """What ends it before the stream does."""

    rows: int | None = None
    bytes: int | None = None
    seconds: float | None = None


@contextmanager
def opened(
    target: str, source: zc.Source | Replay, decoder: Decoder | None, summary: Summary
) -> Iterator[Sink]:
    """Open the sink; close it after success, remove what it wrote after an error."""
    # A schema that the first rows tell is not waited for.
    known = decoder is None or getattr(decoder, "schema", None) is not None
    live = target == "live"
    schema = source.schema if known and not live else None
    sink: Sink = (
        NullSink()
        if live
        else open_folder(target, schema, source) or open_sink(target, schema, sys.stdout)
    )
    try:
        yield sink
        sink.close()
    except BaseException:
        sink.abort()
        raise
    if not known and not summary.batches and ":" in target:
        tell(f"no row came that tells a schema: {target} was not written")


@dataclass
class Move:
    """
    Moves batches.

    Parameters
    ----------
    source : Source or Replay
        Where they come from.
    sink, rejects : Sink
        Where rows go, and those that could not be decoded.
    decoder : Decoder, optional
        What `source` decodes with.
    stop : Stop
        Limits.
    view : View, optional
        Shown while it runs.
    """

    source: zc.Source | Replay
    sink: Sink
    rejects: Sink
    decoder: Decoder | None
    stop: Stop
    summary: Summary
    view: View | None = None
    error: FramingError | None = None
    """What ended a `Replay` before its end."""
    _deadline: float | None = None
    _due: float = 0.0
    _stopping: bool = False
    _display: Any = field(default_factory=nullcontext)

    def run(self) -> str:
        """Move until it is over; says why it is."""
        if self.stop.seconds is not None:
            self._deadline = time.monotonic() + self.stop.seconds
        if self.view:
            self._display = self._shown()
        try:
            with self._display:
                return self._run()
        except KeyboardInterrupt:
            return "stopped by Ctrl-C"
        finally:
            self._drain()

    def _shown(self) -> Any:
        """Give where the view is shown; a context."""
        console = Console(stderr=not sys.stdout.isatty())
        return Live(console=console, auto_refresh=False)

    def _run(self) -> str:
        while True:
            self._refresh()
            batch, ended = self._next()
            self._drain()
            if isinstance(self.sink, RollingSink):
                self.sink.tick()
            if ended is None and batch is not None:
                ended = self._take(batch)
            del batch  # or it would be held while the next one is waited for
            if ended is None and self._bytes_reached():
                ended = self._enough()
            if ended:
                self._due = 0.0
                self._refresh()
                return ended

    def _take(self, batch: pa.RecordBatch) -> str | None:
        rows, limit = self.stop.rows, None if self.decoder is not None else self.stop.bytes
        batch = _within(batch, self.summary, rows, limit)
        self.sink.write(batch)
        self.summary.add(batch, _payload_bytes(batch) if limit is not None else 0)
        if self.view and batch.num_rows:
            self.view.see(batch)
        if rows is not None and self.summary.rows >= rows:
            return f"stopped after {rows:,} rows"
        if limit is not None and self.summary.payload_bytes >= limit:
            return f"stopped after {self.summary.payload_bytes:,} bytes"
        return None

    def _bytes_reached(self) -> bool:
        return (
            self.stop.bytes is not None
            and self.decoder is not None
            and not self._stopping
            and self.source.metrics().bytes >= self.stop.bytes
        )

    def _enough(self) -> str | None:
        """Stop at bytes: what was received by then is still decoded."""
        self._stopping = True
        if isinstance(self.source, Replay):
            return self._after_bytes()
        self.source.stop()
        return None

    def _after_bytes(self) -> str:
        return f"stopped after {self.source.metrics().bytes:,} bytes received"

    def _next(self) -> tuple[pa.RecordBatch | None, str | None]:
        """Wait for a batch, but not past the deadline or the next refresh; or why it is over."""
        often = self.view or self.decoder is not None or isinstance(self.sink, RollingSink)
        timeout = _REFRESH_S if often else None
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                return None, "stopped at the time limit"
            timeout = left if timeout is None else min(timeout, left)
        try:
            if isinstance(self.source, Replay):
                batch = next(self.source, None)
            else:
                batch = self.source.next_batch(timeout)
        except TimeoutError:
            return None, None
        except FramingError as error:
            self.error = error
            return None, "stopped at what cannot be read"
        except ZcrxError as error:
            # It goes on once they are taken.
            if error.step != "rejected":
                raise
            return None, None
        if batch is not None:
            return batch, None
        return None, self._after_bytes() if self._stopping else "end of stream"

    def _drain(self) -> None:
        if isinstance(self.source, DecodedSource | Replay):
            drain(self.source.rejected, self.rejects)

    def _refresh(self) -> None:
        if self.view and time.monotonic() >= self._due:
            self._display.update(self.view.render(), refresh=True)
            self._due = time.monotonic() + _REFRESH_S


def _payload_bytes(batch: pa.RecordBatch) -> int:
    payload = batch.column("payload").cast(pa.large_binary())
    return int(payload.buffers()[2].size) if len(payload) else 0


def _within(
    batch: pa.RecordBatch, summary: Summary, rows: int | None, limit: int | None
) -> pa.RecordBatch:
    """Cut a batch off at the row that a limit falls on."""
    if rows is not None and summary.rows + batch.num_rows > rows:
        batch = batch.slice(0, rows - summary.rows)
    if limit is not None and summary.payload_bytes + _payload_bytes(batch) > limit:
        left = limit - summary.payload_bytes
        count = 0
        while left > 0:
            left -= len(batch.column("payload")[count].as_py())
            count += 1
        batch = batch.slice(0, count)
    return batch
