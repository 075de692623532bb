# SPDX-License-Identifier: Apache-2.0
"""
Text in the form in which programs usually write it becomes columns in the core.

That is quicker by several times than a general parser, and it is the same: whatever is not plain,
or is wrong, is refused as a whole and left to pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from zcrx_arrow._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Plain", "csv", "ndjson"]

_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_MOST_COLUMNS: Final = 64
_MOST_VALUES: Final = 1024
_MOST_DOUBLED: Final = 4


class Plain:
    """Reads plain text to the columns of a schema. Not thread-safe, as decoders at work are not."""

    def __init__(self, schema: pa.Schema, read: Any, core: Any, alive: Sequence[Any]) -> None:
        """Not for users: see `csv` and `ndjson`."""
        self._schema, self._read, self._core, self._alive = schema, read, core, alive
        self._refused = self._skip = 0

    def read(self, text: Any) -> pa.RecordBatch | None:
        """Read lines of a buffer; each that is not blank is a row. None: they are not plain."""
        # What is never plain shall not be tried each time; that costs a tenth of reading it.
        if self._skip:
            self._skip -= 1
            return None
        array = ffi.new("struct ArrowArray *")
        data = ffi.cast("uint8_t *", text.address)
        if not self._read(self._core, data, text.size, array):
            self._skip = (1 << self._refused) - 1
            self._refused = min(self._refused + 1, _MOST_DOUBLED)
            return None
        self._refused = 0
        address = int(ffi.cast("uintptr_t", array))
        return pa.RecordBatch._import_from_c(address, self._schema)  # noqa: SLF001


def csv(
    schema: pa.Schema,
    names: Sequence[str],
    delimiter: str,
    quote: str | None,
    nulls: Sequence[str],
) -> Plain | None:
    """Make a reader of rows whose values have these names; None: it does not know a type."""
    columns = _columns(schema, zone_is_strict=True, with_days=True)
    if columns is None or len(names) > _MOST_VALUES:
        return None
    places = {name: place for place, name in enumerate(names)}
    for column, field in zip(columns, schema, strict=False):
        column.place = places.get(field.name, lib.ZA_NOWHERE)
    words = [word for word in dict.fromkeys(nulls) if word]
    core = ffi.new("struct za_csv *")
    texts, alive = _words(words)
    core.columns, core.n_columns, core.n_values = columns, len(schema), len(names)
    core.delimiter, core.quote = ord(delimiter), ord(quote or "\0")
    core.empty_is_null = "" in nulls
    core.nulls, core.n_nulls = texts, len(words)
    for word in words:
        core.begins_null[word.encode()[0]] = 1
    return Plain(schema, lib.za_csv_plain, core, [columns, alive])


def ndjson(schema: pa.Schema, *, ignore_others: bool) -> Plain | None:
    """Make a reader of objects whose members have these names; None: it does not know a type."""
    columns = _columns(schema, zone_is_strict=False, with_days=False)
    if columns is None:
        return None
    core = ffi.new("struct za_ndjson *")
    core.names, alive = _words(schema.names)
    core.columns, core.n_columns = columns, len(schema)
    core.ignore_others = ignore_others
    return Plain(schema, lib.za_ndjson_plain, core, [columns, alive])


def _words(words: Sequence[str]) -> tuple[Any, list[Any]]:
    alive: list[Any] = [ffi.from_buffer(word.encode()) for word in words]
    texts = ffi.new("struct za_text_word[]", len(words) or 1)
    for text, kept in zip(texts, alive, strict=False):
        text.text, text.bytes = ffi.cast("uint8_t *", kept), len(kept)
    return texts, [texts, *alive]


def _columns(schema: pa.Schema, *, zone_is_strict: bool, with_days: bool) -> Any:
    if not 0 < len(schema) <= _MOST_COLUMNS:
        return None
    columns = ffi.new("struct za_text_column[]", len(schema))
    for column, field in zip(columns, schema, strict=True):
        options = _options(field.type, zone_is_strict=zone_is_strict)
        if options is None or (options["kind"] == lib.ZA_VALUE_DAY and not with_days):
            return None
        for name, value in options.items():
            setattr(column, name, value)
        column.nullable = field.nullable
    return columns


def _options(kind: pa.DataType, *, zone_is_strict: bool) -> Mapping[str, Any] | None:
    """Say what the core must know of a type."""
    if pa.types.is_timestamp(kind):
        # pyarrow's CSV reader wants a zone where the type has one, and none elsewhere.
        return {
            "kind": lib.ZA_VALUE_TIME,
            "bytes": 8,
            "digits": _DIGITS[kind.unit],
            "zone": not zone_is_strict or kind.tz is not None,
            "no_zone": not zone_is_strict or kind.tz is None,
        }
    return _OPTIONS.get(kind)


_OPTIONS: Final[Mapping[pa.DataType, Mapping[str, Any]]] = {
    **{
        kind: {"kind": lib.ZA_VALUE_INT, "bytes": kind.bit_width // 8}
        for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    },
    **{
        kind: {"kind": lib.ZA_VALUE_UINT, "bytes": kind.bit_width // 8}
        for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    },
    pa.float32(): {"kind": lib.ZA_VALUE_REAL, "bytes": 4},
    pa.float64(): {"kind": lib.ZA_VALUE_REAL, "bytes": 8},
    pa.bool_(): {"kind": lib.ZA_VALUE_BOOL},
    pa.date32(): {"kind": lib.ZA_VALUE_DAY, "bytes": 4},
    pa.string(): {"kind": lib.ZA_VALUE_TEXT},
    pa.binary(): {"kind": lib.ZA_VALUE_TEXT},
    pa.string_view(): {"kind": lib.ZA_VALUE_VIEW, "bytes": 16},
    pa.binary_view(): {"kind": lib.ZA_VALUE_VIEW, "bytes": 16},
}
