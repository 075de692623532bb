# SPDX-License-Identifier: Apache-2.0
"""
Rows of any Arrow types as JSON, without loss.

JSON has few types, so the others are text: times are ISO 8601 with the digits of their unit,
decimals all of theirs; a float that is no number is ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``,
as in the JSON of protobuf. Durations are whole numbers of their unit. Bytes are text if they are
UTF-8; else their key gets the suffix ``_base64``, and within a list they are ``{"base64": ...}``.
Dictionaries are their values, maps are lists of ``{"key": ..., "value": ...}``.
"""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["json_rows"]


class _Bytes(str):
    """Base64 of bytes that are no text."""

    __slots__ = ()


def json_rows(batch: pa.RecordBatch) -> Iterator[str]:
    """
    Give each row as a JSON object, without a line break.

    Raises
    ------
    ValueError
        If two columns have the same name.
    """
    names = batch.schema.names
    if len(set(names)) != len(names):
        raise ValueError(f"JSON cannot have two columns of the same name: {', '.join(names)}")
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    columns = [_plain(column) for column in batch.columns]
    for row in zip(*columns, strict=True):
        yield encode(_object(names, row))


def _object(names: list[str], values: tuple[Any, ...]) -> dict[str, Any]:
    made = dict(zip(names, values, strict=True))
    if _Bytes in map(type, values):
        return {
            f"{name}_base64" if type(value) is _Bytes else name: value
            for name, value in made.items()
        }
    return made


def _plain(array: pa.Array) -> list[Any]:
    """Give values that JSON has."""
    array = _simpler(array)
    kind = array.type
    if pa.types.is_struct(kind):
        return _structs(array)
    if _is_list(kind):
        return _lists(array)
    values: list[Any] = array.to_pylist()
    if pa.types.is_floating(kind):
        return [v if v is None or math.isfinite(v) else _no_number(v) for v in values]
    if _is_bytes(kind):
        return [v if v is None else _text(v) for v in values]
    if pa.types.is_interval(kind):
        return [v if v is None else list(v) for v in values]
    return values


def _simpler(array: pa.Array) -> pa.Array:
    """Turn types into others that say the same."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _simpler(array.storage)
    if pa.types.is_dictionary(kind):
        return _simpler(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _simpler(pc.run_end_decode(array))
    return _as_other(array)


def _as_other(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_map(kind):
        pair = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        return array.cast(pa.list_(pair))
    if pa.types.is_timestamp(kind):
        zone = "UTC" if kind.tz else None  # an instant needs no table of time zones to be written
        return array.cast(pa.timestamp(kind.unit, zone)).cast(pa.string())
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return array.cast(pa.int64() if pa.types.is_duration(kind) else pa.string())
    if pa.types.is_decimal(kind):
        return array.cast(pa.string())
    return array


def _structs(array: pa.StructArray) -> list[Any]:
    names = [field.name for field in array.type]
    children = [_plain(child) for child in array.flatten()]
    rows = zip(*children, strict=True) if children else iter([()] * len(array))
    return [
        _object(names, row) if valid else None
        for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)
    ]


def _lists(array: Any) -> list[Any]:
    values = [
        {"base64": value} if type(value) is _Bytes else value for value in _plain(array.flatten())
    ]
    made: list[Any] = []
    at = 0
    for length in array.value_lengths().to_pylist():
        if length is None:
            made.append(None)
        else:
            made.append(values[at : at + length])
            at += length
    return made


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _Bytes(base64.b64encode(value).decode())


def _no_number(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
