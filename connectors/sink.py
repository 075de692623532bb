# SPDX-License-Identifier: Apache-2.0
"""
Where batches can be written to: an Arrow IPC file, a Parquet file, NDJSON text, or nowhere.

A file appears under its name only when it is whole: it is written beside it and renamed by
``close()``; ``abort()`` removes what was written.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from zcrx_arrow.connectors.dictionaries import DictionaryUnifier
from zcrx_arrow.connectors.json_rows import json_rows
from zcrx_arrow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FileSink", "NdjsonSink", "NullSink", "Sink", "open_sink", "sync_folder"]


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
        self._schema = schema
        self._partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        self._file = self._partial.open("wb")
        self._size = 0
        self._writer: Any = None
        self._unifier: DictionaryUnifier | None = None
        try:
            if schema is not None:
                self._begin(schema)
        except BaseException:
            self.abort()
            raise

    def _begin(self, schema: pa.Schema) -> None:
        self._schema = schema
        if self._kind == "ipc":
            deltas = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
            self._writer = pa.ipc.new_file(self._file, schema, options=deltas)
            self._unifier = DictionaryUnifier()
        else:
            self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")

    @property
    def size(self) -> int:
        """Bytes so far; what a writer keeps back is not among them."""
        return self._size if self._file.closed else self._file.tell()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch."""
        if self._writer is None:
            self._begin(batch.schema)
        if self._unifier is not None:
            batch = self._unifier.unify(batch)
        self._writer.write_batch(batch)

    def write_together(self, batches: list[pa.RecordBatch]) -> None:
        """Append batches as one: a row group of Parquet, a batch of IPC where its types can."""
        if self._kind == "parquet":
            if self._writer is None:
                self._begin(batches[0].schema)
            table = pa.Table.from_batches(batches)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
            return
        try:
            joined = [pa.concat_batches(batches)] if len(batches) > 1 else batches
        except pa.ArrowException:  # not every type can be joined
            joined = batches
        for batch in joined:
            self.write(batch)

    def close(self, metadata: Mapping[str, str] | None = None) -> None:
        """
        Finish the file and give it its name; both are on the disk when this returns.

        Parameters
        ----------
        metadata : mapping of str to str, optional
            Written at the end, when it is known: to the key-value metadata of Parquet; IPC gets an
            empty batch more, that has it as its custom metadata.
        """
        if self._writer is None:
            self.abort()
            return
        if metadata:
            self._add_metadata(metadata)
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._size = self._file.tell()
        self._file.close()
        self._partial.replace(self._path)
        sync_folder(self._path.parent)

    def _add_metadata(self, metadata: Mapping[str, str]) -> None:
        if self._kind == "parquet":
            self._writer.add_key_value_metadata(dict(metadata))
            return
        columns = [pa.nulls(0, each.type) for each in self._schema or ()]
        empty = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        if self._unifier is not None:
            empty = self._unifier.unify(empty)
        self._writer.write_batch(empty, custom_metadata=dict(metadata))

    def abort(self) -> None:
        """Remove the unfinished file."""
        with suppress(Exception):  # the writer may be what failed
            self._writer.close()
        with suppress(OSError):  # a full disk refuses what is still buffered, each time
            self._file.close()
        self._partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, as far as we may and its filesystem has that."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


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
