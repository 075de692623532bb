# SPDX-License-Identifier: Apache-2.0
"""
Lines of text to typed columns: what NDJSON and CSV have in common, and each of them.

The core gives *blocks*, as many whole lines as lie together, so that the text is read where it was
received: by the core where it is plain, else by pyarrow's parsers. Only where a block cannot be
read as a whole are its lines looked at one by one, by halves, so that one bad row costs no more
than some re-reading.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from zcrx_arrow._native import ffi, lib
from zcrx_arrow.config import one_of
from zcrx_arrow.decoders._base import (
    Context,
    Decoder,
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
    from zcrx_arrow.decoders._plain import Plain

__all__ = [
    "DRIFT",
    "UNREADABLE",
    "Piece",
    "Text",
    "TextAtWork",
    "Unreadable",
    "look",
    "settled",
    "tidy",
]

_ON_ERROR: Final[tuple[OnError, ...]] = ("fail", "null", "reject")
_ON_DRIFT: Final[tuple[OnDrift, ...]] = ("fail", "widen", "reject")
_EXTRA: Final = ("drift", "ignore")
# A piece of this size is parsed where it lies, smaller ones are joined to it: a call of a parser
# costs as much as copying several times as much.
_APART: Final = (1 << 20) + (64 << 10)
UNREADABLE: Final = (pa.ArrowException, UnicodeError)
_NO_SCHEMA: Final = "nothing here tells a schema"
_LF: Final = ord("\n")
_MOST_EARLY: Final = 10_000
DRIFT: Final = "drift: "


@dataclass(slots=True)
class Piece:
    """Whole lines of one connection that lie together."""

    connection: int
    position: int
    received: int
    address: int
    length: int
    state: Any = None

    def view(self) -> memoryview:
        return memoryview(ffi.buffer(ffi.cast("char *", self.address), self.length))


class Unreadable(Exception):  # noqa: N818 - a state of the text, told to nobody outside
    """One row cannot be read; the text says why."""


class Text(Decoder):
    """The options of both, and what each must know of its format."""

    batch_bytes = 2 << 20  # to begin costs a parser as much as some ten kilobytes

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
        except UNREADABLE as error:
            raise ConfigError(f"schema has a type that cannot be read: {tidy(error)}") from None

    @property
    @abstractmethod
    def leaves_out(self) -> bool:
        """Whether it can leave out columns."""

    @abstractmethod
    def parse(
        self, text: Any, schema: pa.Schema, state: Any, wanted: pa.Schema | None = None
    ) -> tuple[pa.Table, int]:
        """
        Parse lines to a schema, or to what is wanted of it; raises one of `UNREADABLE`.

        Gives also how many rows they must be, if each line is one for sure whatever a parser makes
        of it; else -1.
        """

    @abstractmethod
    def plain(self, schema: pa.Schema, state: Any, wanted: pa.Schema) -> Plain | None:
        """Make what reads plain lines, as `parse` would; None: nothing does."""

    @abstractmethod
    def infer(self, text: Any, state: Any) -> pa.Schema:
        """Find a schema for the first lines."""

    @abstractmethod
    def lenient(self, line: bytes, schema: pa.Schema, state: Any) -> pa.Table:
        """Parse one line, with null for what cannot be read; raises `Unreadable`."""

    blank: bytes
    """Bytes of which a line consists that is none."""

    def has_no_fields(self, line: bytes) -> bool:  # noqa: ARG002
        """Whether a line is a row that says nothing of the schema."""
        return False

    @abstractmethod
    def is_row(self, line: bytes) -> bool:
        """Whether a line that is not blank is one row for sure."""

    def begin(self, work: TextAtWork, piece: Piece) -> Piece | None:
        """See the first piece of a connection; gives what is left of it."""
        del work
        return piece


class TextAtWork:
    """A text decoder on one source."""

    def __init__(self, decoder: Text, context: Context, blocks: bool) -> None:
        self._decoder, self.context, self._blocks = decoder, context, blocks
        self._columns: list[str] | None = None
        self.fields: pa.Schema | None = decoder.schema
        self.states: dict[int, Any] = {}
        # By connection where what its text is like depends on how it began; else for all.
        self._plain: dict[int | None, Plain | None] = {}
        self._early: list[
            tuple[int, int, int, bytes]
        ] = []  # rows of nulls that came before the schema

    @property
    def schema(self) -> pa.Schema | None:
        """See `Decoding`."""
        return None if self.fields is None else with_origins(self.fields, self._decoder.keep)

    def select(self, columns: list[str] | None) -> None:
        """Read these columns only, if the decoder can; values of others are not looked at."""
        self._columns = columns if self._decoder.leaves_out else None
        self._plain.clear()

    @property
    def _wanted(self) -> pa.Schema:
        """What is read; never nothing, since somebody may count rows."""
        assert self.fields is not None  # noqa: S101 - see callers
        if self._columns is None:
            return self.fields
        names = self._columns
        some = [field for field in self.fields if field.name in names] or [self.fields.field(0)]
        return pa.schema(some, self.fields.metadata)

    def forget(self, connection: int) -> None:
        """See `Decoding`."""
        self.states.pop(connection, None)
        self._plain.pop(connection, None)
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
            wanted = self._wanted
            table = pa.table([pa.nulls(1, field.type) for field in wanted], wanted)
            piece = Piece(connection, position, received, 0, 0)
            batches += self._emit(table, [(piece, (np.array([0]), np.array([0])))])
        return batches

    # --- pieces ------------------------------------------------------------------------------

    def _pieces(self, raw: RawBatch) -> list[Piece]:
        """Give the rows' payloads, those that lie together as one."""
        pieces: list[Piece] = []
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
                pieces.append(Piece(connection, position, received, address, length))
        return pieces

    def _groups(self, raw: RawBatch) -> list[list[Piece]]:
        """Give pieces that are parsed together: long ones alone."""
        groups: list[list[Piece]] = []
        room = 0
        for found in self._pieces(raw):
            piece: Piece | None = found
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

    def _decode_group(self, group: list[Piece]) -> list[pa.RecordBatch]:
        group = [piece for piece in group if not self.context.is_dead(piece.connection)]
        if not group:
            return []
        state = group[0].state
        if len(group) == 1 and self._blocks:
            text: Any = pa.foreign_buffer(group[0].address, group[0].length)
        else:
            text = _joined(group)
        if self.fields is None and not self._learn(group, text, state):
            return self._line_by_line(group)
        assert self.fields is not None  # noqa: S101 - _learn() has set it
        table = self._read_plain(group[0], text)
        rows = -1 if table is None else table.num_rows
        if table is None:
            try:
                table, rows = self._decoder.parse(text, self.fields, state, self._wanted)
                self._check(table)
            except UNREADABLE:
                return self._line_by_line(group)
        # A row a line, or the parser has seen ends of rows that are none (a CR, two objects).
        lines = None
        if self._decoder.keep or rows != table.num_rows:
            lines = [(piece, self._lines(piece.view())) for piece in group]
            sure = rows == table.num_rows or all(map(self._decoder.is_row, _each(lines)))
            if not sure or sum(len(starts) for _, (starts, _) in lines) != table.num_rows:
                return self._line_by_line(group)
        return self._emit(table, lines)

    def _read_plain(self, piece: Piece, text: Any) -> pa.Table | None:
        assert self.fields is not None  # noqa: S101 - see callers
        key = None if piece.state is None else piece.connection
        if key not in self._plain:
            self._plain[key] = self._decoder.plain(self.fields, piece.state, self._wanted)
        plain = self._plain[key]
        batch = None if plain is None else plain.read(text)
        return None if batch is None else pa.Table.from_batches([batch])

    def _learn(self, group: list[Piece], text: pa.Buffer, state: Any) -> bool:
        """Find the schema: from all of the text, or from the first line that makes sense."""
        candidates: list[tuple[Piece, Any]] = [(group[0], text)]
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
            except UNREADABLE:
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

    def _check(self, table: pa.Table) -> None:
        for field, column in zip(self._wanted, table.columns, strict=True):
            if not field.nullable and column.null_count:
                raise pa.ArrowInvalid(f"field {field.name!r} is missing and must not be null")

    def _emit(
        self, table: pa.Table, lines: list[tuple[Piece, tuple[Any, Any]]] | None
    ) -> list[pa.RecordBatch]:
        schema = with_origins(self._wanted, self._decoder.keep)
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

    def _line_by_line(self, group: list[Piece]) -> list[pa.RecordBatch]:
        batches: list[pa.RecordBatch] = []
        for piece in group:
            view = piece.view()
            starts, ends = self._lines(view)
            batches += self._halves(piece, view, starts, ends)
        return batches

    def _halves(
        self, piece: Piece, view: memoryview, starts: Any, ends: Any
    ) -> list[pa.RecordBatch]:
        """Parse lines; where that fails, each half of them, in order."""
        if not len(starts) or self.context.is_dead(piece.connection):
            return []
        if self.fields is not None:
            # An end of line would become part of a value whose quote is not closed.
            end = b"\n" if len(starts) > 1 else b""
            text = pa.py_buffer(bytes(view[int(starts[0]) : int(ends[-1])]) + end)
            try:
                table, _ = self._decoder.parse(text, self.fields, piece.state, self._wanted)
                self._check(table)
                lines = [(piece, (starts, ends))]
                alone = len(starts) == 1
                if table.num_rows == len(starts) and (
                    alone or all(map(self._decoder.is_row, _each(lines)))
                ):
                    return self._emit(table, lines)
                reason = f"{table.num_rows} rows in {len(starts)} lines"
            except UNREADABLE as error:
                reason = tidy(error)
        else:
            reason = _NO_SCHEMA
        if len(starts) == 1:
            return self._bad(piece, view, int(starts[0]), int(ends[0]), reason)
        half = len(starts) // 2
        first = self._halves(piece, view, starts[:half], ends[:half])
        return first + self._halves(piece, view, starts[half:], ends[half:])

    def _bad(
        self, piece: Piece, view: memoryview, start: int, end: int, reason: str
    ) -> list[pa.RecordBatch]:
        """Apply the policy to a line."""
        line, position = bytes(view[start:end]), piece.position + start
        decoder, context = self._decoder, self.context
        if self.fields is None and decoder.has_no_fields(line) and len(self._early) < _MOST_EARLY:
            self._early.append((piece.connection, position, piece.received, line))
            return []
        policy: str = decoder.on_error
        if reason.startswith(DRIFT):
            context.drifted(piece.connection, reason.removeprefix(DRIFT))
            policy = decoder.on_drift
        if policy == "null" and self.fields is not None:
            try:
                table = decoder.lenient(line, self.fields, piece.state)
                table = table.select(self._wanted.names)
                self._check(table)
            except (*UNREADABLE, Unreadable) as error:
                reason = tidy(error)
            else:
                context.stats.nulled_rows += 1
                where = (np.array([start]), np.array([end]))
                return self._emit(table, [(piece, where)])
        if policy == "reject":
            context.reject(piece.connection, position, piece.received, reason, line)
        else:
            context.fail(piece.connection, position, reason)
        return []


def _joined(pieces: list[Piece]) -> pa.Buffer:
    """Copy pieces behind each other, each with one LF at its end."""
    text = np.empty(sum(piece.length + 1 for piece in pieces), "u1")
    at = 0
    for piece in pieces:
        data = np.frombuffer(piece.view(), "u1")
        text[at : at + len(data)] = data
        at += len(data)
        if data[-1] != _LF:
            text[at] = _LF
            at += 1
    return pa.py_buffer(text[:at])


def _each(lines: list[tuple[Piece, tuple[Any, Any]]]) -> Iterator[bytes]:
    """Give the lines themselves."""
    for piece, (starts, ends) in lines:
        view = piece.view()
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            yield bytes(view[start:end])


def look(text: pa.Buffer, kind: Any) -> Any:
    """Look at lines without parsing them: a ``struct za_text_look``."""
    found = ffi.new("struct za_text_look *")
    lib.za_text_look(ffi.cast("uint8_t *", text.address), text.size, kind, found)
    return found


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


def tidy(error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text[:300]


def settled(schema: pa.Schema) -> pa.Schema:
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
