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
import functools
import itertools
import json
import logging
import os
import threading
import time
import warnings
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import flight

from zcrx_arrow._closing import Closing
from zcrx_arrow.config import Duration, Size, parse_duration, parse_size, whole
from zcrx_arrow.connectors.flight_ending import end, name_of_peer, open_server
from zcrx_arrow.connectors.flight_inbox import Inbox
from zcrx_arrow.connectors.flight_request import Request, refusal
from zcrx_arrow.connectors.flight_security import Endpoint, Tls
from zcrx_arrow.connectors.flight_wire import dictionary_bytes, wire_bytes
from zcrx_arrow.errors import ConfigError, ForkedError, FramingError
from zcrx_arrow.source import CONNECTIONS_SCHEMA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from zcrx_arrow.address import Address

__all__ = ["IngestMetrics", "IngestSource", "Tls", "ingest"]

_log = logging.getLogger("zcrx_arrow.flight")
_STEP_S: Final = 0.1
_GRACE_S: Final = 0.5
_TEXT: Final = 200

ORIGIN: Final = (
    pa.field("connection", pa.uint32(), nullable=False),
    pa.field("position", pa.uint64(), nullable=False),
    pa.field("received_at", pa.timestamp("ns", "UTC"), nullable=False),
)


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


@dataclass(slots=True, eq=False)
class _Connection:
    """A stream of a client; written by the thread of its call."""

    id: int
    peer: str
    opened_ns: int
    closed_ns: int = 0
    reason: str | None = None
    error: str | None = None
    batches: int = 0
    rows: int = 0
    bytes: int = 0
    dictionaries: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Of the latest batch: where they lie, and their bytes."""

    def row(self, local: str) -> dict[str, Any]:
        """Give its row of the table of connections."""
        return {
            "id": self.id,
            "peer": self.peer,
            "local": local.partition("://")[2],
            "opened_at": self.opened_ns,
            "closed_at": self.closed_ns or None,
            "close_reason": self.reason,
            "error": self.error,
            "bytes": self.bytes,
            "rows": self.rows,
            "partial_bytes": 0,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    name: str
    schema: pa.Schema | None
    origin: bool
    queue: Size
    queue_batches: int
    connections: int
    accept: int | None
    closed_history: int

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"name={self.name!r} must be text")
        if not parse_size(self.queue, "queue"):
            raise ConfigError(f"queue={self.queue!r} must be a size above 0")
        whole(self.queue_batches, "queue_batches", 1, 2**20)
        whole(self.connections, "connections", 1, 4096)
        whole(self.closed_history, "closed_history", 0, 2**24)
        if self.accept is not None:
            whole(self.accept, "accept", 1, 2**32 - 1)


class _Flight(flight.FlightServerBase):  # type: ignore[misc] # pyarrow has no types
    """The calls; everything they need is in the engine."""

    def __init__(self, engine: _Engine, **options: Any) -> None:
        self._engine = engine
        super().__init__(**options)

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Take a stream."""
        self._engine.take(context, descriptor, reader, writer)


class _Engine:
    """Everything but what the user holds; the threads of calls refer to this."""

    def __init__(self, options: _Options, endpoint: Endpoint) -> None:
        self.options = options
        self.max_bytes = parse_size(options.queue)
        self.inbox = Inbox(self.max_bytes, options.queue_batches)
        self.sent_schema: pa.Schema | None = None
        """What clients must send."""
        self.schema_known = threading.Event()
        self.schema: pa.Schema | None = None
        """What comes out."""
        self.refused = self.broken = self.invalid = self.accepted = 0
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self.open: dict[int, _Connection] = {}
        self.closed: deque[_Connection] = deque(maxlen=options.closed_history)
        self.totals = [0, 0, 0]  # batches, rows, bytes of connections that have ended
        self._owner = os.getpid()
        self._closing = threading.Event()
        self._close_lock = threading.Lock()
        if options.schema is not None:
            self._settle(options.schema)
        self._server = open_server(functools.partial(_Flight, self), endpoint)
        self.port: int = self._server.port
        self._host = endpoint.host
        self.local = endpoint.uri_at(self.port)

    # --- one schema --------------------------------------------------------------------------

    def _settle(self, schema: pa.Schema) -> None:
        """Have this schema for life."""
        made = schema
        if self.options.origin:
            taken = [field.name for field in ORIGIN if field.name in schema.names]
            if taken:
                raise ConfigError(f"origin=True: there is a column {taken[0]!r} already")
            made = pa.schema([*schema, *ORIGIN], schema.metadata)
        self.sent_schema, self.schema = schema, made
        self.schema_known.set()

    def _agree(self, schema: pa.Schema) -> None:
        with self._lock:
            if self.sent_schema is None:
                try:
                    self._settle(schema)
                except ConfigError as error:
                    raise refusal(str(error), "schema") from None
                return
        if not schema.equals(self.sent_schema, check_metadata=False):
            raise refusal(_difference(self.sent_schema, schema), "schema")

    # --- a stream ----------------------------------------------------------------------------

    def take(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        try:
            request = Request.of_descriptor(descriptor)
            request.check_name(self.options.name)
            self._agree(reader.schema)
            connection = self._admit(context.peer())
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            self.refused += 1
            _log.warning("%s: stream refused: %r", name_of_peer(context.peer()), str(error))
            raise _without_details(error) from None
        try:
            self._receive(connection, context, reader, writer if request.acks else None)
            writer.write(_acknowledged(connection))
        except BaseException as error:  # noqa: BLE001 - and the connection is accounted for
            self._ended(connection, error)
            raise _without_details(error) from None
        self._ended(connection, None)

    def _admit(self, peer: str) -> _Connection:
        with self._lock:
            accept = self.options.accept
            full = len(self.open) >= self.options.connections
            if self._closing.is_set() or full or (accept is not None and self.accepted >= accept):
                raise flight.FlightUnavailableError("no further stream is taken", b"full")
            self.accepted += 1
            made = _Connection(next(self._ids), name_of_peer(peer), time.time_ns())
            self.open[made.id] = made
            return made

    def _receive(self, connection: _Connection, context: Any, reader: Any, acks: Any) -> None:
        while True:
            chunk = self._read(context, reader)
            if chunk is None:
                return
            if chunk.data is not None:
                self._accept(connection, context, chunk.data)
            del chunk
            if acks is not None:
                acks.write(_acknowledged(connection))

    def _read(self, context: Any, reader: Any) -> Any:
        """Give the next chunk; None when the client has said that there are no more."""
        try:
            return reader.read_chunk()
        except StopIteration:
            if context.is_cancelled():
                raise _Broken("the client went away") from None
            return None
        except (pa.ArrowException, flight.FlightError, OSError, ValueError) as error:
            if context.is_cancelled() or isinstance(error, pa.ArrowCancelled | flight.FlightError):
                raise _Broken(str(error)) from None
            self.invalid += 1
            raise refusal(f"a message cannot be read: {error}", "invalid") from None

    def _accept(self, connection: _Connection, context: Any, batch: pa.RecordBatch) -> None:
        self._validate(batch)
        # A dictionary counts with the first of a stream's batches that have it.
        before, connection.dictionaries = connection.dictionaries, dictionary_bytes(batch)
        size = wire_bytes(batch) + sum(
            each for at, each in connection.dictionaries.items() if at not in before
        )
        if size > self.max_bytes:
            self.invalid += 1
            raise refusal(
                f"a batch of {size} bytes is larger than the queue of {self.max_bytes}: send "
                "smaller ones",
                "too-large",
            )
        rows = batch.num_rows
        if not rows:
            return
        if self.options.origin:
            batch = _with_origin(batch, connection, self.schema)
        if not self.inbox.put(batch, size, context.is_cancelled, _STEP_S):
            if context.is_cancelled():
                raise _Broken("the client went away while its batch waited")
            raise flight.FlightUnavailableError("the server is closing", b"closing")
        connection.batches += 1
        connection.rows += rows
        connection.bytes += size

    def _validate(self, batch: pa.RecordBatch) -> None:
        try:
            batch.validate(full=True)
        except (pa.ArrowException, ValueError) as error:
            self.invalid += 1
            raise refusal(f"a batch is not valid: {error}", "invalid") from None
        for each, column in zip(batch.schema, batch.columns, strict=True):
            if not each.nullable and column.null_count:
                self.invalid += 1
                raise refusal(
                    f"a batch is not valid: {each.name!r} is null and must not be", "invalid"
                )

    def _ended(self, connection: _Connection, error: BaseException | None) -> None:
        connection.closed_ns = time.time_ns()
        connection.reason = _reason(error, closing=self._closing.is_set())
        if error is not None:
            connection.error = str(error)
            _log.warning("%s: stream has ended: %r", connection.peer, str(error))
        with self._lock:
            self.broken += connection.reason == "reset"
            del self.open[connection.id]
            self.closed.append(connection)
            counts = (connection.batches, connection.rows, connection.bytes)
            self.totals = [a + b for a, b in zip(self.totals, counts, strict=True)]
            last = self.accepted == self.options.accept and not self.open
        if last:
            self.inbox.end()

    # --- looking and ending ------------------------------------------------------------------

    def connections(self) -> list[_Connection]:
        with self._lock:
            return sorted([*self.closed, *self.open.values()], key=lambda each: each.id)

    def sums(self) -> list[int]:
        with self._lock:
            counts = [self.totals, *([c.batches, c.rows, c.bytes] for c in self.open.values())]
            return [sum(column) for column in zip(*counts, strict=True)]

    @property
    def closing(self) -> bool:
        return self._closing.is_set()

    def close(self, *, discard: bool) -> None:
        if os.getpid() != self._owner:  # the connections are the parent's
            return
        with self._close_lock:
            first = not self._closing.is_set()
            self._closing.set()
            self.inbox.end(discard=discard)
            if first:
                end(self._server, _GRACE_S, self._host)


class _Broken(flight.FlightUnavailableError):  # type: ignore[misc] # pyarrow has no types
    """A stream that has ended without its client saying so."""


def _without_details(error: Any) -> BaseException:
    """Give what a client may be told: pyarrow would send the traceback of anything else."""
    told = isinstance(error, flight.FlightError) or not isinstance(error, Exception)
    made: BaseException = error if told else refusal(f"{type(error).__name__}: {error}", "failed")
    return made


def _reason(error: BaseException | None, *, closing: bool) -> str:
    """Name the end of a stream as sources do."""
    if error is None:
        return "eof"
    if closing:
        return "local"
    if isinstance(error, _Broken):
        return "reset"
    return "framing" if isinstance(error, flight.FlightServerError) else "error"


def _acknowledged(connection: _Connection) -> bytes:
    return json.dumps({"batches": connection.batches, "rows": connection.rows}).encode()


def _difference(wanted: pa.Schema, given: pa.Schema) -> str:
    for a, b in itertools.zip_longest(wanted, given):
        if a is None or b is None or not a.equals(b):
            return f"this feed's schema has {_named(a)} where the stream's has {_named(b)}"
    return "the schemas differ"


def _named(field: pa.Field | None) -> str:
    if field is None:
        return "no column"
    text = f"{field.name}: {field.type}{'' if field.nullable else ' not null'}"
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}..."  # as long as a client likes


def _with_origin(
    batch: pa.RecordBatch, connection: _Connection, schema: pa.Schema | None
) -> pa.RecordBatch:
    rows = batch.num_rows
    positions = np.arange(connection.rows, connection.rows + rows, dtype=np.uint64)
    now = np.full(rows, time.time_ns(), np.int64)
    columns = [
        *batch.columns,
        pa.array(np.full(rows, connection.id, np.uint32)),
        pa.array(positions),
        pa.array(now).cast(ORIGIN[2].type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


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

    def __init__(self, engine: _Engine) -> None:
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
    options = _Options(
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
    return IngestSource(_Engine(options, endpoint))
