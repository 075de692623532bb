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
import os
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import pyarrow as pa

from zcrx_arrow.config import Duration, Size, parse_duration, parse_size, whole
from zcrx_arrow.connectors.flight_ending import name_of_peer
from zcrx_arrow.connectors.flight_policy import Policy, Slow
from zcrx_arrow.connectors.flight_pump import schema_of
from zcrx_arrow.connectors.flight_security import Endpoint, Tls
from zcrx_arrow.connectors.flight_server_metrics import CLIENTS_SCHEMA, ServerMetrics
from zcrx_arrow.connectors.flight_serving import Serving
from zcrx_arrow.connectors.flight_wire import Wire
from zcrx_arrow.errors import ConfigError, ZcrxError
from zcrx_arrow.replay import Replay
from zcrx_arrow.source import Source

if TYPE_CHECKING:
    from types import TracebackType

    from zcrx_arrow.address import Address

__all__ = ["Server", "ServerMetrics", "Tls", "serve"]

_MERGE_BYTES: Final = 1 << 20


class Server:
    """
    A Flight server of one feed; made by `serve`.

    Use it in a ``with`` statement, or call `close`.

    Thread safety
        Every method may be called from any thread.
    """

    def __init__(self, engine: Serving, location: str) -> None:
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
        If the address cannot be bound, or another connector reads the source.
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
    engine = Serving(source, name, policy, wire, endpoint, wait_for)
    server = Server(engine, endpoint.uri_at(engine.port))
    engine.start()
    return server
