# SPDX-License-Identifier: Apache-2.0
"""
Which bytes of which connection a rolling file has, and where its sender can go on.

A range is of one connection: the position of its first and of its last row, and what comes next.
Positions count from where the sender's stream begins, so a connection that resumed at byte 1000
has 1000 added to each (its ``base``); the column ``position`` of the rows does not have it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["KEY", "Position", "Range", "Ranges", "Resumption", "Stamp"]

KEY: Final = "zcrx_arrow.rolling"
"""Metadata key of a file's `Stamp`."""

_VERSION: Final = 1
_EXACT: Final = ("raw", "length-prefixed", "varint", "fixed-size", "arrow-ipc")
_ALIGNED: Final = ("delimited", "fixed-size")
_VIEW_WORDS: Final = 4  # a view is 16 bytes, and its length the first four


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """
    Where a sender is to go on, so that no row is missing and none comes twice.

    Parameters
    ----------
    offset : int
        The byte of its stream to begin with.
    last : int
        Rows up to this position are in files already, and left out when they come again: the
        last one does, where its end is not known. -1: there are none.
    connection : int or None
        Which it was in the run before.
    peer : str or None
        And from where.
    """

    offset: int = 0
    last: int = -1
    connection: int | None = None
    peer: str | None = None


@dataclass(slots=True, kw_only=True)
class Range:
    """What a file has of a connection."""

    connection: int
    base: int = 0
    first: int | None = None
    """Position of the first row; None if the batches have no column ``position``."""
    last: int | None = None
    next: int | None = None
    """Where the bytes behind the last row begin, if that can be known from it."""
    resume: int | None = None
    """Where a sender can begin again: `next`, or the last row; None if neither fits."""
    rows: int = 0
    peer: str | None = None
    resumes: int | None = None
    """The connection that this one replaces, see `zcrx_arrow.Reconnect`."""

    def __str__(self) -> str:
        """Say it in an error."""
        where = f", positions {self.first:,} to {self.last:,}" if self.first is not None else ""
        return f"connection {self.connection}{where}: {self.rows:,} rows"


@dataclass(frozen=True, slots=True)
class Resumption:
    """
    What the batches of a feed say of the place behind a row.

    Parameters
    ----------
    framing : str
        Its name, as in the schema's metadata; "" if it is unknown.
    payload : bool
        Whether rows have their payload, so that their length is known.
    """

    framing: str
    payload: bool

    @classmethod
    def of(cls, source: Any) -> Self:
        """Look at a source."""
        raw = getattr(source, "_raw_schema", None)  # what comes before a decoder
        named = _framing_of(raw) if raw is not None else ""
        if raw is not None and "payload" in raw.names and not _decodes(source):
            return cls(_framing_of(source.schema), payload=True)
        # A framing of the user's own looks like "raw" here, and says nothing of what lies between.
        return cls("" if named == "raw" else named, payload=False)

    def behind(self, last: int, length: int | None) -> tuple[int | None, int | None]:
        """Give `Range.next` and `Range.resume` of a row."""
        if length is not None and self.framing in _EXACT:
            return last + length, last + length
        return None, last if self.framing in _ALIGNED else None


def _decodes(source: Any) -> bool:
    return getattr(source, "decoder", None) is not None


def _framing_of(schema: pa.Schema) -> str:
    metadata: dict[bytes, bytes] = schema.metadata or {}
    return metadata.get(b"zcrx_arrow.framing", b"").decode()


class Ranges:
    """
    The ranges of one file, as batches come. Not thread-safe.

    Batches need the columns ``connection`` and ``position`` (``keep=`` of a decoder); without the
    latter rows are counted by connection, without the former in all.
    """

    def __init__(self, resumption: Resumption) -> None:
        self._resumption = resumption
        self._ranges: dict[int, Range] = {}
        self._known = True

    def __iter__(self) -> Iterator[Range]:
        """Give them by connection."""
        return iter([self._ranges[each] for each in sorted(self._ranges)])

    @property
    def known(self) -> bool:
        """Whether every row said what connection it is of."""
        return self._known

    def add(self, batch: pa.RecordBatch, bases: dict[int, int]) -> None:
        """Count the rows of a batch; `bases` are of connections that resumed."""
        connections = _numbers(batch, "connection", pa.uint32())
        positions = _numbers(batch, "position", pa.uint64())
        if connections is None:
            self._known = False
            return
        for connection, at in _rows_of(connections):
            found = self._ranges.get(connection)
            if found is None:
                base = bases.get(connection, 0)
                found = self._ranges[connection] = Range(connection=connection, base=base)
            found.rows += len(at)
            if positions is not None:
                self._extend(found, batch, positions, at)

    def _extend(self, found: Range, batch: pa.RecordBatch, positions: Any, at: Any) -> None:
        row = int(at[-1])  # positions of a connection only grow
        if found.first is None:
            found.first = found.base + int(positions[at[0]])
        found.last = found.base + int(positions[row])
        length = _length(batch.column("payload"), row) if self._resumption.payload else None
        found.next, found.resume = self._resumption.behind(found.last, length)


def _numbers(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> Any:
    """Give a column as it is in our sources; what others call so is not it."""
    if name not in batch.schema.names or batch.schema.field(name).type != kind:
        return None
    column = batch.column(name)
    return None if column.null_count else column.to_numpy()


def _rows_of(connections: npt.NDArray[np.uint32]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Give each connection with the numbers of its rows, in order."""
    if not len(connections):
        return
    if (connections == connections[0]).all():
        yield int(connections[0]), np.arange(len(connections))
        return
    order = np.argsort(connections, kind="stable")
    starts = np.flatnonzero(np.diff(connections[order])) + 1
    for rows in np.split(order, starts):
        yield int(connections[rows[0]]), rows


def _length(payload: pa.Array, row: int) -> int:
    """Give the bytes of a payload; nothing is copied but of types that no source has."""
    if pa.types.is_binary_view(payload.type) or pa.types.is_string_view(payload.type):
        words = np.frombuffer(payload.buffers()[1], "<i4")
        return int(words[(payload.offset + row) * _VIEW_WORDS])
    if pa.types.is_large_binary(payload.type) or pa.types.is_large_string(payload.type):
        ends = np.frombuffer(payload.buffers()[1], "<i8")
        return int(ends[payload.offset + row + 1] - ends[payload.offset + row])
    return len(payload[row].cast(pa.binary()).as_py())


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a rolling file says of itself in its metadata, as JSON."""

    run: str
    """Of the `write` that made it; random."""
    sequence: int
    rows: int
    began: str
    """When its first row was taken, ISO 8601, UTC."""
    ended: str
    source: str
    connections: tuple[Range, ...] | None
    """None: rows did not say where they are from."""
    version: int = _VERSION

    def dump(self) -> dict[str, str]:
        """Make the metadata."""
        return {KEY: json.dumps(asdict(self))}

    @classmethod
    def load(cls, metadata: dict[bytes, bytes]) -> Self | None:
        """
        Read it; None if it is not there.

        Raises
        ------
        ValueError
            If it is there, and not to be understood.
        """
        text = metadata.get(KEY.encode())
        if text is None:
            return None
        said = json.loads(text)
        if not isinstance(said, dict) or said.get("version") != _VERSION:
            raise ValueError(f"{KEY} is of another version")
        ranges = said.pop("connections")
        try:
            found = None if ranges is None else tuple(Range(**each) for each in ranges)
            return cls(**said, connections=found)
        except TypeError as error:
            raise ValueError(f"{KEY} has other members: {error}") from None
