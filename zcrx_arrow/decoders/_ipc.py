# SPDX-License-Identifier: Apache-2.0
"""
Arrow IPC streams: what peers write with ``pa.ipc.new_stream``.

The core cuts the stream into messages and looks at each before anybody trusts it: metadata that can
be read, buffers inside of the body, lengths that are possible. Then pyarrow's own stream reader
gets them, one reader a connection, over buffers that point to where the bytes were received.

Source: Arrow columnar format, "IPC Streaming Format" and "Encapsulated message format".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from zcrx_arrow._native import ffi, lib
from zcrx_arrow.config import Size, one_of, parse_size
from zcrx_arrow.decoders._base import Context, Decoder, Decoding, OnDrift, check_keep, with_origins
from zcrx_arrow.errors import ConfigError
from zcrx_arrow.framing import ArrowIpc as ArrowIpcFraming
from zcrx_arrow.framing import Framing, Preamble

if TYPE_CHECKING:
    from zcrx_arrow._raw import RawBatch

__all__ = ["ArrowIpc"]

_ALIGNMENT: Final = 8
_ON_DRIFT: Final[tuple[OnDrift, ...]] = ("fail", "widen", "reject")
_BROKEN: Final = (pa.ArrowException, OSError, ValueError, KeyError, StopIteration)


class ArrowIpc(Decoder):
    """
    Every peer writes an Arrow IPC stream; its batches come out.

    Parameters
    ----------
    schema : pyarrow.Schema, optional
        Of the source. Without it, the first connection's. Metadata of schemas is not compared.
    on_drift : {"fail", "widen", "reject"}
        For a connection whose schema is another: it is closed; or its columns are matched by name
        and converted where nothing is lost (narrower integers and floats, dictionaries to their
        values, missing ones to null), else it is closed; or its rows are counted as rejected and
        left out, with one row in ``source.rejected`` to say so.
    trusted : bool
        Whether to hand out batches without looking through all of their values. Only for peers
        that are as trusted as this program: offsets, indices or text that are wrong make consumers
        crash or read foreign memory.
    max_expanded : int or str
        What compressed buffers of a message may have after decompression, in all; and what a
        connection's dictionaries may have, in all.
    keep : sequence of str or True
        Columns to add: ``connection``, ``position`` (of the message), ``received_at``.

    Notes
    -----
    Dictionaries, their deltas and replacements, compression, nested types and several streams one
    after the other on a connection are taken as pyarrow takes them. A body that lies together is
    read in place, and holds the receive memory as an undecoded batch does; one that is scattered is
    copied together once. ``source.decode_stats`` counts both. With ``copy`` nearly all lie
    together, since chunks are offered in the order of their addresses for this format.
    """

    def __init__(
        self,
        schema: pa.Schema | None = None,
        *,
        on_drift: OnDrift = "fail",
        trusted: bool = False,
        max_expanded: Size = "1 GiB",
        keep: Any = (),
    ) -> None:
        if schema is not None and not isinstance(schema, pa.Schema):
            raise ConfigError(f"schema must be a pyarrow.Schema, not {type(schema).__name__}")
        one_of(on_drift, "on_drift", _ON_DRIFT)
        self.schema, self.on_drift, self.trusted = schema, on_drift, trusted
        self.max_expanded = parse_size(max_expanded, "max_expanded")
        self.keep = check_keep(keep)
        if schema is not None:
            with_origins(schema, self.keep)

    @property
    def framing(self) -> Framing:
        """IPC messages."""
        return ArrowIpcFraming()

    def blocks(self, framing: Framing) -> bool:
        """Whether the framing gives IPC messages; never blocks."""
        main = framing.then if isinstance(framing, Preamble) else framing
        if not isinstance(main, ArrowIpcFraming):
            raise ConfigError("decoders.ArrowIpc needs framing=ArrowIpc()")
        return False

    def start(self, context: Context, framing: Framing) -> Decoding:
        """Begin with a source."""
        del framing
        return _IpcAtWork(self, context)


class _Feed:
    """The messages of a connection as a file that pyarrow reads without copying."""

    def __init__(self) -> None:
        self._buffers: list[pa.Buffer] = []
        self._at = 0
        self.closed = False

    def put(self, buffer: pa.Buffer) -> None:
        self._buffers.append(buffer)

    def read_buffer(self, size: int) -> pa.Buffer:
        """Give the next bytes; a message's parts never cross buffers."""
        if not self._buffers:
            return pa.py_buffer(b"")
        buffer = self._buffers[0]
        part = buffer.slice(self._at, min(size, buffer.size - self._at))
        self._at += part.size
        if self._at == buffer.size:
            self._buffers.pop(0)
            self._at = 0
        return part

    def read(self, size: int = -1) -> bytes:
        return bytes(self.read_buffer(size if size >= 0 else 1 << 62))

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


class _Stream:
    """One connection's stream."""

    def __init__(self) -> None:
        self.feed = _Feed()
        self.reader: Any = None
        self.schema: Any = None
        self.convert: list[Any] | None = None  # see _IpcAtWork._conversion
        self.left_out = False
        self._dictionaries: dict[int, int] = {}  # bytes by id
        self.as_is = False  # its batches are what the source gives
        self.flat = False  # no dictionaries: a message needs nothing of those before it

    def begin(self, schema: pa.Buffer, options: Any) -> None:
        """Take the message that says what will come."""
        self.feed.put(schema)
        self.reader = pa.ipc.open_stream(pa.PythonFile(self.feed, "r"), options=options)
        self.schema = self.reader.schema

    def learn(self, info: Any, size: int, limit: int) -> None:
        """Account for a dictionary: a peer's may not grow without bound."""
        size = max(size, int(info.expanded_bytes))
        before = self._dictionaries.get(info.dictionary, 0) if info.delta else 0
        self._dictionaries[info.dictionary] = before + size
        if sum(self._dictionaries.values()) > limit:
            raise ValueError(f"dictionaries have more than max_expanded={limit} bytes")


class _IpcAtWork:
    """`ArrowIpc` on one source."""

    def __init__(self, decoder: ArrowIpc, context: Context) -> None:
        self._decoder, self._context = decoder, context
        self._fields: pa.Schema | None = decoder.schema
        self._width = len(decoder.schema or ())
        self._streams: dict[int, _Stream] = {}
        self._options = pa.ipc.IpcReadOptions(ensure_alignment=pa.ipc.Alignment.DataTypeSpecific)

    @property
    def schema(self) -> pa.Schema | None:
        """See `Decoding`."""
        return None if self._fields is None else with_origins(self._fields, self._decoder.keep)

    def select(self, columns: list[str] | None) -> None:
        """All columns are made: what is wrong in any of them shall be seen."""

    def forget(self, connection: int) -> None:
        """See `Decoding`."""
        self._streams.pop(connection, None)

    def decode(self, raw: RawBatch) -> list[pa.RecordBatch]:
        """See `Decoding`."""
        count = len(raw)
        messages = ffi.new("struct za_ipc_message[]", count)
        lib.za_ipc_look(raw.array, messages)
        holder = raw.to_arrow()
        batches = []
        for at in range(count):
            message = messages[at]
            connection = message.connection
            if self._context.is_dead(connection):
                continue
            address = int(ffi.cast("uintptr_t", message.data))
            body = pa.foreign_buffer(address, message.length, holder)
            try:
                batch = self._message(message, body)
            except _BROKEN as error:
                text = f"{type(error).__name__}: {error}" if _bare(error) else str(error)
                self._context.fail(connection, message.position, text.splitlines()[0][:300])
                self._streams.pop(connection, None)
                continue
            if batch is not None and batch.num_rows:
                batches.append(batch)
        return batches

    def _message(self, message: Any, data: pa.Buffer) -> pa.RecordBatch | None:
        info = message.info
        self._check(message)
        stream = self._streams.get(message.connection)
        if stream is None:
            stream = self._streams[message.connection] = _Stream()
        kind, offset = info.kind, info.body_offset
        aligned = not (data.address + offset) % _ALIGNMENT
        if stream.flat and aligned and kind == lib.ZA_IPC_RECORD_BATCH:
            self._count(info.body_bytes, message.in_area and not info.compressed)
            batch = pa.ipc.read_record_batch(data, stream.schema)
            return self._finished(stream, batch, message)
        if kind == lib.ZA_IPC_END:
            self._streams[message.connection] = _Stream()
            return None
        if stream.reader is None:
            if kind != lib.ZA_IPC_SCHEMA:
                raise ValueError("the stream does not begin with a schema")
            stream.begin(_copy(data), self._options)
            self._meet(message, stream)
            return None
        if kind == lib.ZA_IPC_SCHEMA:
            raise ValueError("a second schema in one stream")
        if stream.left_out:
            self._context.stats.rejected_rows += info.rows if kind == lib.ZA_IPC_RECORD_BATCH else 0
            return None
        if kind == lib.ZA_IPC_DICTIONARY:
            stream.learn(info, data.size, self._decoder.max_expanded)
            # It is kept: it must not pin the memory of its neighbours.
            stream.feed.put(_copy(data))
            return None
        # pyarrow keeps the last metadata that it has read.
        stream.feed.put(_copy(data.slice(0, offset)))
        if info.body_bytes:
            stream.feed.put(data.slice(offset))
        # pyarrow copies what is not aligned.
        self._count(info.body_bytes, message.in_area and aligned and not info.compressed)
        return self._finished(stream, stream.reader.read_next_batch(), message)

    def _check(self, message: Any) -> None:
        """See what the core says of a message, and limits."""
        info, limit = message.info, self._decoder.max_expanded
        if message.code:
            error = ffi.new("struct za_error *")
            lib.za_ipc_inspect(message.data, message.length, ffi.addressof(info), error)
            raise ValueError(ffi.string(error.detail).decode())
        if info.compressed and info.expanded_bytes > limit:
            raise ValueError(
                f"compressed buffers would have {info.expanded_bytes} bytes, max_expanded={limit}"
            )
        # Rows can take no bytes, but what is added to them does.
        added = info.rows * self._added
        if added > limit and info.kind == lib.ZA_IPC_RECORD_BATCH:
            raise ValueError(f"{info.rows} rows would take {added} bytes, max_expanded={limit}")
        if info.kind > lib.ZA_IPC_RECORD_BATCH:
            raise ValueError("tensors are not taken")

    @property
    def _added(self) -> int:
        """What is at most added to a row, in bytes."""
        return 8 * (len(self._decoder.keep) + self._width)

    def _count(self, body: int, in_area: bool) -> None:
        stats = self._context.stats
        if in_area:
            stats.in_place_bytes += body
        else:
            stats.gathered_bytes += body

    def _finished(self, stream: _Stream, batch: pa.RecordBatch, message: Any) -> pa.RecordBatch:
        if not self._decoder.trusted:
            batch.validate(full=True)
        if stream.as_is:
            return batch
        fields = self._fields
        assert fields is not None  # noqa: S101 - _meet() has set it
        arrays = batch.columns
        if stream.convert is not None:
            arrays = [
                _made(batch, at, field) for at, field in zip(stream.convert, fields, strict=True)
            ]
        origins = {
            "connection": message.connection,
            "position": message.position,
            "received_at": message.received,
        }
        for name in self._decoder.keep:
            arrays.append(_constant(origins[name], batch.num_rows, name))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    # --- schemas -----------------------------------------------------------------------------

    def _meet(self, message: Any, stream: _Stream) -> None:
        """Compare a connection's schema with the source's."""
        theirs = stream.schema
        for field in theirs:
            _check_names(field)
        if self._fields is None:
            with_origins(theirs, self._decoder.keep)
            self._fields = theirs
            self._width = len(theirs)
        if theirs.equals(self._fields, check_metadata=False):
            stream.as_is = not self._decoder.keep and theirs.equals(
                self._fields, check_metadata=True
            )
            stream.flat = not any(_has_dictionary(field.type) for field in theirs)
            return
        what = _difference(self._fields, theirs)
        self._context.drifted(message.connection, what)
        if self._decoder.on_drift == "reject":
            stream.left_out = True
            self._context.rejected._add(  # noqa: SLF001
                (
                    message.connection,
                    message.position,
                    message.received,
                    f"schema drift: {what}",
                    b"",
                )
            )
            return
        if self._decoder.on_drift == "widen":
            stream.convert = _conversion(self._fields, theirs)
        if stream.convert is None:
            raise ValueError(f"schema drift: {what}")
        stream.flat = not any(_has_dictionary(field.type) for field in theirs)


def _check_names(field: pa.Field) -> None:
    """Raise where a name is not UTF-8: consumers could not read it either."""
    str(field.name)
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    for at in range(kind.num_fields):
        _check_names(kind.field(at))


def _has_dictionary(kind: pa.DataType) -> bool:
    return pa.types.is_dictionary(kind) or any(
        _has_dictionary(kind.field(at).type) for at in range(kind.num_fields)
    )


def _bare(error: BaseException) -> bool:
    """Whether an error's text says little without its name."""
    return isinstance(error, KeyError | StopIteration) or not str(error)


def _copy(buffer: pa.Buffer) -> pa.Buffer:
    return pa.py_buffer(buffer.to_pybytes())


def _constant(value: int, rows: int, name: str) -> pa.Array:
    if name == "connection":
        return pa.array(np.full(rows, value, "u4"))
    if name == "position":
        return pa.array(np.full(rows, value, "u8"))
    return pa.array(np.full(rows, value, "i8")).cast(pa.timestamp("ns", "UTC"))


def _difference(ours: pa.Schema, theirs: pa.Schema) -> str:
    have = {field.name: field for field in theirs}
    parts = [
        f"{field.name} is {have[field.name].type} and not {field.type}"
        for field in ours
        if field.name in have and have[field.name].type != field.type
    ]
    parts += [f"{field.name} is missing" for field in ours if field.name not in have]
    parts += [f"{name} is not expected" for name in have if name not in ours.names]
    return "; ".join(parts[:4]) or "the fields differ in order or nullability"


def _conversion(ours: pa.Schema, theirs: pa.Schema) -> list[Any] | None:
    """Say which of their columns becomes which of ours, -1: none; None: something would be lost."""
    names = theirs.names
    if len(set(names)) != len(names) or not set(names) <= set(ours.names):
        return None
    places = []
    for field in ours:
        at = names.index(field.name) if field.name in names else -1
        if at < 0 and not field.nullable:
            return None
        if at >= 0:
            other = theirs.field(at)
            if (other.nullable and not field.nullable) or not _lossless(other.type, field.type):
                return None
        places.append(at)
    return places


_INTEGER_BITS: Final = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
_UNSIGNED_BITS: Final = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}
_FLOAT_DIGITS: Final = {"halffloat": 11, "float": 24, "double": 53}
_SAME: Final = (
    {"string", "large_string", "string_view"},
    {"binary", "large_binary", "binary_view"},
)


def _lossless(theirs: pa.DataType, ours: pa.DataType) -> bool:
    """Whether every value of one type is one of the other."""
    if pa.types.is_dictionary(theirs) and theirs != ours:
        theirs = theirs.value_type
    if theirs == ours or pa.types.is_null(theirs):
        return True
    have, want = str(theirs), str(ours)
    if any(have in family for family in _SAME):
        return any(have in family and want in family for family in _SAME)
    # The digits of a binary number that each has room for; a sign takes one.
    if have in _INTEGER_BITS:
        return _INTEGER_BITS[have] - 1 <= max(
            _INTEGER_BITS.get(want, 0) - 1, _FLOAT_DIGITS.get(want, -1)
        )
    if have in _UNSIGNED_BITS:
        return _UNSIGNED_BITS[have] <= max(
            _UNSIGNED_BITS.get(want, 0), _INTEGER_BITS.get(want, 1) - 1, _FLOAT_DIGITS.get(want, 0)
        )
    return have in _FLOAT_DIGITS and _FLOAT_DIGITS[have] <= _FLOAT_DIGITS.get(want, 0)


def _made(batch: pa.RecordBatch, at: int, field: pa.Field) -> pa.Array:
    if at < 0:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(at)
    if pa.types.is_dictionary(column.type) and column.type != field.type:
        column = column.dictionary_decode()
    return column if column.type == field.type else column.cast(field.type)
