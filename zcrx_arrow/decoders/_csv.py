# SPDX-License-Identifier: Apache-2.0
"""Delimited text, one row a line."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv

from zcrx_arrow._native import ffi
from zcrx_arrow.decoders import _plain
from zcrx_arrow.decoders._text import (
    DRIFT,
    UNREADABLE,
    Piece,
    Text,
    TextAtWork,
    Unreadable,
    look,
    settled,
    tidy,
)
from zcrx_arrow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zcrx_arrow.decoders._base import Context, Decoding, OnDrift, OnError
    from zcrx_arrow.framing import Framing

__all__ = ["Csv"]

_LONG_LINE: Final = 64 << 10
# pyarrow (26) reads no views.
_READ_AS: Final = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def _readable(schema: pa.Schema) -> pa.Schema:
    """Give each column a type that the parser has."""
    return pa.schema([field.with_type(_READ_AS.get(field.type, field.type)) for field in schema])


class Csv(Text):
    r"""
    Delimited text, one row a line.

    Parameters
    ----------
    schema : pyarrow.Schema, optional
        Of the rows. Without it, types are inferred from the first rows that arrive together, and
        then fixed: better give one.
    header : bool
        Whether each connection's first line names its columns. They are matched by name; a
        connection whose names are not the schema's is drift: with ``widen`` what is missing is
        null. Without a header columns go by their order, and a schema is needed.
    delimiter : str
        One character between values.
    quote : str or None
        The character around values; doubled within them. A line break within quotes is not
        supported: it ends the row.
    null_values : sequence of str
        What is null; also without quotes for strings.
    extra : {"drift", "ignore"}
        A column of the header that the schema does not have is drift, or is left out on purpose.
    timestamp_formats : sequence of str
        For ``strptime``; ISO 8601 if none.
    on_error, on_drift, keep
        See `Ndjson`.

    Notes
    -----
    Columns of numbers, booleans, timestamps, ``date32``, text and binary are read in the core where
    rows are in the usual form; all else is read by `pyarrow.csv`, to the same columns.
    ``string_view`` is what Polars and DuckDB take as it is. Format: RFC 4180, but lines may end
    with LF alone.
    """

    def __init__(
        self,
        schema: pa.Schema | None = None,
        *,
        header: bool = True,
        delimiter: str = ",",
        quote: str | None = '"',
        null_values: Sequence[str] = ("", "NULL", "null", "NA", "NaN", "nan"),
        extra: str = "drift",
        timestamp_formats: Sequence[str] = (),
        on_error: OnError = "fail",
        on_drift: OnDrift = "fail",
        keep: Any = (),
    ) -> None:
        super().__init__(schema, b"\n", extra, on_error, on_drift, keep)
        if schema is None and not header:
            raise ConfigError(
                "Csv: without a header a schema is needed, since nothing names columns"
            )
        for name, value in (("delimiter", delimiter), ("quote", quote)):
            if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n\0"):
                raise ConfigError(f"Csv: {name}={value!r} must be one ASCII character")
        if delimiter == quote:
            raise ConfigError(f"Csv: delimiter and quote are both {delimiter!r}")
        self._header = header
        self._nulls, self._formats = list(null_values), list(timestamp_formats)
        self._parse_options = pacsv.ParseOptions(
            delimiter=delimiter, quote_char=quote if quote is not None else False
        )
        self._unquoted = pacsv.ParseOptions(delimiter=delimiter, quote_char=False)
        self._kind = ffi.new("struct za_text_kind *", [0, 0, ord(quote or "\0")])
        if schema is not None and self._nulls:
            self._check_types(
                (delimiter.join([self._nulls[0] or "NULL"] * len(schema)) + "\n").encode()
            )

    def start(self, context: Context, framing: Framing) -> Decoding:
        """Begin with a source."""
        return TextAtWork(self, context, self.blocks(framing))

    blank = b"\r"

    def _rows(self, text: pa.Buffer, found: Any) -> int:
        """Count rows where each line is one: a quote that is not closed would join two."""
        if found.quoted:
            last = bytes(memoryview(text)[-_LONG_LINE:]).rstrip(b"\n").rpartition(b"\n")
            if not (last[1] or text.size <= _LONG_LINE) or not self._closed(last[2]):
                return -1
        return int(found.lines)

    def _closed(self, line: bytes) -> bool:
        quote = self._parse_options.quote_char
        return not quote or not line.count(quote.encode()) & 1

    def is_row(self, line: bytes) -> bool:
        """See `Text`."""
        return b"\r" not in line.removesuffix(b"\r") and self._closed(line)

    def begin(self, work: TextAtWork, piece: Piece) -> Piece | None:
        """Take the header off."""
        if not self._header:
            return piece
        view = piece.view()
        text = bytes(view)
        end = text.find(b"\n")
        end = len(text) if end < 0 else end
        try:
            names = self._names(text[:end])
        except (UnicodeError, csv.Error, StopIteration) as error:
            work.context.fail(piece.connection, piece.position, f"no header: {tidy(error)}")
            return None
        work.states[piece.connection] = names
        if not self._fits(work, piece, names):
            return None
        used = min(end + 1, piece.length)
        piece.position += used
        piece.address += used
        piece.length -= used
        return piece

    def _names(self, line: bytes) -> tuple[str, ...]:
        options = self._parse_options
        reader = csv.reader(
            [line.removesuffix(b"\r").decode("utf-8-sig")],
            delimiter=options.delimiter,
            quotechar=options.quote_char or None,
            quoting=csv.QUOTE_MINIMAL if options.quote_char else csv.QUOTE_NONE,
            strict=True,
        )
        return tuple(next(reader))

    def _fits(self, work: TextAtWork, piece: Piece, names: tuple[str, ...]) -> bool:
        if len(set(names)) != len(names):
            work.context.fail(piece.connection, piece.position, "a column name comes twice")
            return False
        if work.fields is None:
            return True
        missing = [name for name in work.fields.names if name not in names]
        extra = [name for name in names if name not in work.fields.names]
        if self.extra == "ignore":
            extra = []
        if not missing and not extra:
            return True
        what = f"columns missing: {missing}, not expected: {extra}"
        work.context.drifted(piece.connection, what)
        nullable = all(work.fields.field(name).nullable for name in missing)
        if self.on_drift == "widen" and not extra and nullable:
            return True
        if self.on_drift == "reject":
            # Every row of it goes aside: no line fits these names.
            work.states[piece.connection] = (None, *names)
            return True
        work.context.fail(piece.connection, piece.position, what)
        return False

    leaves_out = True

    def plain(self, schema: pa.Schema, state: Any, wanted: pa.Schema) -> _plain.Plain | None:
        """See `Text`."""
        if state and state[0] is None:
            return None
        if self._formats and any(pa.types.is_temporal(field.type) for field in wanted):
            return None
        names = state if self._header and state else schema.names
        options = self._parse_options
        quote = options.quote_char or None
        return _plain.csv(wanted, names, options.delimiter, quote, self._nulls)

    def _options(
        self, schema: pa.Schema | None, state: Any, wanted: pa.Schema | None = None
    ) -> tuple[Any, Any]:
        if state and state[0] is None and schema is not None:
            raise pa.ArrowInvalid(f"{DRIFT}the header is not the schema's: {list(state[1:])}")
        names = list(state) if self._header and state else (schema.names if schema else None)
        read = pacsv.ReadOptions(column_names=names, use_threads=False, block_size=1 << 30)
        convert = pacsv.ConvertOptions(
            null_values=self._nulls,
            strings_can_be_null=True,
            timestamp_parsers=self._formats or None,
            column_types=None if schema is None else _readable(schema),
            include_columns=(wanted or schema).names if schema else None,
            include_missing_columns=True,
        )
        return read, convert

    def parse(
        self, text: Any, schema: pa.Schema, state: Any, wanted: pa.Schema | None = None
    ) -> tuple[pa.Table, int]:
        """See `Text`: a lone CR would end a row for the parser."""
        read, convert = self._options(schema, state, wanted)
        found = look(text, self._kind)
        # What was looked at as a whole need not be looked at value by value.
        convert.check_utf8 = not found.utf8
        parse = self._parse_options if found.quoted else self._unquoted
        # The streaming reader costs less to begin with than read_csv().
        table = pacsv.open_csv(pa.BufferReader(text), read, parse, convert).read_all()
        for at, field in enumerate(wanted or schema):
            if table.field(at).type != field.type:
                table = table.set_column(at, field.name, table.column(at).cast(field.type))
        return table, self._rows(text, found)

    def infer(self, text: Any, state: Any) -> pa.Schema:
        """See `Text`."""
        read, convert = self._options(None, state)
        return settled(
            pacsv.read_csv(pa.BufferReader(text), read, self._parse_options, convert).schema
        )

    def lenient(self, line: bytes, schema: pa.Schema, state: Any) -> pa.Table:
        """See `Text`."""
        texts = pa.schema([pa.field(field.name, pa.string()) for field in schema])
        read, convert = self._options(texts, state)
        row = pacsv.read_csv(pa.BufferReader(line + b"\n"), read, self._parse_options, convert)
        if row.num_rows != 1:
            raise Unreadable(f"{row.num_rows} rows in a line")
        columns = []
        for field, column in zip(schema, row.columns, strict=True):
            value = column[0].as_py()
            columns.append(self._value(value, field))
        return pa.Table.from_arrays(columns, schema=schema)

    def _value(self, value: str | None, field: pa.Field) -> pa.ChunkedArray:
        if value is None:
            return pa.chunked_array([pa.nulls(1, field.type)])
        quote = self._parse_options.quote_char or '"'
        text = quote + value.replace(quote, quote * 2) + quote
        convert = pacsv.ConvertOptions(
            column_types=_readable(pa.schema([field])),
            null_values=self._nulls,
            strings_can_be_null=True,
            timestamp_parsers=self._formats or None,
        )
        try:
            return (
                pacsv.read_csv(
                    pa.BufferReader(text.encode() + b"\n"),
                    pacsv.ReadOptions(column_names=[field.name], use_threads=False),
                    pacsv.ParseOptions(quote_char=quote),
                    convert,
                )
                .column(0)
                .cast(field.type)
            )
        except UNREADABLE:
            return pa.chunked_array([pa.nulls(1, field.type)])
