# SPDX-License-Identifier: Apache-2.0
"""One dictionary for all batches, for formats that allow no other."""

from __future__ import annotations

import pyarrow as pa

__all__ = ["DictionaryUnifier"]


class DictionaryUnifier:
    """
    Gives batches whose dictionaries only ever grow at their end.

    Not thread-safe. Holds every distinct value, as a reader of the file will.
    """

    def __init__(self) -> None:
        self._so_far: dict[int, pa.Array] = {}

    def unify(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """
        Re-number a batch.

        Raises
        ------
        pyarrow.ArrowInvalid
            If there are more values than the indices' type can tell apart.
        """
        columns = [
            self._unified(at, column) if _has_dictionary(column.type) else column
            for at, column in enumerate(batch.columns)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    def _unified(self, at: int, column: pa.Array) -> pa.Array:
        # An empty array that carries the dictionary; a slice would hold the batch's memory.
        before = self._so_far.get(at, column.take(pa.array([], pa.int64())))
        both = pa.chunked_array([before, column]).unify_dictionaries()
        self._so_far[at] = both.chunk(0)
        return both.chunk(1)


def _has_dictionary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return True
    return any(_has_dictionary(kind.field(i).type) for i in range(kind.num_fields))
