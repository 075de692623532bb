# SPDX-License-Identifier: Apache-2.0
"""
A live feed for many clients, over Arrow Flight.

Each batch is prepared once and shared by all clients; each of them has its place in the feed, and
one that is too slow is dropped, skips batches, or is waited for. The receive memory is free again
before a batch is sent.

Needs pyarrow with Flight, as its wheels have it. Source: Arrow Flight RPC, format/Flight.proto.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import logging
import os
import threading
import time
import warnings
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import pyarrow as pa
from pyarrow import flight

from zcrx_arrow.config import Duration, Size, parse_duration, parse_size, whole
from zcrx_arrow.connectors.flight_ending import end, hang_up, name_of_peer, open_server
from zcrx_arrow.connectors.flight_fanout import Fanout
from zcrx_arrow.connectors.flight_policy import Piece, Policy, Reader, ReaderEndedError, Slow
from zcrx_arrow.connectors.flight_pump import Pump, schema_of
from zcrx_arrow.connectors.flight_request import Request, refusal
from zcrx_arrow.connectors.flight_security import Endpoint, Tls
from zcrx_arrow.connectors.flight_wire import Wire
from zcrx_arrow.errors import ConfigError, ZcrxError
from zcrx_arrow.replay import Replay
from zcrx_arrow.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from zcrx_arrow.address import Address

__all__ = ["Server", "ServerMetrics", "Tls", "serve"]

_log = logging.getLogger("zcrx_arrow.flight")
_STEP_S: Final = 0.25
_MERGE_BYTES: Final = 1 << 20
_GRACE_S: Final = 2.0  # for a client that was told that its stream ends, and does not read it

CLIENTS_SCHEMA: Final = pa.schema(
    [
        pa.field("peer", pa.string(), nullable=False),
        pa.field("connected_s", pa.float64(), nullable=False),
        pa.field("sent_batches", pa.uint64(), nullable=False),
        pa.field("sent_bytes", pa.uint64(), nullable=False),
        pa.field("behind_batches", pa.uint64(), nullable=False),
        pa.field("behind_bytes", pa.uint64(), nullable=False),
        pa.field("skipped_batches", pa.uint64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetrics:
    """Counters since the server was opened, and gauges of this moment."""

    clients: int
    """Streams that are open."""
    joined: int
    refused: int
    """Streams that were refused because of the bound on clients."""
    dropped: int
    """Clients that were too slow."""
    hung_up: int
    """Connections cut because their client did not read that it was dropped."""
    batches: int
    """Of the feed, as they are sent."""
    rows: int
    bytes: int
    sent_batches: int
    """To all clients."""
    sent_rows: int
    sent_bytes: int
    skipped_batches: int
    """By all clients, with ``slow="skip"``."""
    skipped_rows: int
    waits: int
    """Times that the feed waited for a client, with ``slow="wait"``."""
    waited_s: float
    held_batches: int
    """In memory now, for clients that are behind or ask for the past."""
    held_bytes: int


class _Flight(flight.FlightServerBase):  # type: ignore[misc] # pyarrow has no types
    """The calls; everything they need is in the engine."""

    def __init__(self, engine: _Engine, **options: Any) -> None:
        self._engine = engine
        super().__init__(**options)

    def list_flights(self, _context: Any, criteria: bytes) -> Iterator[flight.FlightInfo]:
        """Give the feed, if its name begins with the criteria."""
        if self._engine.name.encode().startswith(criteria):
            yield self._engine.info(flight.FlightDescriptor.for_path(self._engine.name))

    def get_flight_info(
        self, _context: Any, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        """Tell the schema, and the ticket to get the feed with."""
        return self._engine.info(descriptor)

    def get_schema(self, _context: Any, descriptor: flight.FlightDescriptor) -> flight.SchemaResult:
        """Tell the schema."""
        return flight.SchemaResult(self._engine.info(descriptor).schema)

    def do_get(self, context: Any, ticket: flight.Ticket) -> flight.FlightDataStream:
        """Stream the feed."""
        return self._engine.stream(context, Request.of_bytes(ticket.ticket))


class _Engine:
    """Everything of a server but what its user holds; its threads refer to this."""

    def __init__(
        self, source: Any, name: str, policy: Policy, wire: Wire, endpoint: Endpoint, wait_for: int
    ) -> None:
        self.name, self._wire, self._wait_for = name, wire, wait_for
        self.fanout = Fanout(policy)
        self.error: BaseException | None = None
        self.refused = self.hung_up = 0
        self._keep_s = parse_duration(policy.keep)
        self._owner = os.getpid()
        self._closing = threading.Event()
        self._close_lock = threading.Lock()
        self._pump = Pump(source, wire.pieces, self.fanout.publish, self._ended, self._begin)
        try:
            self._server = open_server(functools.partial(_Flight, self), endpoint)
        except BaseException:
            self._pump.release()
            raise
        self.port: int = self._server.port
        self._host = endpoint.host
        self._keeper = threading.Thread(
            target=self._look_after, name="zcrx-flight-keeper", daemon=True
        )

    def start(self) -> None:
        self._keeper.start()
        self._pump.start()

    # --- the feed ----------------------------------------------------------------------------

    def _begin(self) -> bool:
        while not self._closing.is_set():
            if self.fanout.wait_for_readers(self._wait_for, _STEP_S):
                return True
        return False

    def _ended(self, failure: BaseException | None) -> None:
        if failure is None or self._closing.is_set():
            self.fanout.finish()
            return
        self.error = failure
        _log.error("the feed %r has failed: %s", self.name, failure)
        self.fanout.finish(f"the feed has failed: {failure}")

    def _look_after(self) -> None:
        """Let go of old batches, and of clients that do not read that they were dropped."""
        while not self._closing.wait(_STEP_S):
            self.fanout.expire()
            for reader in self.fanout.lost(time.monotonic() - _GRACE_S):
                self.hung_up += hang_up(self.port, reader.peer, host=self._host)

    # --- calls -------------------------------------------------------------------------------

    def info(self, descriptor: flight.FlightDescriptor) -> flight.FlightInfo:
        request = Request.of_descriptor(descriptor)
        request.check_name(self.name)
        # No location: where the client is already.
        endpoint = flight.FlightEndpoint(request.ticket(), [])
        return flight.FlightInfo(self._wire.schema, descriptor, [endpoint], -1, -1)

    def stream(self, context: Any, request: Request) -> flight.GeneratorStream:
        request.check_name(self.name)
        if request.last is not None and request.last > self._keep_s:
            raise refusal(f"this feed keeps {self._keep_s:g} s, not {request.last:g} s", "invalid")
        try:
            reader = self.fanout.join(context.peer(), request.last)
        except ReaderEndedError as error:
            raise _as_flight(error) from None
        if reader is None:
            self.refused += 1
            raise flight.FlightUnavailableError("there are too many clients", b"full")
        return flight.GeneratorStream(self._wire.schema, _Stream(self.fanout, reader, context))

    # --- the end -----------------------------------------------------------------------------

    def close(self, timeout: float) -> None:
        if os.getpid() != self._owner:  # the connections are the parent's
            return
        with self._close_lock:
            if self._closing.is_set():
                return
            try:
                if self.fanout.finished:  # by itself: clients may get the rest
                    self.fanout.wait_until_left(timeout)
            finally:  # Ctrl-C while waiting closes it too: nobody would do it later
                self._closing.set()
                self.fanout.abort("the server is closing")
                self._pump.stop()
                self._keeper.join()
                end(self._server, _GRACE_S, self._host)


class _Stream:
    """
    What gRPC pulls from, in the thread of a call.

    An object and not a generator: one that was never started would not notice its end.
    """

    def __init__(self, fanout: Fanout, reader: Reader, context: Any) -> None:
        self._fanout, self._reader, self._context = fanout, reader, context
        self._truncated = reader.truncated

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[pa.RecordBatch, bytes]:
        try:
            while (taken := self._fanout.next(self._reader, _STEP_S)) is None:
                if self._context.is_cancelled():
                    raise StopIteration
        except ReaderEndedError as error:
            raise _as_flight(error) from None
        piece, batches, rows = taken
        if batches or self._truncated:
            return piece.batch, self._unusual(piece, batches, rows)
        return piece.batch, b'{"batch": %d, "row": %d}' % (piece.number, piece.row)

    def _unusual(self, piece: Piece, batches: int, rows: int) -> bytes:
        said: dict[str, Any] = {"batch": piece.number, "row": piece.row}
        if batches:
            said |= {"skipped_batches": batches, "skipped_rows": rows}
        if self._truncated:
            said["truncated"] = True
            self._truncated = False
        return json.dumps(said).encode()

    def __del__(self) -> None:
        self._fanout.leave(self._reader)


def _as_flight(error: ReaderEndedError) -> flight.FlightError:
    kind = flight.FlightUnavailableError if error.code == "closing" else flight.FlightServerError
    return kind(str(error), error.code.encode())


class Server:
    """
    A Flight server of one feed; made by `serve`.

    Use it in a ``with`` statement, or call `close`.

    Thread safety
        Every method may be called from any thread.
    """

    def __init__(self, engine: _Engine, location: str) -> None:
        """Not for users: see `serve`."""
        self._engine = engine
        self._owner = os.getpid()
        self._closed = False
        self.location = location
        """Where clients reach it, such as ``"grpc://127.0.0.1:4711"``."""
        self.port = engine.port
        # Runs at the interpreter's exit before pyarrow's own, which waits for every client.
        self._finalizer = weakref.finalize(self, engine.close, 0.0)

    @property
    def error(self) -> BaseException | None:
        """What the source has failed with, if it has."""
        return self._engine.error

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def wait(self, timeout: Duration | None = None) -> None:
        """
        Wait until the feed has ended, and every client has got all of it or is gone.

        Raises
        ------
        TimeoutError
            If that takes longer than `timeout`, seconds or text with a unit.
        Exception
            What the source has failed with.
        """
        limit = None if timeout is None else parse_duration(timeout, "timeout")
        deadline = None if limit is None else time.monotonic() + limit
        # In steps, so that Ctrl-C is heard.
        while not self._engine.fanout.wait_until_left(
            0.1 if deadline is None else min(0.1, max(0.0, deadline - time.monotonic()))
        ):
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "clients are still reading")
        error = self._engine.error
        if error is not None:
            raise error.again() if isinstance(error, ZcrxError) else error

    def metrics(self) -> ServerMetrics:
        """Counters and gauges, see `ServerMetrics`; also after `close`."""
        engine, counts = self._engine, self._engine.fanout.counts
        batches, size = engine.fanout.kept()
        own = dataclasses.asdict(counts) | dataclasses.asdict(engine.fanout.sent())
        return ServerMetrics(
            clients=len(engine.fanout.readers()),
            refused=engine.refused,
            hung_up=engine.hung_up,
            held_batches=batches,
            held_bytes=size,
            **own,
        )

    def clients(self) -> pa.Table:
        """
        Give the clients that are reading.

        Returns
        -------
        pyarrow.Table
            Columns ``peer`` string, ``connected_s`` float64, and uint64 ``sent_batches``,
            ``sent_bytes``, ``behind_batches``, ``behind_bytes``, ``skipped_batches``.
        """
        now = time.monotonic()
        rows = [
            {
                "peer": name_of_peer(reader.peer),
                "connected_s": now - reader.joined_at,
                "sent_batches": reader.sent.sent_batches,
                "sent_bytes": reader.sent.sent_bytes,
                "behind_batches": batches,
                "behind_bytes": size,
                "skipped_batches": reader.sent.skipped_batches,
            }
            for reader, batches, size in self._engine.fanout.readers()
        ]
        return pa.Table.from_pylist(rows, CLIENTS_SCHEMA)

    def close(self, timeout: Duration = "5 s") -> None:
        """
        Stop pulling and serving. Idempotent; the source stays open.

        If the feed has ended, clients are given `timeout` to read the rest. Else their streams
        end with an error at once. Connections of clients that do not read are cut.
        """
        limit = parse_duration(timeout, "timeout")
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        self._finalizer.detach()
        self._engine.close(limit)

    def __enter__(self) -> Self:
        """Use the server in a ``with`` statement."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the server; without waiting for clients, if an error ends the block."""
        self.close(0 if kind is not None else "5 s")

    def __del__(self) -> None:
        """Warn about a server that was never closed."""
        if not getattr(self, "_closed", True) and os.getpid() == self._owner:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        """Name the server by its feed and location."""
        state = "closed" if self._closed else self.location
        return f"<zcrx_arrow Flight server of {self._engine.name!r} {state}>"


def serve(
    source: Any,
    location: Address = "grpc://127.0.0.1:0",
    *,
    name: str = "feed",
    keep: Duration = "10 s",
    keep_bytes: Size = "64 MiB",
    slow: Slow = "drop",
    queue: Size = "64 MiB",
    queue_batches: int = 1024,
    patience: Duration = "10 s",
    clients: int = 64,
    wait_for: int = 0,
    views: Literal["plain", "keep"] = "plain",
    message: Size = "3 MiB",
    tls: Tls | None = None,
    token: str | None = None,
    insecure: bool = False,
) -> Server:
    """
    Serve a live feed to many Flight clients.

    DoGet with the feed's name as ticket gives what comes from then on; with the ticket
    ``{"feed": "trades", "last": "5 s"}`` the batches of the last 5 seconds come first. Each client
    gets every batch from there on once, in order. Each comes with ``app_metadata``, a JSON object:
    ``batch`` and ``row`` are the numbers of the batch and its first row in the feed;
    ``skipped_batches`` and ``skipped_rows`` say what this client missed right before it, if
    anything; ``truncated`` that `keep_bytes` has left less of the past than was asked for.

    Parameters
    ----------
    source : Source, or anything that gives an Arrow C stream
        Pulled from at once, by a thread; stays open, and the caller's. Rows that come while there
        is no client go to nobody but those who ask for the past.
    location : str or (str, int)
        ``"grpc://host:port"``, ``"grpc+tls://host:port"`` or an address; port 0 takes a free one.
    name : str
        The feed's.
    keep, keep_bytes
        How long batches are kept for clients that ask for the past, and how many bytes of them.
    slow : {"drop", "skip", "wait"}
        What becomes of a client that is further behind than `queue` or `queue_batches`: its
        stream ends with an error that says so; or it skips batches, and is told; or the feed
        waits for it, up to `patience`, and then drops it.
    queue, queue_batches, patience
        See `slow`. With `keep_bytes`, `queue` bounds the memory of all clients together.
    clients : int
        Streams at a time.
    wait_for : int
        Pull nothing before so many clients have joined.
    views : {"plain", "keep"}
        What clients get for binary_view and string_view: binary and string, which all can read,
        or views.
    message : int or str
        Batches are cut between rows so that they are not larger; many clients refuse more than 4
        MiB.
    tls : Tls, optional
        The server's certificate, and the clients' if they must have one.
    token : str, optional
        Clients must send it, as ``authorization: Bearer ...`` or as a basic password.
    insecure : bool
        Listen on an address that other machines can reach though `tls`, or `token` and client
        certificates, are missing.

    Returns
    -------
    Server

    Raises
    ------
    ConfigError
        If an option cannot work, or would be insecure.
    UnsupportedError
        If a column cannot be sent; before anything is pulled.
    ZcrxError
        If the address cannot be bound, or the source is being served already.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"name={name!r} must be text")
    if views not in ("plain", "keep"):
        raise ConfigError(f"views={views!r} must be 'plain' or 'keep'")
    whole(wait_for, "wait_for", 0, clients)
    policy = Policy(
        keep=keep,
        keep_bytes=keep_bytes,
        queue=queue,
        queue_batches=queue_batches,
        slow=slow,
        patience=patience,
        readers=clients,
        merge=min(_MERGE_BYTES, parse_size(message, "message")),
    )
    endpoint = Endpoint.of(location, tls, token, insecure=insecure)
    wire = Wire(
        schema_of(source),
        views=views == "keep",
        message=parse_size(message, "message"),
        lent=isinstance(source, Source | Replay),
    )
    engine = _Engine(source, name, policy, wire, endpoint, wait_for)
    server = Server(engine, endpoint.uri_at(engine.port))
    engine.start()
    return server
