# SPDX-License-Identifier: Apache-2.0
"""Files of rows, read batch by batch: what `send` takes rows from."""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from zcrx_arrow.errors import ConfigError

__all__ = ["CHOICES", "kind_of", "read_rows"]

CHOICES: Final = "parquet, ipc, ndjson, csv, tsv or lines"

_KINDS: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "ipc",
    ".arrows": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".csv": "csv",
    ".tsv": "tsv",
}
_BUFFER: Final = 1 << 20


def kind_of(path: str, wanted: str | None) -> str:
    """
    Tell what a file is: as it was said, or by its extension; else lines.

    Raises
    ------
    ConfigError
        If what was said is not known, or cannot come by standard input.
    """
    kind = wanted or _KINDS.get(Path(path).suffix.lower(), "lines")
    if kind not in (*_KINDS.values(), "lines"):
        raise ConfigError(f"--input-format={wanted!r} must be one of {CHOICES}")
    if path == "-" and kind == "parquet":
        raise ConfigError("--input-format parquet needs a file: standard input cannot be sought")
    return kind


def read_rows(
    path: str, kind: str, schema: pa.Schema | None, rows: int
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """
    Open a file of rows; ``-`` is standard input.

    Parameters
    ----------
    path, kind : str
        See `kind_of`.
    schema : pyarrow.Schema, optional
        Types of NDJSON and CSV; without it, the first block tells.
    rows : int
        Of a batch, at most.

    Returns
    -------
    schema, batches
        Only a part of the file is in memory at a time. Errors of the file's content come while
        iterating, as `pyarrow.ArrowInvalid`.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    if kind == "parquet":
        file = pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
        return file.schema_arrow, file.iter_batches(batch_size=rows)
    if kind == "lines":
        return pa.schema([("payload", pa.binary())]), _lines(path, rows)
    if kind == "ipc":
        found, batches = _ipc(path)
    else:
        reader = _text(path, kind, schema)
        found, batches = reader.schema, iter(reader)
    return found, _sliced(batches, rows)


def _ipc(path: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if path == "-":
        stream = pa.ipc.open_stream(sys.stdin.buffer)
        return stream.schema, iter(stream)
    source = pa.OSFile(path)  # a memory map would count as memory that is used
    if source.read(6) != b"ARROW1":
        source.seek(0)
        stream = pa.ipc.open_stream(source)
        return stream.schema, iter(stream)
    file = pa.ipc.open_file(source)
    return file.schema, (file.get_batch(at) for at in range(file.num_record_batches))


def _text(path: str, kind: str, schema: pa.Schema | None) -> Any:
    source: Any = sys.stdin.buffer if path == "-" else path
    if kind == "ndjson":
        return pajson.open_json(
            source,
            pajson.ReadOptions(block_size=_BUFFER),
            pajson.ParseOptions(explicit_schema=schema),
        )
    return pacsv.open_csv(
        source,
        pacsv.ReadOptions(block_size=_BUFFER),
        pacsv.ParseOptions(delimiter="\t" if kind == "tsv" else ","),
        pacsv.ConvertOptions(column_types=schema, strings_can_be_null=True),
    )


def _lines(path: str, rows: int) -> Iterator[pa.RecordBatch]:
    with sys.stdin.buffer if path == "-" else Path(path).open("rb") as file:
        yield from _batches_of_lines(file, rows)


def _batches_of_lines(file: IO[bytes], rows: int) -> Iterator[pa.RecordBatch]:
    while lines := [line.removesuffix(b"\n") for line in islice(file, rows)]:
        yield pa.record_batch({"payload": pa.array(lines, pa.binary())})


def _sliced(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)
