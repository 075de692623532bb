# SPDX-License-Identifier: Apache-2.0
"""NDJSON and CSV to ten typed columns, the same explicit schema for all."""

from __future__ import annotations

import pyarrow as pa

from benchmarks.memory import data
from benchmarks.memory.timing import measure

SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us")),
        ("id", pa.int64()),
        ("account", pa.int32()),
        ("symbol", pa.string()),
        ("venue", pa.string()),
        ("side", pa.string()),
        ("price", pa.float64()),
        ("size", pa.int64()),
        ("fee", pa.float64()),
        ("live", pa.bool_()),
    ]
)


def ours_ndjson(total: int) -> None:
    """Decode objects with this project."""
    import zcrx_arrow as zc  # noqa: PLC0415 (the peers do without)

    text, rows = data.ndjson(total)
    decoder = zc.decoders.Ndjson(SCHEMA)
    measure(len(text), rows, lambda: sum(batch.num_rows for batch in zc.decode(text, decoder)))


def pyarrow_ndjson(total: int) -> None:
    """Read them with Arrow's reader, one thread, blocks of 1 MiB as it has them."""
    from pyarrow import json  # noqa: PLC0415

    text, rows = data.ndjson(total)
    read = json.ReadOptions(use_threads=False)
    parse = json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="error")
    measure(len(text), rows, lambda: json.read_json(pa.BufferReader(text), read, parse).num_rows)


def ours_csv(total: int) -> None:
    """Decode rows of CSV with this project."""
    import zcrx_arrow as zc  # noqa: PLC0415 (as above)

    text, rows = data.csv(total)
    decoder = zc.decoders.Csv(SCHEMA, header=False)
    measure(len(text), rows, lambda: sum(batch.num_rows for batch in zc.decode(text, decoder)))


def pyarrow_csv(total: int) -> None:
    """Read them with Arrow's reader."""
    from pyarrow import csv  # noqa: PLC0415

    text, rows = data.csv(total)
    read = csv.ReadOptions(use_threads=False, column_names=SCHEMA.names)
    convert = csv.ConvertOptions(column_types=SCHEMA)
    measure(
        len(text),
        rows,
        lambda: csv.read_csv(pa.BufferReader(text), read, convert_options=convert).num_rows,
    )


def _polars_schema() -> dict[str, object]:
    import polars as pl  # noqa: PLC0415

    return dict(pl.from_arrow(SCHEMA.empty_table()).schema)


def polars_ndjson(total: int) -> None:
    """Read the objects with polars, on one thread."""
    import polars as pl  # noqa: PLC0415

    text, rows = data.ndjson(total)
    schema = _polars_schema() | {"time": pl.String}  # it reads no times there
    measure(len(text), rows, lambda: pl.read_ndjson(text, schema=schema).height)


def polars_csv(total: int) -> None:
    """Read the rows of CSV with polars, on one thread."""
    import polars as pl  # noqa: PLC0415

    text, rows = data.csv(total)
    schema = _polars_schema()
    measure(len(text), rows, lambda: pl.read_csv(text, has_header=False, schema=schema).height)
