# SPDX-License-Identifier: Apache-2.0
"""
Rows of any Arrow types in the few that viewers have: numbers, text, dates and times, flat.

What becomes of which type is said at `perspective_view.compat`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from zcrx_arrow.connectors.json_rows import json_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["plain_table"]


def plain_table(data: pa.RecordBatch | pa.Table) -> pa.Table:
    """
    Convert every column.

    Returns
    -------
    pyarrow.Table
        Memory of its own. Names may occur twice.
    """
    batches = data.to_batches() if isinstance(data, pa.Table) else [data]
    empty = pa.RecordBatch.from_pylist([], data.schema)
    made = [_plain_batch(batch) for batch in (batches or [empty])]
    return pa.Table.from_batches(made)


def _plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    names, columns = [], []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        for name, plain in _plain(field.name, column):
            names.append(name)
            columns.append(plain)
    return pa.RecordBatch.from_arrays(columns, names)


def _plain(name: str, array: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Give the column, or those of a structure's members."""
    array = _simpler(array)
    if pa.types.is_struct(array.type):
        for field, child in zip(array.type, array.flatten(), strict=True):
            yield from _plain(f"{name}.{field.name}", child)
    else:
        yield name, _flat(array)


def _simpler(array: pa.Array) -> pa.Array:
    if isinstance(array.type, pa.BaseExtensionType):
        return _simpler(array.storage)
    if pa.types.is_dictionary(array.type):
        return _simpler(array.dictionary_decode())
    if pa.types.is_run_end_encoded(array.type):
        return _simpler(pc.run_end_decode(array))
    return array


def _flat(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or kind in _KEPT:
        return _copied(array)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _copied(array)
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        return array.cast(pa.float64())
    if pa.types.is_duration(kind):
        return _copied(array.cast(pa.int64()))
    return _text(array)


_KEPT = (pa.float32(), pa.float64())


def _copied(array: pa.Array) -> pa.Array:
    return array.copy_to(pa.default_cpu_memory_manager())


def _text(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_null(kind):
        return pa.nulls(len(array), pa.string())
    if _is_text(kind):
        return _without_nul(array.cast(pa.large_binary()).cast(pa.large_string()))
    if _is_bytes(kind):
        return _without_nul(_decoded(array.cast(pa.large_binary())))
    if pa.types.is_time(kind):
        return array.cast(pa.string())
    return _json(array)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _decoded(array: pa.LargeBinaryArray) -> pa.Array:
    try:
        return array.cast(pa.large_string())
    except pa.ArrowInvalid:
        values = (value and value.decode(errors="backslashreplace") for value in array.to_pylist())
        return pa.array(values, pa.large_string())


def _without_nul(array: pa.Array) -> pa.Array:
    """Escape what would end a text early in a viewer written in C++."""
    return pc.replace_substring(array, "\0", "\\x00").cast(pa.string())


def _json(array: pa.Array) -> pa.Array:
    before = len('{"v": ')
    rows = json_rows(pa.record_batch({"v": array}))
    texts = (row[before:-1] for row in rows)
    return pa.array((None if text == "null" else text for text in texts), pa.string())
