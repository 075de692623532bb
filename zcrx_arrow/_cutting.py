# SPDX-License-Identifier: Apache-2.0
"""Framings written in Python, run over raw fragments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from zcrx_arrow._native import ffi
from zcrx_arrow.config import parse_size
from zcrx_arrow.errors import ConfigError

if TYPE_CHECKING:
    from zcrx_arrow._raw import RawBatch
    from zcrx_arrow.decoders._base import Context
    from zcrx_arrow.framing import Framing

__all__ = ["PythonCutter", "message_schema"]


def message_schema(payload: pa.DataType, framing: str, transport: str) -> pa.Schema:
    """Give the schema of undecoded messages, as the core has it."""
    return pa.schema(
        [
            pa.field("payload", payload, nullable=False),
            pa.field("connection", pa.uint32(), nullable=False),
            pa.field("position", pa.uint64(), nullable=False),
            pa.field("received_at", pa.timestamp("ns", "UTC"), nullable=False),
        ],
        metadata={"zcrx_arrow.framing": framing, "zcrx_arrow.transport": transport},
    )


@dataclass(slots=True)
class _Rows:
    payload: list[bytes] = field(default_factory=list)
    connection: list[int] = field(default_factory=list)
    position: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)

    def add(self, payload: bytes, connection: int, position: int, received: int) -> None:
        """Add a row."""
        self.payload.append(payload)
        self.connection.append(connection)
        self.position.append(position)
        self.received.append(received)


@dataclass(slots=True)
class _Tail:
    """What is unfinished of a connection."""

    data: bytes
    position: int
    received: int


class PythonCutter:
    """Cuts the fragments of every connection by a user's framing. Not thread-safe."""

    def __init__(self, framing: Framing, context: Context, schema: pa.Schema) -> None:
        self._framing, self._context = framing, context
        self._limit = parse_size(framing.max_message, "max_message")
        if self._limit < 1:
            raise ConfigError(f"max_message={framing.max_message!r} must be at least 1 byte")
        self._tails: dict[int, _Tail] = {}
        self.schema = schema

    def cut(self, raw: RawBatch) -> pa.RecordBatch:
        """Cut a raw batch; gives the messages that became whole. Releases `raw`."""
        rows = _Rows()
        try:
            for connection, position, received, address, length in raw.rows():
                if not self._context.is_dead(connection):
                    piece = ffi.buffer(ffi.cast("char *", address), length)
                    self._piece(rows, connection, position, received, piece)
        finally:
            raw.release()
        return self._batch(rows)

    def _piece(
        self, rows: _Rows, connection: int, position: int, received: int, piece: object
    ) -> None:
        tail = self._tails.pop(connection, None)
        # Copied, so that nothing of the user's can outlive the memory it looks at.
        data = (tail.data if tail else b"") + bytes(piece)  # type: ignore[call-overload]
        begin = tail.position if tail else position
        used = 0
        try:
            while used < len(data):
                found, consumed = self._framing.cut(memoryview(data)[used:])
                bounds = list(found)
                _check(bounds, consumed, len(data) - used)
                for start, length in bounds:
                    at = used + start
                    rows.add(data[at : at + length], connection, begin + at, received)
                if not consumed:
                    break
                used += consumed
        except Exception as error:  # noqa: BLE001 - whatever it raises, the peer is at fault
            self._context.lost(connection, len(data) - used)
            self._context.fail(connection, begin + used, f"bytes break the framing: {error}")
            return
        if len(data) - used > self._limit:
            self._context.lost(connection, len(data) - used)
            self._context.fail(
                connection, begin + used, f"message is longer than max_message={self._limit} bytes"
            )
        elif used < len(data):
            self._tails[connection] = _Tail(data[used:], begin + used, received)

    def finish(self, connection: int, *, clean: bool) -> pa.RecordBatch:
        """Say that a connection has ended; gives the last message, if there is one."""
        rows = _Rows()
        tail = self._tails.pop(connection, None)
        if tail is None or self._context.is_dead(connection):
            return self._batch(rows)
        try:
            bound = self._framing.finish(memoryview(tail.data)) if clean else None
            if bound is not None:
                _check([bound], len(tail.data), len(tail.data))
        except Exception as error:  # noqa: BLE001 - as above
            self._context.lost(connection, len(tail.data))
            self._context.fail(connection, tail.position, f"bytes break the framing: {error}")
            return self._batch(rows)
        if bound is None:
            self._context.lost(connection, len(tail.data))
        else:
            start, length = bound
            data = tail.data[start : start + length]
            rows.add(data, connection, tail.position + start, tail.received)
        return self._batch(rows)

    @property
    def unfinished(self) -> list[int]:
        """Connections of which something waits for more."""
        return list(self._tails)

    def _batch(self, rows: _Rows) -> pa.RecordBatch:
        columns = [rows.payload, rows.connection, rows.position, rows.received]
        arrays = [
            pa.array(column, each.type) for column, each in zip(columns, self.schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _check(bounds: list[tuple[int, int]], consumed: int, length: int) -> None:
    """Trust no user's arithmetic."""
    end = 0
    for start, size in bounds:
        if start < end or size < 0 or start + size > consumed:
            raise ValueError(f"cut() gives bounds ({start}, {size}) that overlap or lie outside")
        end = start + size
    if not end <= consumed <= length:
        raise ValueError(f"cut() says that it consumed {consumed} of {length} bytes")
