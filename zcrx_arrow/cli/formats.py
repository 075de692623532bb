# SPDX-License-Identifier: Apache-2.0
"""``--format``: rows to the bytes of a wire format."""

from abc import ABC, abstractmethod
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv

from zcrx_arrow.cli.decoding import character
from zcrx_arrow.cli.enframing import Enframe, join, sending_framing
from zcrx_arrow.cli.layouts import read_layout
from zcrx_arrow.cli.packing import Packer
from zcrx_arrow.cli.spec import Spec
from zcrx_arrow.connectors.json_rows import json_rows
from zcrx_arrow.errors import ConfigError

__all__ = ["CHOICES", "HELP", "Format", "read_format"]

CHOICES: Final = "raw, ndjson, csv, records:LAYOUT, arrow-ipc, payload, or a framing"

HELP: Final = """
Formats, --format:
  raw                       the file's bytes as they are
  ndjson                    a JSON object a row; in lines, or as --framing says
  csv                       with a header, and then
    ,delimiter=C              tab, semicolon, pipe, space, or a character
    ,no-header
  records:LAYOUT            columns packed into binary records, see below; in
                            their own size, or as --framing says
  arrow-ipc                 an Arrow IPC stream, see --compression
  payload                   the values of one column, see --column; in lines, or
                            as --framing says
  lines, length:u32be, ...  the same in that framing, see below
"""

_FRAMINGS: Final = ("lines", "delimited", "length", "varint", "fixed", "syslog")
_COMPRESSION: Final = ("none", "lz4", "zstd")


class Format(ABC):
    """Makes bytes of rows; for one stream."""

    def begin(self, schema: pa.Schema) -> bytes:  # noqa: ARG002
        """Give what comes first; raises `ConfigError` if the columns cannot be sent."""
        return b""

    @abstractmethod
    def rows(self, batch: pa.RecordBatch) -> bytes:
        """Give rows; raises `ValueError` if one cannot be sent."""

    def end(self) -> bytes:
        """Give what comes last."""
        return b""


def read_format(
    text: str, framing: str | None, column: str | None, compression: str | None
) -> Format | None:
    """
    Read ``--format`` and what goes with it.

    Returns
    -------
    Format or None
        None: bytes as they are.

    Raises
    ------
    ConfigError
        Naming the option, and the choices.
    """
    kind = text.partition(":")[0].partition(",")[0]
    by_column = kind == "payload" or kind in _FRAMINGS
    if framing is not None and kind not in ("ndjson", "records", "payload"):
        raise ConfigError(f"--framing is of no use with --format {kind}")
    if column is not None and not by_column:
        raise ConfigError(f"--column is of no use with --format {kind}")
    if compression is not None and kind != "arrow-ipc":
        raise ConfigError(f"--compression is of no use with --format {kind}")
    frame = sending_framing("--framing", framing) if framing is not None else None
    if kind in _FRAMINGS:
        return _Column(column, sending_framing("--format", text))
    if kind == "records":
        return _Records(Packer(read_layout("--format", text.partition(":")[2])), frame)
    if kind == "csv":
        return _csv(Spec("--format", text))
    if kind not in ("raw", "ndjson", "payload", "arrow-ipc"):
        raise ConfigError(f"--format={text!r} must be one of {CHOICES}")
    Spec("--format", text).done()
    lines = sending_framing("--framing", "lines")
    made: dict[str, Format] = {
        "ndjson": _Ndjson(frame),
        "payload": _Column(column, frame or lines),
        "arrow-ipc": _ArrowIpc(compression or "none"),
    }
    return made.get(kind)


class _Ndjson(Format):
    def __init__(self, frame: Enframe | None) -> None:
        self._frame, self._sent = frame, 0

    def rows(self, batch: pa.RecordBatch) -> bytes:
        if self._frame is None:
            return "".join(f"{row}\n" for row in json_rows(batch)).encode()
        made = join((row.encode() for row in json_rows(batch)), self._frame, self._sent)
        self._sent += batch.num_rows
        return made


class _Column(Format):
    """The values of one column, each a message."""

    def __init__(self, column: str | None, frame: Enframe) -> None:
        self._column, self._frame, self._sent = column, frame, 0

    def begin(self, schema: pa.Schema) -> bytes:
        """Choose the column."""
        found = [field.name for field in schema if _is_message(field.type)]
        if self._column is None:
            if "payload" in found:
                self._column = "payload"
            elif len(found) == 1:
                self._column = found[0]
            else:
                raise ConfigError(f"--column: say which of {', '.join(found) or 'none'} to send")
        elif self._column not in found:
            raise ConfigError(
                f"--column={self._column!r} must be one of the columns of text or bytes: "
                f"{', '.join(found) or 'there is none'}"
            )
        return b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """Frame each value."""
        column = batch.column(self._column)
        if column.null_count:
            at = column.is_null().index(pa.scalar(value=True)).as_py()
            raise ValueError(f"row {self._sent + at} cannot be sent: {self._column!r} is null")
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        made = join(column.cast(pa.binary()).to_pylist(), self._frame, self._sent)
        self._sent += batch.num_rows
        return made


class _Records(Format):
    def __init__(self, packer: Packer, frame: Enframe | None) -> None:
        self._packer, self._frame, self._sent = packer, frame, 0
        if frame is None and packer.size is None:
            raise ConfigError(
                "--format records: a framing is needed, since records differ in size",
                remedy="For example --framing length:u16be.",
            )

    def rows(self, batch: pa.RecordBatch) -> bytes:
        if self._frame is None:
            return self._packer.whole(batch)
        made = join(self._packer.messages(batch), self._frame, self._sent)
        self._sent += batch.num_rows
        return made


def _csv(spec: Spec) -> Format:
    given = spec.get("delimiter")
    header = not spec.flag("no-header")
    spec.done()
    delimiter = character(given) if given is not None else ","
    if len(delimiter) != 1 or not delimiter.isascii():
        raise spec.error(f"delimiter={delimiter} must be one ASCII character")
    return _Csv(delimiter, header=header)


class _Csv(Format):
    def __init__(self, delimiter: str, *, header: bool) -> None:
        self._delimiter, self._header = delimiter, header

    def begin(self, schema: pa.Schema) -> bytes:
        empty = pa.RecordBatch.from_pylist([], schema)
        return self._write(empty, header=True) if self._header else b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        return self._write(batch, header=False)

    def _write(self, batch: pa.RecordBatch, *, header: bool) -> bytes:
        columns = [_for_csv(column) for column in batch.columns]
        out = pa.BufferOutputStream()
        pacsv.write_csv(
            pa.RecordBatch.from_arrays(columns, batch.schema.names),
            out,
            pacsv.WriteOptions(include_header=header, delimiter=self._delimiter),
        )
        return bytes(out.getvalue())


class _ArrowIpc(Format):
    def __init__(self, compression: str) -> None:
        if compression not in _COMPRESSION:
            raise ConfigError(
                f"--compression={compression!r} must be one of {', '.join(_COMPRESSION)}"
            )
        self._options = pa.ipc.IpcWriteOptions(
            compression=None if compression == "none" else compression
        )
        self._out = _Out()
        self._writer: Any = None

    def begin(self, schema: pa.Schema) -> bytes:
        self._writer = pa.ipc.new_stream(
            pa.PythonFile(self._out, "w"), schema, options=self._options
        )
        return self._out.take()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        self._writer.write_batch(batch)
        return self._out.take()

    def end(self) -> bytes:
        self._writer.close()
        return self._out.take()


class _Out:
    """A file that gives back what was written to it."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        made = b"".join(self._parts)
        self._parts.clear()
        return made

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def _is_message(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_message(kind.value_type)
    return str(kind).removeprefix("large_").removesuffix("_view") in (
        "string",
        "binary",
    ) or pa.types.is_fixed_size_binary(kind)


def _for_csv(column: pa.Array) -> pa.Array:
    """Turn types into those that Arrow writes as CSV."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _for_csv(column.dictionary_decode())
    if pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return column.cast(pa.binary())
    return column
