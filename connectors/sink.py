# SPDX-License-Identifier: Apache-2.0
"""
Where batches can be written to: an Arrow IPC file, a Parquet file, NDJSON text, or nowhere.

A file appears under its name only when it is whole: it is written beside it and renamed by
``close()``; ``abort()`` removes what was written.
"""

from __future__ import annotations

import base64
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from zcrx_arrow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FileSink", "NdjsonSink", "NullSink", "Sink", "open_sink"]


class Sink(Protocol):
    """Takes batches of one schema; not thread-safe."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch; it may be released afterwards."""

    def close(self) -> None:
        """Make what was written permanent."""

    def abort(self) -> None:
        """Remove what was written, as far as it can be."""


class NullSink:
    """Drops every batch."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Drop the batch."""

    def close(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


class FileSink:
    """
    A file that appears when it is whole.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists.
    schema : pyarrow.Schema
        Of every batch.
    kind : {"ipc", "parquet"}
        Arrow IPC file format, or Parquet with zstd.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """

    def __init__(self, path: str | Path, schema: pa.Schema, kind: str) -> None:
        self._path = Path(path)
        self._partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        self._file = self._partial.open("wb")
        try:
            if kind == "ipc":
                self._writer: Any = pa.ipc.new_file(self._file, schema)
            else:
                self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")
        except BaseException:
            self._file.close()
            self._partial.unlink()
            raise

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch."""
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)

    def abort(self) -> None:
        """Remove the unfinished file."""
        with suppress(Exception):  # the writer may be what failed
            self._writer.close()
        self._file.close()
        self._partial.unlink(missing_ok=True)


class NdjsonSink:
    """
    One JSON object a row.

    Keys are the columns; a payload that is not UTF-8 comes as ``payload_base64`` instead of
    ``payload``; ``received_at`` is ISO 8601 with nanoseconds.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a line for each row."""
        self._stream.writelines(_ndjson_lines(batch))

    def close(self) -> None:
        """Flush."""
        self._stream.flush()

    def abort(self) -> None:
        """Flush: lines that were written cannot be taken back."""
        with suppress(OSError):
            self._stream.flush()


def _ndjson_lines(batch: pa.RecordBatch) -> Iterator[str]:
    columns = {name: batch.column(name) for name in batch.schema.names}
    received = columns["received_at"].cast(pa.string()).to_pylist()
    plain = {name: column.to_pylist() for name, column in columns.items() if name != "received_at"}
    for i in range(batch.num_rows):
        row: dict[str, object] = {}
        for name, values in plain.items():
            value = values[i]
            if isinstance(value, bytes):
                try:
                    row[name] = value.decode()
                except UnicodeDecodeError:
                    row[f"{name}_base64"] = base64.b64encode(value).decode()
            elif value is not None:
                row[name] = value
        row["received_at"] = received[i]
        yield json.dumps(row, ensure_ascii=False) + "\n"


def open_sink(target: str, schema: pa.Schema, stdout: IO[str]) -> Sink:
    """
    Open the sink that a text names: ``ipc:PATH``, ``parquet:PATH``, ``ndjson`` or ``null``.

    Raises
    ------
    ConfigError
        If it names none.
    OSError
        If a file cannot be opened.
    """
    kind, colon, path = target.partition(":")
    if kind in ("ipc", "parquet") and path:
        return FileSink(path, schema, kind)
    if kind == "ndjson" and not colon:
        return NdjsonSink(stdout)
    if kind == "null" and not colon:
        return NullSink()
    raise ConfigError(f"--to={target!r} must be live, ipc:PATH, parquet:PATH, ndjson or null")
