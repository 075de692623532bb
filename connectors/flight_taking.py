# SPDX-License-Identifier: Apache-2.0
"""
What takes the streams that Flight clients put: admission, validation, the queue, and their end.

Source: Arrow Flight RPC, format/Flight.proto.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyarrow import flight

from zcrx_arrow.config import Size, parse_size, whole
from zcrx_arrow.connectors.flight_calls import Calls
from zcrx_arrow.connectors.flight_ending import end, name_of_peer, open_server
from zcrx_arrow.connectors.flight_inbox import Inbox
from zcrx_arrow.connectors.flight_incoming import (
    ORIGIN,
    BrokenStreamError,
    Connection,
    acknowledged,
    difference,
    reason_of,
    with_origin,
    without_details,
)
from zcrx_arrow.connectors.flight_request import Request, refusal
from zcrx_arrow.connectors.flight_wire import dictionary_bytes, wire_bytes
from zcrx_arrow.errors import ConfigError

if TYPE_CHECKING:
    from zcrx_arrow.connectors.flight_security import Endpoint

__all__ = ["Options", "Taking"]

_log = logging.getLogger("zcrx_arrow.flight")
_STEP_S: Final = 0.1
_GRACE_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a source of Flight streams was asked to be; see `flight_ingest.ingest`."""

    name: str
    schema: pa.Schema | None
    origin: bool
    queue: Size
    queue_batches: int
    connections: int
    accept: int | None
    closed_history: int

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"name={self.name!r} must be text")
        if not parse_size(self.queue, "queue"):
            raise ConfigError(f"queue={self.queue!r} must be a size above 0")
        whole(self.queue_batches, "queue_batches", 1, 2**20)
        whole(self.connections, "connections", 1, 4096)
        whole(self.closed_history, "closed_history", 0, 2**24)
        if self.accept is not None:
            whole(self.accept, "accept", 1, 2**32 - 1)


class _Flight(Calls):
    """The calls; everything they need is in the engine."""

    does = "DoPut to its feed"

    def __init__(self, engine: Taking, **options: Any) -> None:
        self._engine = engine
        super().__init__(**options)

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Take a stream."""
        self._engine.take(context, descriptor, reader, writer)


class Taking:
    """Everything but what the user holds; the threads of calls refer to this."""

    def __init__(self, options: Options, endpoint: Endpoint) -> None:
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
        self.open: dict[int, Connection] = {}
        self.closed: deque[Connection] = deque(maxlen=options.closed_history)
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
            raise refusal(difference(self.sent_schema, schema), "schema")

    # --- a stream ----------------------------------------------------------------------------

    def take(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Take a stream until its end."""
        try:
            request = Request.of_descriptor(descriptor)
            request.check_name(self.options.name)
            self._agree(reader.schema)
            connection = self._admit(context.peer())
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            self.refused += 1
            _log.warning("%s: stream refused: %r", name_of_peer(context.peer()), str(error))
            raise without_details(error) from None
        try:
            self._receive(connection, context, reader, writer if request.acks else None)
            writer.write(acknowledged(connection))
        except BaseException as error:  # noqa: BLE001 - and the connection is accounted for
            self._ended(connection, error)
            raise without_details(error) from None
        self._ended(connection, None)

    def _admit(self, peer: str) -> Connection:
        with self._lock:
            accept = self.options.accept
            full = len(self.open) >= self.options.connections
            if self._closing.is_set() or full or (accept is not None and self.accepted >= accept):
                raise flight.FlightUnavailableError("no further stream is taken", b"full")
            self.accepted += 1
            made = Connection(next(self._ids), name_of_peer(peer), time.time_ns())
            self.open[made.id] = made
            return made

    def _receive(self, connection: Connection, context: Any, reader: Any, acks: Any) -> None:
        while True:
            chunk = self._read(context, reader)
            if chunk is None:
                return
            if chunk.data is not None:
                self._accept(connection, context, chunk.data)
            del chunk
            if acks is not None:
                acks.write(acknowledged(connection))

    def _read(self, context: Any, reader: Any) -> Any:
        """Give the next chunk; None when the client has said that there are no more."""
        try:
            return reader.read_chunk()
        except StopIteration:
            if context.is_cancelled():
                raise BrokenStreamError("the client went away") from None
            return None
        except (pa.ArrowException, flight.FlightError, OSError, ValueError) as error:
            if context.is_cancelled() or isinstance(error, pa.ArrowCancelled | flight.FlightError):
                raise BrokenStreamError(str(error)) from None
            self.invalid += 1
            raise refusal(f"a message cannot be read: {error}", "invalid") from None

    def _accept(self, connection: Connection, context: Any, batch: pa.RecordBatch) -> None:
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
            batch = with_origin(batch, connection, self.schema)
        if not self.inbox.put(batch, size, context.is_cancelled, _STEP_S):
            if context.is_cancelled():
                raise BrokenStreamError("the client went away while its batch waited")
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

    def _ended(self, connection: Connection, error: BaseException | None) -> None:
        connection.closed_ns = time.time_ns()
        connection.reason = reason_of(error, closing=self._closing.is_set())
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

    def connections(self) -> list[Connection]:
        """Give the streams so far, by number."""
        with self._lock:
            return sorted([*self.closed, *self.open.values()], key=lambda each: each.id)

    def sums(self) -> list[int]:
        """Give the batches, rows and bytes of all streams."""
        with self._lock:
            counts = [self.totals, *([c.batches, c.rows, c.bytes] for c in self.open.values())]
            return [sum(column) for column in zip(*counts, strict=True)]

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing.is_set()

    def close(self, *, discard: bool) -> None:
        """Take nothing more, and end the streams; drop what is queued, if that is wanted."""
        if os.getpid() != self._owner:  # the connections are the parent's
            return
        with self._close_lock:
            first = not self._closing.is_set()
            self._closing.set()
            self.inbox.end(discard=discard)
            if first:
                end(self._server, _GRACE_S, self._host)
