# SPDX-License-Identifier: Apache-2.0
"""A batch as the core gives it, before anybody else sees it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zcrx_arrow._native import ffi

__all__ = ["RawBatch"]

_VIEW: Final = np.dtype([("length", "<u4"), ("prefix", "<u4"), ("buffer", "<i4"), ("at", "<i4")])
_INLINE: Final = 12


class RawBatch:
    """
    Rows with binary_view payloads, as a ``struct ArrowArray`` that this object owns.

    Not thread-safe. Give it up with `release`, or move it out with `to_arrow`; what is read through
    `payloads` is valid only before that.
    """

    def __init__(self, array: Any, schema: pa.Schema) -> None:
        self.array = array
        self._schema = schema

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

    def payloads(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        """Address and length of each row's payload."""
        child = self.array.children[0]
        count = int(child.length)
        if not count:
            return np.empty(0, "u8"), np.empty(0, "u4")
        start = int(ffi.cast("uintptr_t", child.buffers[1])) + 16 * int(child.offset)
        views = np.frombuffer(ffi.buffer(ffi.cast("char *", start), 16 * count), _VIEW)
        bases = np.array(
            [int(ffi.cast("uintptr_t", child.buffers[2 + i])) for i in range(child.n_buffers - 3)]
            or [0],
            "u8",
        )
        inline = views["length"] <= _INLINE
        which = np.where(inline, 0, views["buffer"])
        outside = bases[which] + views["at"].astype("u8")
        inside = np.arange(count, dtype="u8") * 16 + np.uint64(start + 4)
        return np.where(inline, inside, outside), views["length"]

    def to_arrow(self) -> pa.RecordBatch:
        """Move it into an Arrow batch, which keeps what `payloads` named in its place."""
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
