# SPDX-License-Identifier: Apache-2.0
"""A batch as the core gives it, before anybody else sees it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zcrx_arrow._native import ffi

__all__ = ["RawBatch"]

Row = tuple[int, int, int, int, int]
_INLINE: Final = 12
_FEW: Final = 64


class RawBatch:
    """
    Rows with binary_view payloads, as a ``struct ArrowArray`` that this object owns.

    Not thread-safe. Give it up with `release`, or move it out with `to_arrow`; what is read through
    `rows` is valid only before that.
    """

    def __init__(self, array: Any, schema: pa.Schema) -> None:
        self.array = array
        self._schema = schema
        self._rows: list[Row] | None = None

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> RawBatch:
        """Take over a batch made elsewhere."""
        array = ffi.new("struct ArrowArray *")
        batch._export_to_c(int(ffi.cast("uintptr_t", array)))  # noqa: SLF001 - documented for cffi
        return cls(array, batch.schema)

    def __len__(self) -> int:
        """Rows."""
        return int(self.array.length)

    def _column(self, at: int, dtype: str) -> npt.NDArray[Any]:
        child = self.array.children[at]
        width = np.dtype(dtype).itemsize
        if not child.length:
            return np.empty(0, dtype)
        data = ffi.buffer(
            ffi.cast("char *", child.buffers[1]) + child.offset * width, child.length * width
        )
        return np.frombuffer(data, dtype)

    @property
    def connections(self) -> npt.NDArray[np.uint32]:
        """Connection of each row."""
        return self._column(1, "u4")

    @property
    def positions(self) -> npt.NDArray[np.uint64]:
        """Position of each row's payload."""
        return self._column(2, "u8")

    @property
    def received(self) -> npt.NDArray[np.int64]:
        """When each row came, nanoseconds since the epoch."""
        return self._column(3, "i8")

    def rows(self) -> list[Row]:
        """Give connection, position, received_at, address and length of the payload of each row."""
        if self._rows is None:
            self._rows = self._read_rows()
        return self._rows

    def _read_rows(self) -> list[Row]:
        count, child = len(self), self.array.children[0]
        start = int(ffi.cast("uintptr_t", child.buffers[1])) + 16 * int(child.offset)
        views = iter(ffi.unpack(ffi.cast("uint32_t *", start), 4 * count))
        buffers = [
            int(each)
            for each in ffi.unpack(ffi.cast("uintptr_t *", child.buffers + 2), child.n_buffers - 3)
        ]
        places = [
            (start + 16 * at + 4 if length <= _INLINE else buffers[buffer] + offset, length)
            for at, (length, _, buffer, offset) in enumerate(zip(views, views, views, views))  # noqa: B905
        ]
        return [
            (connection, position, received, *place)
            for connection, position, received, place in zip(
                self._unpack(1, "uint32_t *"),
                self._unpack(2, "uint64_t *"),
                self._unpack(3, "int64_t *"),
                places,
                strict=True,
            )
        ]

    def _unpack(self, at: int, pointer: str) -> list[int]:
        child = self.array.children[at]
        values = ffi.cast(pointer, child.buffers[1]) + child.offset
        return ffi.unpack(values, child.length) if child.length else []

    @property
    def distinct(self) -> set[int]:
        """Connections of the rows."""
        if len(self) < _FEW:
            return set(self._unpack(1, "uint32_t *"))
        return set(np.unique(self.connections).tolist())

    @property
    def latest_ns(self) -> int:
        """When the last row came."""
        child = self.array.children[3]
        return int(ffi.cast("int64_t *", child.buffers[1])[child.offset + child.length - 1])

    def to_arrow(self) -> pa.RecordBatch:
        """Move it into an Arrow batch, which keeps what `rows` named in its place."""
        return pa.RecordBatch._import_from_c(  # noqa: SLF001 - documented for cffi
            int(ffi.cast("uintptr_t", self.array)), self._schema
        )

    def release(self) -> None:
        """Give its memory back; harmless after it was moved."""
        if self.array.release != ffi.NULL:
            self.array.release(self.array)

    def __del__(self) -> None:
        """Give its memory back if an exception came before anybody else could."""
        if ffi is not None:  # the interpreter may be ending
            self.release()
