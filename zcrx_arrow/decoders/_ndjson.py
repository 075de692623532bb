# SPDX-License-Identifier: Apache-2.0
"""One JSON object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from zcrx_arrow._native import ffi
from zcrx_arrow.decoders import _plain
from zcrx_arrow.decoders._text import (
    DRIFT,
    UNREADABLE,
    Text,
    TextAtWork,
    Unreadable,
    look,
    settled,
)

if TYPE_CHECKING:
    from zcrx_arrow.decoders._base import Context, Decoding, OnDrift, OnError
    from zcrx_arrow.framing import Framing

__all__ = ["Ndjson"]

_DEEPEST: Final = 64
_LONG_LINE: Final = 64 << 10
# `null` where a row should be: pyarrow (26) takes it for a row, and reads memory that is not there.
_ROOT_NULL: Final = re.compile(rb"(?:^|[}\n])[ \t\r\n]*null")

_OBJECTS: Final = ffi.new("struct za_text_kind *", [ord("{"), ord("}"), 0])


def _depth(text: pa.Buffer) -> int:
    """At least how deep brackets are nested; those in strings count too."""
    data = np.frombuffer(text, "u1")
    steps = ((data == ord("[")) | (data == ord("{"))).astype("i8")
    steps -= (data == ord("]")) | (data == ord("}"))
    return int(np.max(np.cumsum(steps), initial=0))


def _extra(line: Any, schema: pa.Schema) -> str:
    """Name the field of a line that the schema has not."""
    if line.size > _LONG_LINE:
        return ""
    try:
        values = json.loads(bytes(line))
    except (ValueError, RecursionError):
        return ""
    if not isinstance(values, Mapping):
        return ""
    extra = sorted(set(values) - set(schema.names))
    return f" {extra[0][:100]!r}" if extra else ""


def _look(text: pa.Buffer) -> Any:
    found = look(text, _OBJECTS)
    if not found.utf8:
        raise pa.ArrowInvalid("not UTF-8")
    return found


def _read_json(text: Any, found: Any, read: Any, options: Any) -> pa.Table:
    # A value that is null crashes pyarrow's parser (apache/arrow 47409). Lines that begin and end
    # as objects do can hold one only behind an object.
    plain = found.lines >= 0
    if found.null_behind if plain else _ROOT_NULL.search(text) is not None:
        try:
            value = json.loads(bytes(text))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, Mapping):  # it may be in a string
            raise pa.ArrowInvalid("null is no JSON object")
    # Costs less to begin with than read_json().
    return pajson.open_json(pa.BufferReader(text), read, options).read_all()


class Ndjson(Text):
    r"""
    One JSON object a line.

    Parameters
    ----------
    schema : pyarrow.Schema, optional
        Of the rows, by field name; what a row lacks is null. Without it, it is inferred from the
        first rows that arrive together, and then fixed: better give one.
    extra : {"drift", "ignore"}
        A field that the schema does not have is drift, or is left out on purpose.
    on_error, on_drift
        See `zcrx_arrow.decoders`. With ``null``, each value that is not of its column's type is
        null, and a line that is no JSON object is as with ``fail``.
    keep : sequence of str or True
        Columns to add: ``connection``, ``position``, ``received_at``.

    Notes
    -----
    Columns of numbers, booleans, timestamps, text and binary are read in the core where objects are
    in the usual form; all else is read by `pyarrow.json`, to the same columns and with its rules:
    numbers do not come from strings, timestamps are ISO 8601. Blank lines are no rows. Format: RFC
    8259, one value a line (ndjson.org).
    """

    def __init__(
        self,
        schema: pa.Schema | None = None,
        *,
        extra: str = "drift",
        on_error: OnError = "fail",
        on_drift: OnDrift = "fail",
        keep: Any = (),
    ) -> None:
        super().__init__(schema, b"\n", extra, on_error, on_drift, keep)
        self._read = pajson.ReadOptions(use_threads=False, block_size=1 << 30)
        self._check_types(b"{}\n")

    def start(self, context: Context, framing: Framing) -> Decoding:
        """Begin with a source."""
        return TextAtWork(self, context, self.blocks(framing))

    blank = b" \t\r"

    def has_no_fields(self, line: bytes) -> bool:
        """See `Text`."""
        return re.fullmatch(rb"\s*\{\s*\}\s*", line) is not None

    def is_row(self, line: bytes) -> bool:
        """See `Text`."""
        text = line.strip(self.blank)
        return text.startswith(b"{") and text.endswith(b"}") and b"\r" not in text

    @property
    def leaves_out(self) -> bool:
        """See `Text`: a field that is left out is taken for one that nobody knows."""
        return self.extra == "ignore"

    def plain(self, schema: pa.Schema, state: Any, wanted: pa.Schema) -> _plain.Plain | None:
        """See `Text`."""
        # Columns are left out only where fields that nobody knows are.
        del schema, state
        return _plain.ndjson(wanted, ignore_others=self.extra == "ignore")

    def parse(
        self, text: Any, schema: pa.Schema, state: Any, wanted: pa.Schema | None = None
    ) -> tuple[pa.Table, int]:
        """See `Text`: valid JSON that ends an object cannot begin one on the next line."""
        del state
        schema = wanted if wanted is not None else schema
        found = _look(text)
        behaviour = "ignore" if self.extra == "ignore" else "error"
        options = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior=behaviour)
        try:
            table = _read_json(text, found, self._read, options)
        except pa.ArrowInvalid as error:
            if "unexpected field" in str(error):
                raise pa.ArrowInvalid(f"{DRIFT}unexpected field{_extra(text, schema)}") from None
            raise
        if table.schema.names != schema.names:
            table = table.select(schema.names)
        return table, found.lines

    def infer(self, text: Any, state: Any) -> pa.Schema:
        """See `Text`."""
        del state
        # Types as deep as hostile text would have pyarrow recurse until its stack is gone.
        if _depth(text) > _DEEPEST:
            raise pa.ArrowInvalid(f"nested deeper than {_DEEPEST}")
        schema = _read_json(text, _look(text), self._read, None).schema
        if not len(schema):
            raise pa.ArrowInvalid("no field tells a schema")
        return settled(schema)

    def lenient(self, line: bytes, schema: pa.Schema, state: Any) -> pa.Table:
        """See `Text`."""
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"no JSON: {error}") from None
        if not isinstance(values, Mapping):
            raise Unreadable("no JSON object")
        extra = sorted(set(values) - set(schema.names))
        if extra and self.extra != "ignore":
            raise Unreadable(f"unexpected field {extra[0]!r}")
        columns = []
        for field in schema:
            one = pa.schema([field])
            text = json.dumps({field.name: values.get(field.name)}).encode() + b"\n"
            try:
                column = self.parse(pa.py_buffer(text), one, state)[0].column(0)
            except UNREADABLE:
                column = pa.chunked_array([pa.nulls(1, field.type)])
            columns.append(column)
        return pa.Table.from_arrays(columns, schema=schema)
