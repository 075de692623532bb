# SPDX-License-Identifier: Apache-2.0
"""One file of a rolling sink, while it grows."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from zcrx_arrow.connectors.sink import FileSink

if TYPE_CHECKING:
    from pathlib import Path

    from zcrx_arrow.connectors.rolling_options import Roll

__all__ = ["Group", "Part"]

_GROUP_BYTES: Final = 16 << 20
_GROUP_SHARE: Final = 8
_GROUP_ROWS: Final = 1 << 20
_LENT: Final = 64
_LENT_S: Final = 1.0


@dataclass(slots=True)
class Group:
    """
    Batches that become a row group together.

    Those of a slow feed are small, and a row group each would be a file of little but footer. So
    they wait for each other; but receive memory is given back after a second, or 64 batches: what
    waits longer is copied.
    """

    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    """Bytes."""
    _lent: int = 0
    _since: float = 0.0

    def add(self, batch: pa.RecordBatch) -> None:
        """Keep a batch."""
        if not self._lent:
            self._since = time.monotonic()
        self._lent += 1
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.size += batch.nbytes
        if self._lent >= _LENT:
            self.own()

    def tick(self) -> None:
        """Own what has been lent for long enough; to be called now and then."""
        if self._lent and time.monotonic() - self._since >= _LENT_S:
            self.own()

    @property
    def lent(self) -> bool:
        """Whether receive memory may be held."""
        return self._lent > 0

    def own(self) -> None:
        """Copy what is lent, so that the receive memory goes back."""
        if not self._lent:
            return
        keep = len(self.batches) - self._lent
        self.batches[keep:] = _copied(self.batches[keep:])
        self._lent = 0


def _without_rest(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Copy the views' bytes: IPC would write those of the rows that were sliced off as well."""
    whole = {pa.binary_view(): pa.large_binary(), pa.string_view(): pa.large_string()}
    columns = [
        column.cast(whole[column.type]).cast(column.type) if column.type in whole else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _copied(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Copy batches by way of a stream, which works for every type; joined where they can be."""
    memory = pa.BufferOutputStream()
    with pa.ipc.new_stream(memory, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    copies = list(pa.ipc.open_stream(memory.getvalue()))
    try:
        # Their buffers would keep all of the stream alive, metadata and all, for each batch.
        return [pa.concat_batches(copies)]
    except pa.ArrowException:
        return copies


class Part:
    """
    A file that grows; it appears under its name by `finish`.

    Raises
    ------
    OSError
        If the disk refuses. The part is of no use then, but for `abort`.
    """

    def __init__(self, path: Path, schema: pa.Schema, roll: Roll) -> None:
        self.path = path
        self.began_ns = time.time_ns()
        self._began = time.monotonic()
        self._roll = roll
        self._sink = FileSink(path, schema, roll.format)
        self._group = Group()
        self._limit = roll.size_limit
        self._group_bytes = min(
            _GROUP_BYTES, (self._limit or _GROUP_BYTES * _GROUP_SHARE) // _GROUP_SHARE
        )
        self.rows = 0

    @property
    def left_rows(self) -> int | None:
        """Rows that fit; None: any number."""
        return None if self._roll.rows is None else self._roll.rows - self.rows

    @property
    def left_seconds(self) -> float:
        """Time until it is old enough."""
        return self._began + self._roll.age_limit - time.monotonic()

    @property
    def full(self) -> bool:
        """Whether a limit is reached."""
        if self._limit is not None and self._sink.size >= self._limit:
            return True
        return self.left_rows == 0 or self.left_seconds <= 0

    def add(self, batch: pa.RecordBatch, *, is_slice: bool = False) -> None:
        """Take a batch, or a slice of one."""
        if is_slice and self._roll.format == "ipc":
            batch = _without_rest(batch)
        self._group.add(batch)
        if self._group.size >= self._group_bytes or self._group.rows >= _GROUP_ROWS:
            self._flush()
        self.rows += batch.num_rows

    def tick(self) -> None:
        """Do what is due without a batch."""
        self._group.tick()

    def own(self) -> bool:
        """Give back receive memory; whether there was any."""
        lent = self._group.lent
        self._group.own()
        return lent

    def _flush(self) -> None:
        if self._group.batches:
            self._sink.write_together(self._group.batches)
            self._group = Group()

    def finish(self, metadata: dict[str, str]) -> int:
        """Write the rest and give the file its name; gives its bytes."""
        self._flush()
        self._sink.close(metadata)
        return self._sink.size

    def abort(self) -> None:
        """Remove it."""
        self._group = Group()
        self._sink.abort()
