# SPDX-License-Identifier: Apache-2.0
"""
Lines of text to typed columns: what NDJSON and CSV have in common, and each of them.

The core gives *blocks*, as many whole lines as lie together, so that pyarrow's parsers read the
text where it was received. Only where a block cannot be read as a whole are its lines looked at one
by one, by halves, so that one bad row costs no more than some re-reading.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson

from zcrx_arrow._native import ffi, lib
from zcrx_arrow.config import one_of
from zcrx_arrow.decoders._base import (
    Context,
    Decoder,
    Decoding,
    OnDrift,
    OnError,
    check_keep,
    with_origins,
)
from zcrx_arrow.errors import ConfigError
from zcrx_arrow.framing import Delimited, Framing, Preamble

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from zcrx_arrow._raw import RawBatch

__all__ = ["Csv", "Ndjson"]

_ON_ERROR: Final[tuple[OnError, ...]] = ("fail", "null", "reject")
_ON_DRIFT: Final[tuple[OnDrift, ...]] = ("fail", "widen", "reject")
_EXTRA: Final = ("drift", "ignore")
# A piece of this size is parsed where it lies, smaller ones are joined to it: a call of a parser
# costs as much as copying several times as much.
_APART: Final = (1 << 20) + (64 << 10)
_UNREADABLE: Final = (pa.ArrowException, UnicodeError)
_DEEPEST: Final = 64
_NO_SCHEMA: Final = "nothing here tells a schema"
_MOST_EARLY: Final = 10_000
_LONG_LINE: Final = 64 << 10
_DRIFT: Final = "drift: "


@dataclass(slots=True)
class _Piece:
    """Whole lines of one connection that lie together."""

    connection: int
    position: int
    received: int
    address: int
    length: int
    state: Any = None

    def view(self) -> memoryview:
        return memoryview(ffi.buffer(ffi.cast("char *", self.address), self.length))


class _Unreadable(Exception):  # noqa: N818 - a state of the text, told to nobody outside
    """One row cannot be read; the text says why."""


class _Text(Decoder):
    """The options of both."""

    def __init__(
        self,
        schema: pa.Schema | None,
        delimiter: bytes,
        extra: str,
        on_error: OnError,
        on_drift: OnDrift,
        keep: Any,
    ) -> None:
        if schema is not None and not isinstance(schema, pa.Schema):
            raise ConfigError(f"schema must be a pyarrow.Schema, not {type(schema).__name__}")
        one_of(extra, "extra", _EXTRA)
        one_of(on_error, "on_error", _ON_ERROR)
        one_of(on_drift, "on_drift", _ON_DRIFT)
        self.schema, self.on_error, self.on_drift, self.extra = schema, on_error, on_drift, extra
        self.keep = check_keep(keep)
        if schema is not None:
            with_origins(schema, self.keep)
            if len(set(schema.names)) != len(schema.names):
                raise ConfigError(f"schema has a name twice: {schema.names}")
        self._delimiter = delimiter

    @property
    def framing(self) -> Framing:
        """Lines."""
        return Delimited(self._delimiter)

    def blocks(self, framing: Framing) -> bool:
        """Whether the core gives blocks: for lines that end with LF."""
        main = framing.then if isinstance(framing, Preamble) else framing
        if not isinstance(main, Delimited):
            return False
        return main.delimiter == b"\n" and not isinstance(framing, Preamble)

    def _check_types(self, row: bytes) -> None:
        """See that the parser knows every type of the schema: `row` is one of nothing."""
        if self.schema is None:
            return
        schema = pa.schema([field.with_nullable(True) for field in self.schema])
        try:
            self.parse(pa.py_buffer(row), schema, None)
        except _UNREADABLE as error:
            raise ConfigError(f"schema has a type that cannot be read: {_tidy(error)}") from None

    @abstractmethod
    def parse(self, text: Any, schema: pa.Schema, state: Any) -> pa.Table:
        """Parse lines to a schema; raises one of `_UNREADABLE`."""

    @abstractmethod
    def infer(self, text: Any, state: Any) -> pa.Schema:
        """Find a schema for the first lines."""

    @abstractmethod
    def lenient(self, line: bytes, schema: pa.Schema, state: Any) -> pa.Table:
        """Parse one line, with null for what cannot be read; raises `_Unreadable`."""

    blank: bytes
    """Bytes of which a line consists that is none."""

    @abstractmethod
    def plain_lines(self, text: pa.Buffer) -> int:
        """Count the rows if each line is one for sure, whatever a parser makes of it; else -1."""

    def has_no_fields(self, line: bytes) -> bool:  # noqa: ARG002
        """Whether a line is a row that says nothing of the schema."""
        return False

    @abstractmethod
    def is_row(self, line: bytes) -> bool:
        """Whether a line that is not blank is one row for sure."""

    def begin(self, work: _TextAtWork, piece: _Piece) -> _Piece | None:
        """See the first piece of a connection; gives what is left of it."""
        del work
        return piece


class _TextAtWork:
    """A text decoder on one source."""

    def __init__(self, decoder: _Text, context: Context, blocks: bool) -> None:
        self._decoder, self.context, self._blocks = decoder, context, blocks
        self.fields: pa.Schema | None = decoder.schema
        self.states: dict[int, Any] = {}
        self._early: list[
            tuple[int, int, int, bytes]
        ] = []  # rows of nulls that came before the schema

    @property
    def schema(self) -> pa.Schema | None:
        """See `Decoding`."""
        return None if self.fields is None else with_origins(self.fields, self._decoder.keep)

    def select(self, columns: list[str] | None) -> None:
        """All columns are made: what is wrong in any of them shall be seen."""

    def forget(self, connection: int) -> None:
        """See `Decoding`."""
        self.states.pop(connection, None)
        mine = [row for row in self._early if row[0] == connection]
        if not mine:
            return
        # No schema came in time for them.
        self._early = [row for row in self._early if row[0] != connection]
        for _, position, received, line in mine:
            if self._decoder.on_error == "reject":
                self.context.reject(connection, position, received, _NO_SCHEMA, line)
            else:
                self.context.fail(connection, position, _NO_SCHEMA)

    def decode(self, raw: RawBatch) -> list[pa.RecordBatch]:
        """See `Decoding`."""
        try:
            batches: list[pa.RecordBatch] = []
            for group in self._groups(raw):
                decoded = self._decode_group(group)
                if self._early and self.fields is not None:
                    batches += self._emit_early()
                batches += decoded
            return batches
        finally:
            raw.release()

    def _emit_early(self) -> list[pa.RecordBatch]:
        early, self._early = self._early, []
        assert self.fields is not None  # noqa: S101 - see decode()
        batches: list[pa.RecordBatch] = []
        for connection, position, received, _ in early:
            table = pa.table([pa.nulls(1, field.type) for field in self.fields], self.fields)
            piece = _Piece(connection, position, received, 0, 0)
            batches += self._emit(table, [(piece, (np.array([0]), np.array([0])))])
        return batches

    # --- pieces ------------------------------------------------------------------------------

    def _pieces(self, raw: RawBatch) -> list[_Piece]:
        """Give the rows' payloads, those that lie together as one."""
        pieces: list[_Piece] = []
        for connection, position, received, address, length in raw.rows():
            last = pieces[-1] if pieces else None
            if (
                self._blocks
                and last
                and last.connection == connection
                and last.address + last.length == address
                and last.position + last.length == position
            ):
                last.length += length
            elif not self.context.is_dead(connection):
                pieces.append(_Piece(connection, position, received, address, length))
        return pieces

    def _groups(self, raw: RawBatch) -> list[list[_Piece]]:
        """Give pieces that are parsed together: long ones alone."""
        groups: list[list[_Piece]] = []
        room = 0
        for found in self._pieces(raw):
            piece: _Piece | None = found
            if found.connection not in self.states:
                self.states[found.connection] = None
                piece = self._decoder.begin(self, found)
            if piece is None or not piece.length:
                continue
            piece.state = self.states.get(piece.connection)
            if piece.length < room and groups[-1][-1].state == piece.state:
                groups[-1].append(piece)
                room -= piece.length
            else:
                groups.append([piece])
                room = _APART - piece.length
        return groups

    def _decode_group(self, group: list[_Piece]) -> list[pa.RecordBatch]:
        group = [piece for piece in group if not self.context.is_dead(piece.connection)]
        if not group:
            return []
        state = group[0].state
        if len(group) == 1 and self._blocks:
            text: Any = pa.foreign_buffer(group[0].address, group[0].length)
        else:
            text = pa.py_buffer(
                b"\n".join(bytes(piece.view()).rstrip(b"\n") for piece in group) + b"\n"
            )
        if self.fields is None and not self._learn(group, text, state):
            return self._line_by_line(group)
        assert self.fields is not None  # noqa: S101 - _learn() has set it
        try:
            table = self._checked(self._decoder.parse(text, self.fields, state))
        except _UNREADABLE:
            return self._line_by_line(group)
        # A row a line, or the parser has seen ends of rows that are none (a CR, two objects).
        lines = None
        if self._decoder.keep or self._decoder.plain_lines(text) != table.num_rows:
            lines = [(piece, self._lines(piece.view())) for piece in group]
            plain = all(self._decoder.is_row(line) for line in _each(lines))
            if not plain or sum(len(starts) for _, (starts, _) in lines) != table.num_rows:
                return self._line_by_line(group)
        return self._emit(table, lines)

    def _learn(self, group: list[_Piece], text: pa.Buffer, state: Any) -> bool:
        """Find the schema: from all of the text, or from the first line that makes sense."""
        candidates: list[tuple[_Piece, Any]] = [(group[0], text)]
        for piece in group:
            view = piece.view()
            starts, ends = self._lines(view)
            candidates += (
                (piece, pa.py_buffer(bytes(view[start:end])))
                for start, end in zip(starts, ends, strict=True)
            )
        for piece, part in candidates:
            try:
                fields = self._decoder.infer(part, state if part is text else piece.state)
                with_origins(fields, self._decoder.keep)
            except _UNREADABLE:
                continue
            except ConfigError as error:  # a peer's names are no option of ours
                if part is text:
                    continue
                self.context.fail(piece.connection, piece.position, str(error.strerror))
                continue
            self.fields = fields
            return True
        return False

    def _lines(self, view: memoryview) -> tuple[Any, Any]:
        return _lines(view, self._decoder.blank)

    def _checked(self, table: pa.Table) -> pa.Table:
        assert self.fields is not None  # noqa: S101 - see callers
        for field, column in zip(self.fields, table.columns, strict=True):
            if not field.nullable and column.null_count:
                raise pa.ArrowInvalid(f"field {field.name!r} is missing and must not be null")
        return table

    def _emit(
        self, table: pa.Table, lines: list[tuple[_Piece, tuple[Any, Any]]] | None
    ) -> list[pa.RecordBatch]:
        schema = self.schema
        assert schema is not None  # noqa: S101 - see callers
        arrays = list(table.columns)
        for name in self._decoder.keep:
            assert lines is not None  # noqa: S101 - see callers
            if name == "position":
                parts = [piece.position + starts.astype("u8") for piece, (starts, _) in lines]
            else:
                field = "received" if name == "received_at" else name
                parts = [
                    np.full(
                        len(starts), getattr(piece, field), "i8" if field == "received" else "u4"
                    )
                    for piece, (starts, _) in lines
                ]
            arrays.append(pa.array(np.concatenate(parts)).cast(schema.field(name).type))
        made = pa.Table.from_arrays(arrays, schema=schema).combine_chunks()
        return [batch for batch in made.to_batches() if batch.num_rows]

    # --- where something cannot be read ------------------------------------------------------

    def _line_by_line(self, group: list[_Piece]) -> list[pa.RecordBatch]:
        batches: list[pa.RecordBatch] = []
        for piece in group:
            view = piece.view()
            starts, ends = self._lines(view)
            batches += self._halves(piece, view, starts, ends)
        return batches

    def _halves(
        self, piece: _Piece, view: memoryview, starts: Any, ends: Any
    ) -> list[pa.RecordBatch]:
        """Parse lines; where that fails, each half of them, in order."""
        if not len(starts) or self.context.is_dead(piece.connection):
            return []
        if self.fields is not None:
            # An end of line would become part of a value whose quote is not closed.
            end = b"\n" if len(starts) > 1 else b""
            text = pa.py_buffer(bytes(view[int(starts[0]) : int(ends[-1])]) + end)
            try:
                table = self._checked(self._decoder.parse(text, self.fields, piece.state))
                lines = [(piece, (starts, ends))]
                alone = len(starts) == 1
                if table.num_rows == len(starts) and (
                    alone or all(map(self._decoder.is_row, _each(lines)))
                ):
                    return self._emit(table, lines)
                reason = f"{table.num_rows} rows in {len(starts)} lines"
            except _UNREADABLE as error:
                reason = _tidy(error)
        else:
            reason = _NO_SCHEMA
        if len(starts) == 1:
            return self._bad(piece, view, int(starts[0]), int(ends[0]), reason)
        half = len(starts) // 2
        first = self._halves(piece, view, starts[:half], ends[:half])
        return first + self._halves(piece, view, starts[half:], ends[half:])

    def _bad(
        self, piece: _Piece, view: memoryview, start: int, end: int, reason: str
    ) -> list[pa.RecordBatch]:
        """Apply the policy to a line."""
        line, position = bytes(view[start:end]), piece.position + start
        decoder, context = self._decoder, self.context
        if self.fields is None and decoder.has_no_fields(line) and len(self._early) < _MOST_EARLY:
            self._early.append((piece.connection, position, piece.received, line))
            return []
        policy: str = decoder.on_error
        if reason.startswith(_DRIFT):
            context.drifted(piece.connection, reason.removeprefix(_DRIFT))
            policy = decoder.on_drift
        if policy == "null" and self.fields is not None:
            try:
                table = self._checked(decoder.lenient(line, self.fields, piece.state))
            except (*_UNREADABLE, _Unreadable) as error:
                reason = _tidy(error)
            else:
                context.stats.nulled_rows += 1
                where = (np.array([start]), np.array([end]))
                return self._emit(table, [(piece, where)])
        if policy == "reject":
            context.reject(piece.connection, position, piece.received, reason, line)
        else:
            context.fail(piece.connection, position, reason)
        return []


def _each(lines: list[tuple[_Piece, tuple[Any, Any]]]) -> Iterator[bytes]:
    """Give the lines themselves."""
    for piece, (starts, ends) in lines:
        view = piece.view()
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            yield bytes(view[start:end])


def _plain(text: pa.Buffer, first: str, last: str) -> int:
    """Count lines, as `za_lines_plain` does."""
    data = ffi.cast("uint8_t *", text.address)
    return int(lib.za_lines_plain(data, text.size, ord(first), ord(last)))


def _depth(text: pa.Buffer) -> int:
    """At least how deep brackets are nested; those in strings count too."""
    data = np.frombuffer(text, "u1")
    steps = ((data == ord("[")) | (data == ord("{"))).astype("i8")
    steps -= (data == ord("]")) | (data == ord("}"))
    return int(np.max(np.cumsum(steps), initial=0))


def _lines(view: memoryview, blank: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where lines begin and end that are not blank."""
    data = np.frombuffer(view, "u1")
    breaks = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate(([0], breaks + 1))
    ends = np.concatenate((breaks, [len(data)]))
    empty = np.flatnonzero(ends == starts)
    starts, ends = np.delete(starts, empty), np.delete(ends, empty)
    maybe = np.flatnonzero(np.isin(data[starts], np.frombuffer(blank, "u1")))
    odd = [at for at in maybe if not bytes(view[starts[at] : ends[at]]).strip(blank)]
    return np.delete(starts, odd), np.delete(ends, odd)


def _tidy(error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text[:300]


def _settled(schema: pa.Schema) -> pa.Schema:
    """Give what was inferred a form that later rows can keep to."""
    return pa.schema([pa.field(field.name, _settled_type(field.type)) for field in schema])


def _settled_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return pa.string()  # nothing was there yet
    if pa.types.is_timestamp(kind):
        return pa.timestamp("ns", kind.tz)  # the first rows may have come at whole seconds
    if pa.types.is_list(kind):
        return pa.list_(_settled_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(each.name, _settled_type(each.type)) for each in kind])
    return kind


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


# `null` where a row should be: pyarrow (26) takes it for a row, and reads memory that is not there.
_ROOT_NULL: Final = re.compile(rb"(?:^|[}\n])[ \t\r\n]*null")


def _read_json(text: Any, read: Any, options: Any) -> pa.Table:
    if _ROOT_NULL.search(text):
        try:
            value = json.loads(bytes(text))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, Mapping):  # it may be in a string
            raise pa.ArrowInvalid("null is no JSON object")
    return pajson.read_json(pa.BufferReader(text), read, options)


class Ndjson(_Text):
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
    Parsed by `pyarrow.json`, with its rules: numbers do not come from strings, timestamps are ISO
    8601. Blank lines are no rows. Format: RFC 8259, one value a line (ndjson.org).
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
        return _TextAtWork(self, context, self.blocks(framing))

    blank = b" \t\r"

    def has_no_fields(self, line: bytes) -> bool:
        """See `_Text`."""
        return re.fullmatch(rb"\s*\{\s*\}\s*", line) is not None

    def plain_lines(self, text: pa.Buffer) -> int:
        """See `_Text`: valid JSON that ends an object cannot begin one on the next line."""
        return _plain(text, "{", "}")

    def is_row(self, line: bytes) -> bool:
        """See `_Text`."""
        text = line.strip(self.blank)
        return text.startswith(b"{") and text.endswith(b"}") and b"\r" not in text

    def parse(self, text: Any, schema: pa.Schema, state: Any) -> pa.Table:
        """See `_Text`."""
        del state
        if not lib.za_utf8_valid(ffi.cast("uint8_t *", text.address), text.size):
            raise pa.ArrowInvalid("not UTF-8")
        behaviour = "ignore" if self.extra == "ignore" else "error"
        options = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior=behaviour)
        try:
            table = _read_json(text, self._read, options)
        except pa.ArrowInvalid as error:
            if "unexpected field" in str(error):
                raise pa.ArrowInvalid(f"{_DRIFT}unexpected field{_extra(text, schema)}") from None
            raise
        return table.select(schema.names) if table.schema.names != schema.names else table

    def infer(self, text: Any, state: Any) -> pa.Schema:
        """See `_Text`."""
        del state
        # Types as deep as hostile text would have pyarrow recurse until its stack is gone.
        if _depth(text) > _DEEPEST:
            raise pa.ArrowInvalid(f"nested deeper than {_DEEPEST}")
        if not lib.za_utf8_valid(ffi.cast("uint8_t *", text.address), text.size):
            raise pa.ArrowInvalid("not UTF-8")
        schema = _read_json(text, self._read, None).schema
        if not len(schema):
            raise pa.ArrowInvalid("no field tells a schema")
        return _settled(schema)

    def lenient(self, line: bytes, schema: pa.Schema, state: Any) -> pa.Table:
        """See `_Text`."""
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _Unreadable(f"no JSON: {error}") from None
        if not isinstance(values, Mapping):
            raise _Unreadable("no JSON object")
        extra = sorted(set(values) - set(schema.names))
        if extra and self.extra != "ignore":
            raise _Unreadable(f"unexpected field {extra[0]!r}")
        columns = []
        for field in schema:
            one = pa.schema([field])
            text = json.dumps({field.name: values.get(field.name)}).encode() + b"\n"
            try:
                column = self.parse(pa.py_buffer(text), one, state).column(0)
            except _UNREADABLE:
                column = pa.chunked_array([pa.nulls(1, field.type)])
            columns.append(column)
        return pa.Table.from_arrays(columns, schema=schema)


class Csv(_Text):
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
    Parsed by `pyarrow.csv`. Format: RFC 4180, but lines may end with LF alone.
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
            if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n"):
                raise ConfigError(f"Csv: {name}={value!r} must be one ASCII character")
        if delimiter == quote:
            raise ConfigError(f"Csv: delimiter and quote are both {delimiter!r}")
        self._header = header
        self._nulls, self._formats = list(null_values), list(timestamp_formats)
        self._parse_options = pacsv.ParseOptions(
            delimiter=delimiter, quote_char=quote if quote is not None else False
        )
        if schema is not None and self._nulls:
            self._check_types(
                (delimiter.join([self._nulls[0] or "NULL"] * len(schema)) + "\n").encode()
            )

    def start(self, context: Context, framing: Framing) -> Decoding:
        """Begin with a source."""
        return _TextAtWork(self, context, self.blocks(framing))

    blank = b"\r"

    def plain_lines(self, text: pa.Buffer) -> int:
        """See `_Text`: a lone CR would end a row for the parser."""
        last = bytes(memoryview(text)[-_LONG_LINE:]).rstrip(b"\n").rpartition(b"\n")
        if not (last[1] or text.size <= _LONG_LINE) or not self._closed(last[2]):
            return -1
        return _plain(text, "\0", "\0")

    def _closed(self, line: bytes) -> bool:
        quote = self._parse_options.quote_char
        return not quote or not line.count(quote.encode()) & 1

    def is_row(self, line: bytes) -> bool:
        """See `_Text`."""
        return b"\r" not in line.removesuffix(b"\r") and self._closed(line)

    def begin(self, work: _TextAtWork, piece: _Piece) -> _Piece | None:
        """Take the header off."""
        if not self._header:
            return piece
        view = piece.view()
        text = bytes(view)
        end = text.find(b"\n")
        end = len(text) if end < 0 else end
        try:
            row = pacsv.read_csv(
                pa.BufferReader(text[:end] + b"\n"),
                pacsv.ReadOptions(autogenerate_column_names=True, use_threads=False),
                self._parse_options,
                pacsv.ConvertOptions(strings_can_be_null=False, null_values=[]),
            )
            names = tuple(str(column[0].as_py()) for column in row.columns)
        except _UNREADABLE as error:
            work.context.fail(piece.connection, piece.position, f"no header: {_tidy(error)}")
            return None
        work.states[piece.connection] = names
        if not self._fits(work, piece, names):
            return None
        used = min(end + 1, piece.length)
        piece.position += used
        piece.address += used
        piece.length -= used
        return piece

    def _fits(self, work: _TextAtWork, piece: _Piece, names: tuple[str, ...]) -> bool:
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
            work.states[piece.connection] = ("", *names)
            return True
        work.context.fail(piece.connection, piece.position, what)
        return False

    def _options(self, schema: pa.Schema | None, state: Any) -> tuple[Any, Any]:
        if state and not state[0] and schema is not None:
            raise pa.ArrowInvalid(f"{_DRIFT}the header is not the schema's: {list(state[1:])}")
        names = list(state) if self._header and state else (schema.names if schema else None)
        read = pacsv.ReadOptions(column_names=names, use_threads=False, block_size=1 << 30)
        convert = pacsv.ConvertOptions(
            null_values=self._nulls,
            strings_can_be_null=True,
            timestamp_parsers=self._formats or None,
            column_types=schema,
            include_columns=schema.names if schema else None,
            include_missing_columns=True,
        )
        return read, convert

    def parse(self, text: Any, schema: pa.Schema, state: Any) -> pa.Table:
        """See `_Text`."""
        read, convert = self._options(schema, state)
        return pacsv.read_csv(pa.BufferReader(text), read, self._parse_options, convert)

    def infer(self, text: Any, state: Any) -> pa.Schema:
        """See `_Text`."""
        read, convert = self._options(None, state)
        return _settled(
            pacsv.read_csv(pa.BufferReader(text), read, self._parse_options, convert).schema
        )

    def lenient(self, line: bytes, schema: pa.Schema, state: Any) -> pa.Table:
        """See `_Text`."""
        texts = pa.schema([pa.field(field.name, pa.string()) for field in schema])
        read, convert = self._options(texts, state)
        row = pacsv.read_csv(pa.BufferReader(line + b"\n"), read, self._parse_options, convert)
        if row.num_rows != 1:
            raise _Unreadable(f"{row.num_rows} rows in a line")
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
            column_types={field.name: field.type},
            null_values=self._nulls,
            strings_can_be_null=True,
            timestamp_parsers=self._formats or None,
        )
        try:
            return pacsv.read_csv(
                pa.BufferReader(text.encode() + b"\n"),
                pacsv.ReadOptions(column_names=[field.name], use_threads=False),
                pacsv.ParseOptions(quote_char=quote),
                convert,
            ).column(0)
        except _UNREADABLE:
            return pa.chunked_array([pa.nulls(1, field.type)])
