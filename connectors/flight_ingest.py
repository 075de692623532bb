# SPDX-License-Identifier: Apache-2.0
"""
A Flight server that takes DoPut, as a source.

Batches of all clients come out of one bounded queue; when it is full, their streams stand still
and gRPC's flow control holds the clients back. Everything is validated before anybody sees it.

Needs pyarrow with Flight, as its wheels have it. Source: Arrow Flight RPC, format/Flight.proto.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import time
import warnings
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from zcrx_arrow._closing import Closing
from zcrx_arrow.config import Duration, Size, parse_duration
from zcrx_arrow.connectors.flight_security import Endpoint, Tls
from zcrx_arrow.connectors.flight_taking import Options, Taking
from zcrx_arrow.errors import ForkedError, FramingError
from zcrx_arrow.source import CONNECTIONS_SCHEMA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from zcrx_arrow.address import Address

__all__ = ["IngestMetrics", "IngestSource", "Tls", "ingest"]

_log = logging.getLogger("zcrx_arrow.flight")
_STEP_S: Final = 0.1
_GRACE_S: Final = 0.5
_TEXT: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestMetrics:
    """Counters since the server was opened, and gauges of this moment."""

    connections: int
    """Streams that are open."""
    accepted: int
    refused: int
    """Streams that were refused: another feed or schema, or too many."""
    broken: int
    """Streams that ended without saying so."""
    invalid: int
    """Batches that did not pass validation, or were too large."""
    batches: int
    """Accepted."""
    rows: int
    bytes: int
    stalls: int
    """Times that a client had to wait because the queue was full."""
    stalled_s: float
    discarded_rows: int
    """Accepted, and dropped by `IngestSource.close`."""
    queue_batches: int
    queue_bytes: int


class IngestSource(Closing):
    """
    What Flight clients put, as Arrow record batches; made by `ingest`.

    Used as a `zcrx_arrow.Source`: iterate over it, in ``for`` or ``async for``, or give it to
    anything that reads the Arrow C stream interface. Every batch goes to exactly one of those who
    pull.

    Ownership
        Batches own their memory, and outlive the source.
    Thread safety
        Every method may be called from any thread.
    Fork
        In a child every method that pulls raises `ForkedError`.
    """

    def __init__(self, engine: Taking) -> None:
        """Not for users: see `ingest`."""
        self._engine = engine
        self._owner = os.getpid()
        self._closed = False
        self.location: str = engine.local
        """Where clients reach it, such as ``"grpc://127.0.0.1:4711"``."""
        self.port = engine.port
        self.transport = "flight"
        self._finalizer = weakref.finalize(self, engine.close, discard=True)

    @property
    def schema(self) -> pa.Schema:
        """
        Schema of every batch; waits for the first client if it was not given.

        Raises
        ------
        FramingError
            If the source was stopped or closed before one came.
        """
        while not self._engine.schema_known.wait(_STEP_S):
            if self._engine.closing or os.getpid() != self._owner:
                raise FramingError(errno.ENODATA, "no client came that tells the schema")
        return self._engine.schema

    # --- pulling -----------------------------------------------------------------------------

    def next_batch(self, timeout: Duration | None = None) -> pa.RecordBatch | None:
        """
        Wait for the next batch.

        Parameters
        ----------
        timeout : float or str, optional
            Seconds, or text with a unit. Without it, as long as it takes.

        Returns
        -------
        pyarrow.RecordBatch or None
            None when the source was closed, or with ``accept=`` all streams have ended.

        Raises
        ------
        TimeoutError
            If no batch came in time.
        """
        limit = None if timeout is None else parse_duration(timeout, "timeout")
        deadline = None if limit is None else time.monotonic() + limit
        while True:
            self._check_owner()
            left = _STEP_S if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return self._engine.inbox.get(min(left, _STEP_S))
            except TimeoutError:
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "no batch came in time") from None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Iterate over batches until the end; raises what `next_batch` raises."""
        yield from iter(self.next_batch, None)

    def __next__(self) -> pa.RecordBatch:
        """Give the next batch; see `next_batch`."""
        batch = self.next_batch()
        if batch is None:
            raise StopIteration
        return batch

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        """Iterate over batches without blocking the event loop."""
        while True:
            # Taken here and not in a thread: a task that is cancelled loses no batch.
            try:
                batch = self.next_batch(0)
            except TimeoutError:
                await self._arrival()
                continue
            if batch is None:
                return
            yield batch
            del batch

    async def _arrival(self) -> None:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended since
                loop.call_soon_threadsafe(arrived.set)

        self._engine.inbox.tell(wake)
        try:
            await arrived.wait()
        finally:
            self._engine.inbox.forget(wake)

    def __arrow_c_schema__(self) -> object:
        """Arrow PyCapsule interface: the schema."""
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Arrow PyCapsule interface: a stream over the same queue; see `Source`."""
        self._check_owner()
        reader = pa.RecordBatchReader.from_batches(self.schema, iter(self))
        return reader.__arrow_c_stream__(requested_schema)

    # --- looking -----------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def metrics(self) -> IngestMetrics:
        """Counters and gauges, see `IngestMetrics`; also after `close`."""
        engine = self._engine
        batches, rows, size = engine.sums()
        return IngestMetrics(
            connections=len(engine.open),
            accepted=engine.accepted,
            refused=engine.refused,
            broken=engine.broken,
            invalid=engine.invalid,
            batches=batches,
            rows=rows,
            bytes=size,
            stalls=engine.inbox.stalls,
            stalled_s=engine.inbox.stalled_s,
            discarded_rows=engine.inbox.discarded_rows,
            queue_batches=len(engine.inbox),
            queue_bytes=engine.inbox.bytes,
        )

    def connections(self) -> pa.Table:
        """
        Give the streams so far, by number.

        Returns
        -------
        pyarrow.Table
            As `zcrx_arrow.Source.connections` gives it. ``close_reason`` is ``"eof"`` when the
            client has ended its stream, ``"reset"`` when it went away, ``"framing"`` when what it
            sent was refused, ``"local"`` when this side closed it.
        """
        engine = self._engine
        rows = [connection.row(engine.local) for connection in engine.connections()]
        return pa.Table.from_pylist(rows, CONNECTIONS_SCHEMA)

    # --- ending ------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take nothing more and end the streams; what is queued can still be pulled."""
        self._check_owner()
        self._engine.close(discard=False)

    def close(self) -> None:
        """
        Stop, and drop what is queued. Idempotent.

        Clients whose streams are open get an error; those that do not notice are cut off.
        """
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        self._finalizer.detach()
        self._engine.close(discard=True)

    def __del__(self) -> None:
        """Warn about a source that was never closed."""
        if not getattr(self, "_closed", True) and os.getpid() == self._owner:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        """Name the source by its location and state."""
        return f"<zcrx_arrow.IngestSource {self.location}{' closed' if self._closed else ''}>"

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise ForkedError(self._owner)


def ingest(
    location: Address = "grpc://127.0.0.1:0",
    *,
    name: str = "feed",
    schema: pa.Schema | None = None,
    origin: bool = False,
    queue: Size = "64 MiB",
    queue_batches: int = 64,
    connections: int = 64,
    accept: int | None = None,
    closed_history: int = 10_000,
    tls: Tls | None = None,
    token: str | None = None,
    insecure: bool = False,
) -> IngestSource:
    """
    Take what Flight clients put, as a source.

    A client calls DoPut with the path ``[name]``, or with the command ``{"feed": name, "acks":
    true}`` to have each batch acknowledged; it must read the acknowledgements then. The last one
    comes in any case, when all of its stream is queued: ``{"batches": 3, "rows": 4096}``.

    Parameters
    ----------
    location : str or (str, int)
        ``"grpc://host:port"``, ``"grpc+tls://host:port"`` or an address; port 0 takes a free one.
    name : str
        The feed's; streams for another are refused.
    schema : pyarrow.Schema, optional
        Of every stream. Without it, the first client's is that of the source for its life.
        Metadata may differ.
    origin : bool
        Add columns ``connection`` uint32, ``position`` uint64 (the row's number in its stream)
        and ``received_at`` timestamp[ns, UTC].
    queue, queue_batches
        Bytes and batches that wait to be pulled. When it is full, clients wait. A batch that is
        larger than `queue` is refused; a dictionary counts with the first batch that has it.
    connections : int
        Streams at a time.
    accept : int, optional
        End after so many streams.
    closed_history : int
        Ended streams that ``connections()`` remembers.
    tls, token, insecure
        As for `zcrx_arrow.connectors.flight_server.serve`.

    Returns
    -------
    IngestSource

    Raises
    ------
    ConfigError
        If an option cannot work, or would be insecure.
    ZcrxError
        If the address cannot be bound.
    """
    options = Options(
        name=name,
        schema=schema,
        origin=origin,
        queue=queue,
        queue_batches=queue_batches,
        connections=connections,
        accept=accept,
        closed_history=closed_history,
    )
    endpoint = Endpoint.of(location, tls, token, insecure=insecure)
    return IngestSource(Taking(options, endpoint))
