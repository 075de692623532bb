# SPDX-License-Identifier: Apache-2.0
"""Records of 8 fields and 64 bytes to columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from benchmarks.memory import data
from benchmarks.memory.timing import measure

if TYPE_CHECKING:
    from collections.abc import Callable

LITTLE, BIG = "<", ">"
Convert = "Callable[[np.ndarray], pa.Array]"


def _ours(total: int, order: str) -> None:
    import zcrx_arrow as zc  # noqa: PLC0415 (the peers do without)

    content, rows = data.records(total, order)
    records = zc.decoders.Records(data.record(order))
    measure(
        len(content), rows, lambda: sum(batch.num_rows for batch in zc.decode(content, records))
    )


def _native(column: np.ndarray) -> np.ndarray:
    """Make a field of the records an array that Arrow takes: together, in this machine's order."""
    if column.dtype.isnative:
        return np.ascontiguousarray(column)
    return column.astype(column.dtype.newbyteorder("="))


def _array(column: np.ndarray) -> pa.Array:
    if column.dtype.kind == "S":
        return pa.array(np.ascontiguousarray(column), pa.binary(column.dtype.itemsize))
    return pa.array(_native(column))


def _wrapped(column: np.ndarray) -> pa.Array:
    """As `_array`, but ``pa.array`` would look at each of these values."""
    if column.dtype.kind == "S":
        together = np.ascontiguousarray(column)
        kind = pa.binary(column.dtype.itemsize)
        return pa.Array.from_buffers(kind, len(together), [None, pa.py_buffer(together)])
    return pa.array(_native(column))


def _numpy(total: int, order: str, convert: Callable[[np.ndarray], pa.Array]) -> None:
    content, rows = data.records(total, order)
    dtype = data.record(order)
    names = list(dtype.names or ())
    step = data.BATCH_BYTES // dtype.itemsize

    def work() -> int:
        count = 0
        for at in range(0, len(content), data.BATCH_BYTES):
            some = np.frombuffer(content, dtype, step, at)
            columns = [convert(some[name]) for name in names]
            count += pa.RecordBatch.from_arrays(columns, names=names).num_rows
        return count

    measure(len(content), rows, work)


def ours_little(total: int) -> None:
    """Decode little-endian records with this project."""
    _ours(total, LITTLE)


def ours_big(total: int) -> None:
    """Decode big-endian ones."""
    _ours(total, BIG)


def array_little(total: int) -> None:
    """``frombuffer``, each field made contiguous, ``pa.array``: what one writes."""
    _numpy(total, LITTLE, _array)


def array_big(total: int) -> None:
    """The same, swapped."""
    _numpy(total, BIG, _array)


def wrapped_little(total: int) -> None:
    """The same with fields of bytes wrapped by hand: the best that numpy does."""
    _numpy(total, LITTLE, _wrapped)


def wrapped_big(total: int) -> None:
    """The same, swapped."""
    _numpy(total, BIG, _wrapped)
