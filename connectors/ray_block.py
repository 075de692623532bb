# SPDX-License-Identifier: Apache-2.0
"""
A block of rows on its way into Ray's object store, and back.

Ray writes an object in one go: what pickle protocol 5 calls out-of-band buffers is copied straight
into the store. So the buffers of a block's views, which point into the receive memory, are handed
over as they are, and that copy is the only one. A reader gets a table over the store's memory.

Source: PEP 574, "Pickle protocol 5 with out-of-band data"; Arrow columnar format, "Variable-size
Binary View Layout".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from zcrx_arrow._native import ffi

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from zcrx_arrow._raw import RawBatch

__all__ = ["Block", "Range", "Ranges", "read_as"]

_MANY: Final = 32
_COMPACT: Final = {pa.binary_view(): pa.large_binary(), pa.string_view(): pa.large_string()}

# Length, nulls, offset and buffers of one array.
_Piece = tuple[int, int, int, list[pa.Buffer | None]]


class Range(NamedTuple):
    """Which bytes of a connection the rows of a micro-batch were made of."""

    connection: int
    first: int
    """Position of the first message: a byte offset in the connection's stream."""
    end: int
    """Position behind the last byte of the last message."""


class Ranges:
    """Collects what was received, by connection. Not thread-safe."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[int, int]] = {}

    def add(
        self,
        connections: npt.NDArray[np.uint32],
        positions: npt.NDArray[np.uint64],
        lengths: npt.NDArray[np.int32],
    ) -> None:
        """Add messages, in the order of their arrival."""
        if not len(connections):
            return
        cuts = np.flatnonzero(connections[1:] != connections[:-1]) + 1
        starts = np.concatenate(([0], cuts))
        lasts = np.concatenate((cuts, [len(connections)])) - 1
        # A connection's messages come in order: its first run begins the range, its last ends it.
        which, first = np.unique(connections[starts], return_index=True)
        last = np.unique(connections[lasts][::-1], return_index=True)[1]
        for connection, begin, stop in zip(
            which.tolist(), starts[first].tolist(), lasts[::-1][last].tolist(), strict=True
        ):
            end = int(positions[stop]) + int(lengths[stop])
            before = self._found.get(connection, (int(positions[begin]), 0))
            self._found[connection] = (before[0], end)

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Add an undecoded batch."""
        payload = batch.column("payload")
        views = np.frombuffer(payload.buffers()[1], "<i4")[4 * payload.offset :: 4]
        self.add(batch.column("connection").to_numpy(), batch.column("position").to_numpy(), views)

    def add_raw(self, raw: RawBatch) -> None:
        """Add what a decoder is given."""
        count, child = len(raw), raw.array.children[0]
        if not count:
            return
        start = ffi.cast("char *", child.buffers[1]) + 16 * child.offset
        views = np.frombuffer(ffi.buffer(start, 16 * count), "<i4")[::4]
        self.add(raw.connections, raw.positions, views)

    def take(self) -> tuple[Range, ...]:
        """Give what was collected, and begin anew."""
        found, self._found = self._found, {}
        return tuple(Range(connection, *ends) for connection, ends in found.items())


class Block:
    """
    Record batches that are to be one object.

    Pickles as a `pyarrow.Table` to be: that is what a reader gets, and it needs this module.

    Parameters
    ----------
    batches : sequence of pyarrow.RecordBatch
        Not empty, of one schema; held as long as this object.
    compact : bool
        Whether readers get large_binary and large_string for top-level views.

    Notes
    -----
    Ownership: buffers are borrowed from the batches; whoever pickles copies them while it has this
    object. Immutable.
    """

    __slots__ = ("_compact", "_table", "joined_bytes")

    def __init__(self, batches: Sequence[pa.RecordBatch], *, compact: bool) -> None:
        table = pa.Table.from_batches(batches).replace_schema_metadata(None)
        self.joined_bytes = 0
        """Copied once more than needed, because there were too many small pieces."""
        if len(batches) > _MANY:
            joined = table.combine_chunks()
            self.joined_bytes = _owned_bytes(joined)
            table = joined
        self._table = _without_nested_views(table)
        self._compact = compact

    def __reduce__(self) -> Any:
        """Say how to make the table again, with every buffer that pickle may take out of band."""
        table = self._table
        views = {
            at: [_piece(chunk) for chunk in column.chunks]
            for at, column in enumerate(table.columns)
            if table.schema.field(at).type in _COMPACT
        }
        others = table.select([at for at in range(table.num_columns) if at not in views])
        return _rebuild, (table.schema, others, views, self._compact)


def _piece(array: pa.Array) -> _Piece:
    return len(array), array.null_count, array.offset, array.buffers()


def _rebuild(
    schema: pa.Schema, others: pa.Table, views: dict[int, list[_Piece]], compact: bool
) -> pa.Table:
    """Make the table over the memory that its buffers lie in."""
    rest = iter(others.columns)
    columns = []
    for at, each in enumerate(schema):
        if at not in views:
            columns.append(next(rest))
            continue
        pieces = [
            pa.Array.from_buffers(each.type, length, buffers, nulls, offset)
            for length, nulls, offset, buffers in views[at]
        ]
        column = pa.chunked_array(pieces, each.type)
        if compact:
            schema = schema.set(at, each.with_type(_COMPACT[each.type]))
            column = column.cast(_COMPACT[each.type])
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def read_as(schema: pa.Schema, *, compact: bool) -> pa.Schema:
    """Give the schema that readers of a `Block` see."""
    fields = []
    for each in schema:
        kind = _plain(each.type, top=True)
        fields.append(each.with_type(_COMPACT.get(kind, kind) if compact else kind))
    return pa.schema(fields)


def _owned_bytes(table: pa.Table) -> int:
    """Bytes of a joined table that joining has copied: of views, not what they point to."""
    return sum(
        16 * table.num_rows if column.type in _COMPACT else int(column.nbytes)
        for column in table.columns
    )


def _without_nested_views(table: pa.Table) -> pa.Table:
    """Give views within lists and structures the types that Ray can serialise."""
    fields = [each.with_type(_plain(each.type, top=True)) for each in table.schema]
    schema = pa.schema(fields)
    return table if schema.equals(table.schema) else table.cast(schema)


def _plain(kind: pa.DataType, *, top: bool = False) -> pa.DataType:
    if kind in _COMPACT:
        return kind if top else _COMPACT[kind]
    if pa.types.is_struct(kind):
        return pa.struct([each.with_type(_plain(each.type)) for each in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    return kind
