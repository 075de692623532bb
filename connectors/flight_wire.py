# SPDX-License-Identifier: Apache-2.0
"""
Batches as they go over the wire of Arrow Flight: types that clients know, of a size they take.

Source: Arrow columnar format, "Serialization and Interprocess Communication"; views came with
version 1.4 of the format, and clients of several languages do not read them. gRPC's clients
refuse messages above 4 MiB unless they are told otherwise.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from zcrx_arrow.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Wire", "dictionary_bytes", "plain_type", "wire_bytes"]

_PLAIN: Final = {pa.binary_view(): pa.binary(), pa.string_view(): pa.string()}


class Wire:
    """
    What becomes of a feed's batches before they are sent.

    Views become compact binary and string, dictionaries their values; batches of more than
    `message` bytes are cut between rows. Not thread-safe.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the feed.
    views : bool
        Keep binary_view and string_view.
    message : int
        Bytes of a batch on the wire at most; a single row may be larger.
    lent : bool
        Whether batches may point into receive memory: then they are copied, once, so that the
        memory is free again before anything is sent.

    Raises
    ------
    UnsupportedError
        If a column cannot be sent.
    """

    def __init__(self, schema: pa.Schema, *, views: bool, message: int, lent: bool) -> None:
        self._views, self._message, self._lent = views, message, lent
        self._plain = pa.schema([_plain_field(field) for field in schema], schema.metadata)
        self._is_plain = schema.equals(self._plain, check_metadata=True)
        self._memory = pa.default_cpu_memory_manager()
        self.schema = self._plain
        """Of every batch that is sent."""
        self._view_bytes = 0
        """By how much a row is longer with views than without."""
        if views:
            self._view_bytes = sum(field.type in _PLAIN for field in schema) * (16 - 4)
            fields = [_with_views(old, new) for old, new in zip(schema, self._plain, strict=True)]
            self.schema = pa.schema(fields, schema.metadata)

    def pieces(self, batch: pa.RecordBatch) -> list[tuple[pa.RecordBatch, int]]:
        """
        Give a batch as it is sent, in pieces with their sizes in bytes; none if it has no rows.

        What is given holds nothing of the receive memory.
        """
        if not batch.num_rows:
            return []
        return list(self._cut(self._owned(batch), cut=False))

    def _cut(self, piece: pa.RecordBatch, *, cut: bool) -> Iterator[tuple[pa.RecordBatch, int]]:
        rows = piece.num_rows
        size = wire_bytes(piece)
        if rows > 1 and size + rows * self._view_bytes > self._message:
            half = rows // 2
            yield from self._cut(piece.slice(0, half), cut=True)
            yield from self._cut(piece.slice(half), cut=True)
            return
        if self._views:
            if cut:  # they would send the other pieces' bytes along
                piece = pa.concat_batches([piece, piece.slice(0, 0)])
            piece = piece.cast(self.schema)
            size = wire_bytes(piece)
        yield piece, size

    def _owned(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self._is_plain:
            return self._made_plain(batch)
        return batch.copy_to(self._memory) if self._lent else batch

    def _made_plain(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            self._own(_plain(column, field.type), column)
            for column, field in zip(batch.columns, self._plain, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._plain)

    def _own(self, made: pa.Array, given: pa.Array) -> pa.Array:
        """Copy what still lies in receive memory."""
        if not self._lent or (_is_fresh(given.type) and not given.null_count):
            return made
        return made.copy_to(self._memory)


def wire_bytes(batch: pa.RecordBatch) -> int:
    """Give the bytes of a batch as an IPC message."""
    size: int = pa.ipc.get_record_batch_size(batch)
    return size


def dictionary_bytes(batch: pa.RecordBatch) -> dict[tuple[int, ...], int]:
    """
    Give the bytes of a batch's dictionaries, which its message does not have.

    By where they lie, so that batches which share one can be told from those that have their own.
    """
    return {
        tuple(buffer.address for buffer in each.buffers() if buffer): each.get_total_buffer_size()
        for column in batch.columns
        if _has_dictionary(column.type)
        for each in _dictionaries(column)
    }


def _dictionaries(array: pa.Array) -> Iterator[pa.Array]:
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from _dictionaries(array.storage)
    elif pa.types.is_dictionary(kind):
        yield array.dictionary
        yield from _dictionaries(array.dictionary)
    elif pa.types.is_map(kind):
        yield from _dictionaries(array.keys)
        yield from _dictionaries(array.items)
    elif pa.types.is_struct(kind) or pa.types.is_union(kind):
        for at in range(kind.num_fields):
            yield from _dictionaries(array.field(at))
    elif kind.num_fields:  # lists of every kind, and run-end encoded
        yield from _dictionaries(array.values)


def _is_fresh(kind: pa.DataType) -> bool:
    """Say whether making it plain copies all but a bitmap of nulls."""
    return kind in _PLAIN


def plain_type(kind: pa.DataType) -> pa.DataType:
    """
    Give the type that clients of every age can read.

    Raises
    ------
    UnsupportedError
        If it has dictionaries where they cannot be replaced by their values.
    """
    if kind in _PLAIN:
        return _PLAIN[kind]
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    return _plain_nested(kind)


def _plain_nested(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_plain_field(kind.value_field, top=False))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field, top=False))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field, top=False), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([_plain_field(field, top=False) for field in kind])
    if pa.types.is_map(kind):
        key, item = (_plain_field(f, top=False) for f in (kind.key_field, kind.item_field))
        return pa.map_(key, item, keys_sorted=kind.keys_sorted)
    if _has_dictionary(kind):
        raise UnsupportedError(
            errno.ENOTSUP,
            f"a dictionary within {kind} cannot be sent",
            step="serve",
            remedy="Decode it to its values first, or leave the column out.",
        )
    return kind


def _plain_field(field: pa.Field, *, top: bool = True) -> pa.Field:
    kind = field.type
    if not top and pa.types.is_dictionary(kind) and plain_type(kind.value_type) != kind.value_type:
        raise UnsupportedError(
            errno.ENOTSUP,
            f"column part {field.name!r}, a dictionary of views within another type, cannot be "
            "sent",
            step="serve",
            remedy="Decode it to a dictionary of string or binary, or leave the column out.",
        )
    return field.with_type(plain_type(kind))


def _has_dictionary(kind: Any) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dictionary(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return True
    if pa.types.is_run_end_encoded(kind):
        return _has_dictionary(kind.value_type)
    return any(_has_dictionary(kind.field(i).type) for i in range(kind.num_fields))


def _with_views(old: pa.Field, new: pa.Field) -> pa.Field:
    """Give columns that were views their type back; below the top they are plain."""
    return old if old.type in _PLAIN else new


def _plain(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    if pa.types.is_dictionary(array.type):
        values = _plain(array.dictionary, kind)
        return pa.DictionaryArray.from_arrays(array.indices, values).dictionary_decode()
    return array.cast(kind)
