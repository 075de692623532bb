# SPDX-License-Identifier: Apache-2.0
"""A source whose batches pass through a decoder, or a framing of the user's own."""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from zcrx_arrow._native import ffi, lib
from zcrx_arrow._pipeline import Stages, new_context
from zcrx_arrow._supervisor import CLOSE_REASONS
from zcrx_arrow.errors import FramingError, ZcrxError
from zcrx_arrow.source import AGAIN, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zcrx_arrow._raw import RawBatch
    from zcrx_arrow._supervisor import Supervisor
    from zcrx_arrow.decoders import DecodeStats, Rejected
    from zcrx_arrow.metrics import Metrics

__all__ = ["DecodedSource"]

_REJECTED: Final = (65536, 64 << 20)
_SWEEP_S: Final = 0.5
_QUIET_NS: Final = 2_000_000_000


class DecodedSource(Source):
    """
    A live feed as record batches of typed columns.

    A `Source` in every other way. Decoding happens in the thread that pulls, one at a time.
    """

    def __init__(
        self, handle: Any, address: tuple[str, int], supervisor: Supervisor, stages: Stages
    ) -> None:
        """Not for users: see `listen` and `connect`."""
        super().__init__(handle, address, supervisor)
        self.decoder = stages.decode
        """What turns messages into columns, if it is not a framing alone that is your own."""
        self._lock = threading.RLock()
        self._context = new_context(supervisor.address, self._dismiss, *_REJECTED)
        self._pipeline = stages.pipeline(self._context, self.transport, self._raw_schema)
        self._ready: deque[pa.RecordBatch] = deque()
        self._look: Callable[[RawBatch], None] | None = None
        self._selected = False
        self._discarded = 0
        self._ended = False
        self._broken: ZcrxError | None = None
        self._swept = time.monotonic()
        self._latest_ns = 0

    @property
    def schema(self) -> pa.Schema:
        """
        Schema of every batch.

        Where the decoder takes it from the first rows, this waits for them.

        Raises
        ------
        FramingError
            If the stream ended without any.
        """
        while self._pipeline.schema is None:
            code, batch = self._pull(100_000_000)
            if batch is not None:
                self._ready.appendleft(batch)
            elif code == -errno.ENODATA and self._pipeline.schema is None:
                raise FramingError(
                    errno.ENODATA, "no row came that tells the schema", step="decode"
                )
        return self._pipeline.schema

    @property
    def rejected(self) -> Rejected:
        """Rows that could not be decoded, where the policy is ``reject``."""
        return self._context.rejected

    @property
    def decode_stats(self) -> DecodeStats:
        """Counters of the decoder."""
        return self._context.stats

    # --- for connectors ----------------------------------------------------------------------

    @property
    def known_schema(self) -> pa.Schema | None:
        """`schema`, without waiting; None: it takes the first rows to know."""
        return self._pipeline.schema

    def watch(self, look: Callable[[RawBatch], None]) -> None:
        """
        Have each batch of the core looked at before it is decoded, as rows may not say where from.

        Parameters
        ----------
        look : callable
            Called with it, in the thread that pulls; borrows it for the call. What it raises ends
            the feed as what a decoder raises does. A second one replaces the first.
        """
        self._look = look

    def take_decoded(self) -> list[pa.RecordBatch]:
        """
        Take what is decoded already, without waiting: the rest of what one batch of the core gave.

        Any thread. Each batch goes to exactly one of those who take and pull.
        """
        with self._lock:
            taken, self._ready = list(self._ready), deque()
            return taken

    def _select(self, columns: list[str] | None) -> None:
        """
        For connectors: batches from here on need no other columns; None: all of them again.

        What was decoded for a selection and not pulled goes with it, where it lacks columns.
        """
        with self._lock:
            if self._selected:
                came, whole = self._ready, self._pipeline.whole
                self._ready = deque(batch for batch in came if whole(batch))
                self._discarded += sum(batch.num_rows for batch in came if not whole(batch))
            self._selected = columns is not None
            self._pipeline.select(columns)

    def _amended(self, row: dict[str, Any]) -> dict[str, Any]:
        # The peer may have ended its stream before its bytes were looked at.
        failure = self._context.failure_of(row["id"])
        if failure is not None and row["close_reason"] is not None:
            row |= {"close_reason": "framing", "error": failure}
        row["partial_bytes"] += self._context.partial_of(row["id"])
        return row

    def metrics(self) -> Metrics:
        """Counters and gauges, see `Metrics`; ``rows`` are those of the decoded batches."""
        core = super().metrics()
        return replace(
            core,
            rows=self._context.stats.rows,
            discarded_rows=core.discarded_rows + self._discarded,
            partial_bytes=core.partial_bytes + self._context.partial_bytes,
        )

    def _dismiss(self, connection: int, reason: str) -> None:
        lib.za_source_dismiss(self._handle, connection, reason.encode("utf-8", "replace")[:127])

    def _pull(self, timeout_ns: int) -> tuple[int, pa.RecordBatch | None]:
        with self._lock:
            while not self._ready and not self._ended:
                if self._broken is not None:
                    raise self._broken.again()
                self.rejected._check_room()  # noqa: SLF001 - of this package
                array = ffi.new("struct ArrowArray *")
                code = lib.za_source_next(self._handle, timeout_ns, array)
                if code == 0:
                    raw = self._pipeline.raw(array)
                    self._latest_ns = raw.latest_ns
                    self._decode(raw)
                    self._sweep(quiet=False)
                    timeout_ns = 0
                elif code == -errno.ENODATA:
                    self._ended = True
                    self._finish(self._ends(with_all=True))
                elif code in AGAIN:
                    self._sweep(quiet=code == -errno.EAGAIN)
                    if not self._ready:
                        return code, None
                else:
                    self._raise(code)
            return (0, self._ready.popleft()) if self._ready else (-errno.ENODATA, None)

    def _decode(self, raw: RawBatch) -> None:
        try:
            if self._look is not None:
                self._look(raw)
            self._ready.extend(self._pipeline.feed(raw))
        except BaseException as error:
            # Its rows are gone, so going on as if nothing were missing is not offered.
            self._broken = ZcrxError(
                errno.EINTR,
                f"{type(error).__name__} ended the decoding of a batch, whose rows are lost",
                step="decode",
                remedy="Close this source and open another one.",
            )
            raise

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Iterate over batches until the stream ends; raises what `next_batch` raises."""
        # Without a name for the batch: it would be held while the next one is waited for.
        yield from iter(self.next_batch, None)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Arrow PyCapsule interface: a stream of the decoded batches, see `Source`."""
        self._check_owner()
        reader = pa.RecordBatchReader.from_batches(self.schema, iter(self))
        return reader.__arrow_c_stream__(requested_schema)

    # --- connections that have ended ---------------------------------------------------------

    def _sweep(self, *, quiet: bool) -> None:
        """Let go of what is remembered of connections of which everything has been seen."""
        now = time.monotonic()
        if not self._pipeline.known or now - self._swept < _SWEEP_S:
            return
        self._swept = now
        # Batches come in the order of arrival: what is younger than a connection's end comes
        # behind all of it. And a queue that is empty for longer than batches wait has nothing.
        limit = time.time_ns() - _QUIET_NS if quiet else 0
        seen = max(limit, self._latest_ns)
        ended = self._ends(with_all=False)
        self._finish({each: clean for each, (clean, at) in ended.items() if at < seen})

    def _ends(self, *, with_all: bool) -> dict[int, Any]:
        """Say of known connections that have ended whether they did so cleanly, and when."""
        infos = {info.id: info for info in self._infos(with_closed=True)}
        ends: dict[int, Any] = {}
        for each in self._pipeline.known:
            info = infos.get(each)
            closed_ns = info.closed_ns if info is not None else 1
            clean = info is not None and CLOSE_REASONS.get(info.reason) == "eof"
            if with_all:
                ends[each] = clean
            elif closed_ns:
                ends[each] = (clean, closed_ns)
        return ends

    def _finish(self, ends: dict[int, Any]) -> None:
        for connection, clean in ends.items():
            self._ready.extend(self._pipeline.closed(connection, clean=clean))
