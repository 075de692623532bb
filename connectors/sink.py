# SPDX-License-Identifier: Apache-2.0
"""
Where batches can be written to: an Arrow IPC file, a Parquet file, NDJSON text, or nowhere.

A file appears under its name only when it is whole: it is written beside it and renamed by
``close()``; ``abort()`` removes what was written.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from zcrx_arrow.connectors.dictionaries import DictionaryUnifier
from zcrx_arrow.connectors.json_rows import json_rows
from zcrx_arrow.errors import ConfigError

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

    Dictionaries of an IPC file grow as batches bring new values, since the format has one for
    the whole file.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists.
    schema : pyarrow.Schema or None
        Of every batch; None: that of the first, and without any there will be no file.
    kind : {"ipc", "parquet"}
        Arrow IPC file format, or Parquet with zstd.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """

    def __init__(self, path: str | Path, schema: pa.Schema | None, kind: str) -> None:
        self._path = Path(path)
        self._kind = kind
        self._partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        self._file = self._partial.open("wb")
        self._writer: Any = None
        self._unifier: DictionaryUnifier | None = None
        try:
            if schema is not None:
                self._begin(schema)
        except BaseException:
            self._file.close()
            self._partial.unlink()
            raise

    def _begin(self, schema: pa.Schema) -> None:
        if self._kind == "ipc":
            deltas = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
            self._writer = pa.ipc.new_file(self._file, schema, options=deltas)
            self._unifier = DictionaryUnifier()
        else:
            self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch."""
        if self._writer is None:
            self._begin(batch.schema)
        if self._unifier is not None:
            batch = self._unifier.unify(batch)
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._writer is None:
            self.abort()
            return
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

    Keys are the columns; what becomes of types that JSON has not is said in
    `zcrx_arrow.connectors.json_rows`.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a line for each row."""
        self._stream.writelines(f"{row}\n" for row in json_rows(batch))

    def close(self) -> None:
        """Flush."""
        self._stream.flush()

    def abort(self) -> None:
        """Flush: lines that were written cannot be taken back."""
        with suppress(OSError):
            self._stream.flush()


def open_sink(target: str, schema: pa.Schema | None, stdout: IO[str]) -> Sink:
    """
    Open the sink that a text names: ``ipc:PATH``, ``parquet:PATH``, ``ndjson`` or ``null``.

    Parameters
    ----------
    target : str
        What is named.
    schema : pyarrow.Schema or None
        Of every batch, see `FileSink`.
    stdout : file
        Where NDJSON goes.

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
