# SPDX-License-Identifier: Apache-2.0
"""What decoders have in common: policies, rejected rows, counters."""

from __future__ import annotations

import errno
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import pyarrow as pa

from zcrx_arrow import _events
from zcrx_arrow.errors import ConfigError, FramingError, ZcrxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zcrx_arrow._raw import RawBatch
    from zcrx_arrow.framing import Framing

__all__ = [
    "ORIGINS",
    "Context",
    "DecodeStats",
    "Decoder",
    "Decoding",
    "OnDrift",
    "OnError",
    "Rejected",
]

OnError = Literal["fail", "null", "reject"]
OnDrift = Literal["fail", "widen", "reject"]

ORIGINS: Final = {
    "connection": pa.field("connection", pa.uint32(), nullable=False),
    "position": pa.field("position", pa.uint64(), nullable=False),
    "received_at": pa.field("received_at", pa.timestamp("ns", "UTC"), nullable=False),
}
"""What `keep` can name."""

REJECTED_SCHEMA: Final = pa.schema(
    [
        *ORIGINS.values(),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("payload", pa.large_binary(), nullable=False),
    ]
)

_DEAD_REMEMBERED: Final = 65536


@dataclass(slots=True)
class DecodeStats:
    """Counters of a decoder."""

    rows: int = 0
    """Delivered."""
    rejected_rows: int = 0
    """Sent to ``source.rejected``."""
    nulled_rows: int = 0
    """Rows in which a value that could not be read became null."""
    drifts: int = 0
    """Times that a peer's fields were not the schema's."""
    failed_connections: int = 0
    """Closed because of what they sent."""
    in_place_bytes: int = 0
    """Bodies of Arrow IPC messages that are read where they were received."""
    gathered_bytes: int = 0
    """And those that were copied or decompressed."""


class Rejected:
    """
    Rows that could not be decoded, until somebody takes them.

    Columns: ``connection``, ``position``, ``received_at``, ``reason`` string, ``payload``
    large_binary. Bounded: when it holds `rows` rows or `bytes` bytes, the next batch is refused
    with a `ZcrxError` until they are taken. Every method may be called from any thread.
    """

    def __init__(self, rows: int, bytes_: int) -> None:
        self._limits = (rows, bytes_)
        self._rows: list[tuple[int, int, int, str, bytes]] = []
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Rows that wait."""
        return len(self._rows)

    def take(self) -> pa.Table:
        """Give what there is, and forget it."""
        with self._lock:
            rows, self._rows, self._bytes = self._rows, [], 0
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(REJECTED_SCHEMA)
        arrays = [
            pa.array(column, each.type)
            for column, each in zip(columns, REJECTED_SCHEMA, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=REJECTED_SCHEMA)

    def _add(self, row: tuple[int, int, int, str, bytes]) -> None:
        with self._lock:
            self._rows.append(row)
            self._bytes += len(row[4])

    def _check_room(self) -> None:
        if len(self._rows) >= self._limits[0] or self._bytes >= self._limits[1]:
            raise ZcrxError(
                errno.ENOBUFS,
                f"{len(self._rows):,} rejected rows wait to be taken, "
                f"the limit is {self._limits[0]:,} rows and {self._limits[1]:,} bytes",
                step="rejected",
                remedy="Call source.rejected.take() now and then, or use another on_error.",
            )


@dataclass(slots=True)
class Context:
    """What a decoder tells of connections. Not thread-safe: see `zcrx_arrow._pipeline`."""

    name: str
    dismiss: Callable[[int, str], None]
    rejected: Rejected
    stats: DecodeStats = field(default_factory=DecodeStats)
    failure: FramingError | None = None
    """The first failure; what a replay raises."""
    partial_bytes: int = 0
    _partial: OrderedDict[int, int] = field(default_factory=OrderedDict)
    _dead: OrderedDict[int, str] = field(default_factory=OrderedDict)

    def fail(self, connection: int, position: int, reason: str) -> None:
        """Close a connection: what comes of it from here on is not looked at."""
        if self.is_dead(connection):
            return
        text = self._dead[connection] = f"at position {position}: {reason}"
        while len(self._dead) > _DEAD_REMEMBERED:
            self._dead.popitem(last=False)
        self.stats.failed_connections += 1
        _events.warning(
            "decode_failed",
            self.name,
            "connection %d is closed, %s",
            connection,
            text,
            connection=connection,
            position=position,
            reason=reason,
        )
        if self.failure is None:
            self.failure = FramingError(
                errno.EBADMSG, f"connection {connection} {text}", step="decode"
            )
        self.dismiss(connection, text)

    @property
    def any_dead(self) -> bool:
        """Whether any connection has failed."""
        return bool(self._dead)

    def is_dead(self, connection: int) -> bool:
        """Whether a connection has failed."""
        return connection in self._dead

    def lost(self, connection: int, size: int) -> None:
        """Count bytes of a message that never became whole."""
        self.partial_bytes += size
        self._partial[connection] = size
        while len(self._partial) > _DEAD_REMEMBERED:
            self._partial.popitem(last=False)

    def partial_of(self, connection: int) -> int:
        """Such bytes of a connection."""
        return self._partial.get(connection, 0)

    def failure_of(self, connection: int) -> str | None:
        """Where and why a connection failed; any thread."""
        return self._dead.get(connection)

    def reject(
        self, connection: int, position: int, received: int, reason: str, row: bytes
    ) -> None:
        """Put a row aside."""
        self.stats.rejected_rows += 1
        self.rejected._add((connection, position, received, reason, row))  # noqa: SLF001

    def drifted(self, connection: int, what: str) -> None:
        """Count and log that a peer's fields are not the schema's."""
        self.stats.drifts += 1
        _events.warning(
            "schema_drift",
            self.name,
            "connection %d: schema drift: %s",
            connection,
            what,
            connection=connection,
            reason=what,
        )


class Decoding(Protocol):
    """A decoder at work on one source."""

    @property
    def schema(self) -> pa.Schema | None:
        """None: not known until the first rows."""

    def decode(self, raw: RawBatch) -> list[pa.RecordBatch]:
        """Decode a batch; what cannot be is told to the context. Moves `raw`."""

    def select(self, columns: list[str] | None) -> None:
        """Leave out other columns from now on, where that saves work; None: all again."""

    def forget(self, connection: int) -> None:
        """Forget what is known of a connection: no more of it will come."""


class Decoder(ABC):
    """Turns messages into typed columns; immutable, may serve several sources."""

    batch_bytes = 1 << 20
    """What it best gets at once, if it takes blocks."""

    @property
    @abstractmethod
    def framing(self) -> Framing:
        """What it is used with if the user names none."""

    @abstractmethod
    def blocks(self, framing: Framing) -> bool:
        """Whether it takes as many messages as lie together as one row; checks the framing."""

    @abstractmethod
    def start(self, context: Context, framing: Framing) -> Decoding:
        """Begin with a source."""


def check_keep(keep: Any) -> tuple[str, ...]:
    """Check which columns are kept beside the decoded ones."""
    names = tuple(ORIGINS) if keep is True else tuple(keep or ())
    for name in names:
        if name not in ORIGINS:
            raise ConfigError(f"keep={keep!r} must be True or some of {', '.join(ORIGINS)}")
    return names


def with_origins(schema: pa.Schema, keep: tuple[str, ...]) -> pa.Schema:
    """Add the kept columns behind the decoded ones."""
    for name in keep:
        if name in schema.names:
            raise ConfigError(
                f"keep={name!r}: the decoded columns have one of that name",
                remedy="Rename it in the schema, or do not keep it.",
            )
        schema = schema.append(ORIGINS[name])
    return schema
