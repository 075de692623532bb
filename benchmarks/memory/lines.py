# SPDX-License-Identifier: Apache-2.0
"""Lines of 100 bytes to one column."""

from __future__ import annotations

from benchmarks.memory import data
from benchmarks.memory.timing import measure

BLOCK_BYTES = 10_000 * data.LINE_BYTES  # about 1 MB: a batch, and what a cache holds


def frame(total: int) -> None:
    """Cut them with this project, end to end."""
    import zcrx_arrow as zc  # noqa: PLC0415 (the peers do without)

    text, rows = data.lines(total)
    framing = zc.framing.Delimited(b"\n")
    measure(len(text), rows, lambda: sum(batch.num_rows for batch in zc.frame(text, framing)))


def pyarrow_csv(total: int) -> None:
    """Read them as a CSV file of one string column."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv  # noqa: PLC0415

    text, rows = data.lines(total)
    read = csv.ReadOptions(use_threads=False, column_names=["line"])
    parse = csv.ParseOptions(delimiter="\x01", quote_char=False)
    convert = csv.ConvertOptions(column_types={"line": pa.string()})

    def work() -> int:
        return csv.read_csv(pa.BufferReader(text), read, parse, convert).num_rows

    measure(len(text), rows, work)


def polars_lines(total: int) -> None:
    """Read them with the function that is for it."""
    import polars as pl  # noqa: PLC0415

    text, rows = data.lines(total)
    measure(len(text), rows, lambda: pl.read_lines(text).height)


def polars_csv(total: int) -> None:
    """Read them as a CSV file of one string column."""
    import polars as pl  # noqa: PLC0415

    text, rows = data.lines(total)
    schema = {"line": pl.String}

    def work() -> int:
        return pl.read_csv(
            text, has_header=False, schema=schema, separator="\x01", quote_char=None
        ).height

    measure(len(text), rows, work)


def split(total: int) -> None:
    """Split them to a list of bytes, a block at a time, and stop there: no column."""
    text, rows = data.lines(total)
    view = memoryview(text)

    def work() -> int:
        return sum(
            len(bytes(view[at : at + BLOCK_BYTES]).split(b"\n")) - 1
            for at in range(0, len(text), BLOCK_BYTES)
        )

    measure(len(text), rows, work)


def split_array(total: int) -> None:
    """The same, and a column of it."""
    import pyarrow as pa  # noqa: PLC0415

    text, rows = data.lines(total)
    view = memoryview(text)

    def work() -> int:
        count = 0
        for at in range(0, len(text), BLOCK_BYTES):
            found = bytes(view[at : at + BLOCK_BYTES]).split(b"\n")
            found.pop()
            count += len(pa.array(found, pa.binary()))
        return count

    measure(len(text), rows, work)
