# SPDX-License-Identifier: Apache-2.0
"""Rows that wait for their window to close: cut out of batches, in few pieces, counted."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from zcrx_arrow.errors import ZcrxError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Budget", "Rows", "cut"]

_SMALL_ROWS: Final = 1024
_PIECES: Final = 64


class Budget:
    """
    What all rows that wait may take.

    Parameters
    ----------
    rows, bytes_ : int
        At most.
    """

    def __init__(self, rows: int, bytes_: int) -> None:
        self._limits = (rows, bytes_)
        self.rows = self.bytes = 0

    def take(self, rows: int, bytes_: int) -> None:
        """
        Count rows.

        Raises
        ------
        ZcrxError
            ENOBUFS, if that is more than there may be.
        """
        self.rows += rows
        self.bytes += bytes_
        if self.rows > self._limits[0] or self.bytes > self._limits[1]:
            raise ZcrxError(
                errno.ENOBUFS,
                f"open windows hold {self.rows:,} rows, {self.bytes:,} bytes; the limit is "
                f"{self._limits[0]:,} rows and {self._limits[1]:,} bytes",
                step="windows",
                remedy="Take shorter windows, less lateness, or fewer columns; or raise max_rows= "
                "or max_bytes=.",
            )

    def give(self, rows: int, bytes_: int) -> None:
        """Count rows that wait no more."""
        self.rows -= rows
        self.bytes -= bytes_


class Rows:
    """The rows of one window so far, in the order in which they were added."""

    def __init__(self, schema: pa.Schema, budget: Budget) -> None:
        self._schema, self._budget = schema, budget
        self._pieces: list[pa.RecordBatch] = []
        self._small = 0
        self.count = self._bytes = 0

    def add(self, batch: pa.RecordBatch, share: int) -> None:
        """Add rows that take `share` bytes."""
        self._budget.take(batch.num_rows, share)
        self.count += batch.num_rows
        self._bytes += share
        self._pieces.append(batch)
        self._small = self._small + 1 if batch.num_rows < _SMALL_ROWS else 0
        if self._small >= _PIECES:
            self._join()

    def _join(self) -> None:
        """Make one of the last small pieces, and of what is no larger than it: few remain."""
        count, rows = self._small, sum(piece.num_rows for piece in self._pieces[-self._small :])
        self._small = 0
        while count < len(self._pieces) and self._pieces[-count - 1].num_rows <= 2 * rows:
            count += 1
            rows += self._pieces[-count].num_rows
        try:
            self._pieces[-count:] = [pa.concat_batches(self._pieces[-count:])]
        except pa.ArrowException:
            return  # a type that cannot be joined, or not so much of it

    def take(self) -> pa.Table:
        """Give them up."""
        table = pa.Table.from_batches(self._pieces, self._schema)
        self._budget.give(self.count, self._bytes)
        self._pieces, self.count, self._bytes, self._small = [], 0, 0, 0
        return table


def cut(batch: pa.RecordBatch, wanted: npt.NDArray[np.intp]) -> tuple[pa.RecordBatch, int]:
    """
    Give some rows of a batch, by ascending number, and how many bytes they take.

    A half or more that lies together is a view; fewer rows are copied, where pyarrow can, since a
    view of one row would hold the memory of all.
    """
    count = len(wanted)
    share = -(-batch.nbytes * count // max(1, batch.num_rows))
    if count == batch.num_rows:
        return batch, share
    together = int(wanted[-1]) - int(wanted[0]) + 1 == count
    if together and 2 * count >= batch.num_rows:
        return batch.slice(int(wanted[0]), count), share
    columns = [_taken(column, wanted) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema), share


def _taken(column: pa.Array, wanted: npt.NDArray[np.intp]) -> pa.Array:
    """Take rows of a column; pyarrow cannot for views, and types that have them inside."""
    compact = {pa.binary_view(): pa.large_binary(), pa.string_view(): pa.large_string()}
    other = compact.get(column.type)
    # All is cast, or all of what lies between: it may be a few rows of many.
    first, last = int(wanted[0]), int(wanted[-1])
    column, wanted = column.slice(first, last - first + 1), wanted - first
    if other is not None:
        return column.cast(other).take(pa.array(wanted)).cast(column.type)
    try:
        return column.take(pa.array(wanted))
    except pa.ArrowNotImplementedError:
        return pa.concat_arrays(_runs(column, wanted))


def _runs(column: pa.Array, wanted: npt.NDArray[np.intp]) -> list[Any]:
    ends = np.flatnonzero(np.diff(wanted) != 1) + 1
    return [column.slice(int(run[0]), len(run)) for run in np.split(wanted, ends)]
