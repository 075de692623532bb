# SPDX-License-Identifier: Apache-2.0
"""Receivers: each aggregates its feed by symbol, and says its sample and what it found.

``python -m benchmarks.engines.receive '{"case": ..., "kind": ..., "sender_cpu": ...}'``
"""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.memory import data
from benchmarks.memory.text import SCHEMA
from benchmarks.probe import Probe, pin, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 1 << 20
SQL = "select symbol, sum(size)::bigint, avg(price), count(*) from {} group by symbol order by 1"

Answer = list[list[Any]]


def _decoder(kind: str, *, numbers: bool = False) -> Any:
    import pyarrow as pa  # noqa: PLC0415 (the peers do without)

    import zcrx_arrow as zc  # noqa: PLC0415 (as above)

    at = SCHEMA.get_field_index("symbol")
    schema = SCHEMA.set(at, pa.field("symbol", pa.string_view()))  # what engines take as it is
    if kind == "csv":
        return zc.decoders.Csv(schema, header=False)
    if kind == "ndjson":
        return zc.decoders.Ndjson(schema, extra="ignore")
    layout = data.record("<")
    if numbers:
        return zc.decoders.Records(_with_numbers(layout))
    return zc.decoders.Records(layout, types={"symbol": pa.string_view()})


def _with_numbers(layout: Any) -> list[tuple[str, Any]]:
    """Take the symbol for a number of 8 bytes."""
    return [(name, "<u8" if name == "symbol" else layout[name]) for name in layout.names]


def _a_little(kind: str) -> Any:
    import zcrx_arrow as zc  # noqa: PLC0415 (as above)

    body = data.records(1, "<")[0] if kind == "records" else getattr(data, kind)(1)[0]
    return zc.decode(body, _decoder(kind))


def _from_source(kind: str, work: Callable[[Any], Answer], decoder: Any = None) -> None:
    import zcrx_arrow as zc  # noqa: PLC0415 (as above)

    with zc.listen("127.0.0.1:0", decode=decoder or _decoder(kind), accept=1) as source:
        probe = Probe.ready(source.address[1])
        answer = work(source)
        say(**probe.end(source.metrics().bytes), answer=answer)


# --- Polars --------------------------------------------------------------------------------------


def _rounded(frame: Any) -> Answer:
    return [[s, int(total), round(mean, 6), rows] for s, total, mean, rows in frame.rows()]


def polars_ours(kind: str) -> None:
    """Aggregate a scan of the source."""
    _polars_ours(kind, numbers=False)


def polars_numbers(kind: str) -> None:
    """Do so by symbols that are numbers."""
    _polars_ours(kind, numbers=True)


def _polars_ours(kind: str, *, numbers: bool) -> None:
    import polars as pl  # noqa: PLC0415 (of this engine only)

    from zcrx_arrow.connectors import polars_source  # noqa: PLC0415 (as above)

    def work(source: Any) -> Answer:
        size, price = pl.col("size").cast(pl.Int64).sum(), pl.col("price").mean()
        grouped = polars_source.scan(source).group_by("symbol").agg(size, price, rows=pl.len())
        found = grouped.collect(engine="streaming")
        if numbers and found.schema["symbol"] == pl.UInt64:
            found = found.with_columns(_symbol_text())
        return _rounded(found.sort("symbol"))

    work(_a_little(kind))  # starts the engine's threads
    _from_source(kind, work, _decoder(kind, numbers=numbers))


def _symbol_text() -> Any:
    import polars as pl  # noqa: PLC0415 (of this engine only)

    return pl.col("symbol").map_elements(
        lambda n: n.to_bytes(8, "little").rstrip(b"\0").decode(), pl.String
    )


def _texts(stream: Any) -> Iterator[bytes]:
    """Whole lines, about a MiB of them."""
    while chunk := stream.read(CHUNK):
        yield chunk + stream.readline()


def _frames_of_text(kind: str, stream: Any, *, told: bool) -> Iterator[Any]:
    """Read all columns, of types that it finds, or the three that it is told."""
    import polars as pl  # noqa: PLC0415 (of this engine only)

    if not told:
        for text in _texts(stream):
            if kind == "ndjson":
                yield pl.read_ndjson(text)
            else:
                yield pl.read_csv(text, has_header=False, new_columns=SCHEMA.names)
        return
    wanted = {"symbol": pl.String, "price": pl.Float64, "size": pl.Int64}
    if kind == "ndjson":
        for text in _texts(stream):
            yield pl.read_ndjson(text, schema=wanted)
        return
    schema = dict.fromkeys(SCHEMA.names, pl.String) | wanted
    columns = [SCHEMA.names.index(name) for name in wanted]
    for text in _texts(stream):
        yield pl.read_csv(text, has_header=False, schema=schema, columns=columns)


def _frames_of_records(stream: Any) -> Iterator[Any]:
    import numpy as np  # noqa: PLC0415 (of this case only)
    import polars as pl  # noqa: PLC0415 (of this engine only)

    while chunk := stream.read(CHUNK):
        rows = np.frombuffer(chunk, data.record("<"))
        # The symbol as a number: making it text for each row costs several times as much.
        symbol = np.ascontiguousarray(rows["symbol"]).view("<u8")
        yield pl.DataFrame({"symbol": symbol, "price": rows["price"], "size": rows["size"]})


def polars_peer(kind: str) -> None:
    """Read chunks of a socket's file, aggregate each, and then what came of them."""
    _polars_peer(kind, told=True)


def polars_untold(kind: str) -> None:
    """Do the same without saying which columns are needed, and of which type they are."""
    _polars_peer(kind, told=False)


def _polars_peer(kind: str, *, told: bool) -> None:
    import io  # noqa: PLC0415 (of this case only)

    import polars as pl  # noqa: PLC0415 (of this engine only)

    body = data.records(1, "<")[0] if kind == "records" else getattr(data, kind)(1)[0]
    little = io.BytesIO(body)  # starts the engine's threads, as for the others

    def frames_of(stream: Any) -> Iterator[Any]:
        records = kind == "records"
        return _frames_of_records(stream) if records else _frames_of_text(kind, stream, told=told)

    for frame in frames_of(little):
        frame.group_by("symbol").agg(pl.len())

    total = 0

    class Counting:
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def read(self, size: int) -> bytes:
            return self._count(self._stream.read(size))

        def readline(self) -> bytes:
            return self._count(self._stream.readline())

        def _count(self, got: bytes) -> bytes:
            nonlocal total
            total += len(got)
            return got

    with socket.create_server(("127.0.0.1", 0)) as listener:
        probe = Probe.ready(listener.getsockname()[1])
        connection, _ = listener.accept()
        with connection, connection.makefile("rb", buffering=CHUNK) as file:
            stream = Counting(file)
            parts = [
                frame.group_by("symbol").agg(
                    pl.col("size").cast(pl.Int64).sum(),
                    pl.col("price").sum().cast(pl.Float64),
                    rows=pl.len().cast(pl.Int64),
                )
                for frame in frames_of(stream)
            ]
        whole = pl.concat(parts).group_by("symbol").sum()
        whole = whole.with_columns(pl.col("price") / pl.col("rows"))
        if kind == "records":
            whole = whole.with_columns(_symbol_text())
        answer = _rounded(whole.sort("symbol"))
        say(**probe.end(total), answer=answer)


# --- DuckDB --------------------------------------------------------------------------------------


def _queried(name: str, batches: Any) -> Answer:
    import duckdb  # noqa: PLC0415 (of this engine only)

    with duckdb.connect() as connection:
        connection.register(name, batches)
        rows = connection.sql(SQL.format(name)).fetchall()
    return [[symbol, size, round(price, 6), count] for symbol, size, price, count in rows]


def _warm() -> None:
    """Have the engine loaded and its threads started before it counts."""
    import pyarrow as pa  # noqa: PLC0415 (of these cases only)

    nothing = pa.schema([("symbol", pa.string()), ("size", pa.int64()), ("price", pa.int64())])
    _queried("warm", nothing.empty_table())


def duckdb_ours(kind: str) -> None:
    """Have DuckDB aggregate the source."""
    _warm()
    _from_source(kind, lambda source: _queried("feed", source))


def duckdb_floor(kind: str) -> None:
    """Receive and decode what the query needs, and look at nothing."""

    def work(source: Any) -> Answer:
        for _batch in source:
            pass
        return []

    _from_source(kind, work)


def duckdb_memory(kind: str) -> None:
    """Have DuckDB aggregate the same batches, which are in memory already."""
    import pyarrow as pa  # noqa: PLC0415 (of this case only)

    import zcrx_arrow as zc  # noqa: PLC0415 (as above)

    _warm()
    with zc.listen("127.0.0.1:0", decode=_decoder(kind), accept=1) as source:
        say(port=source.address[1])
        batches = list(source)
        received = source.metrics().bytes
        reader = pa.RecordBatchReader.from_batches(source.schema, batches)
    from benchmarks.probe import cpu_seconds  # noqa: PLC0415 (of this case only)

    cpu = cpu_seconds()
    answer = _queried("feed", reader)
    say(bytes=received, cpu_seconds=cpu_seconds() - cpu, ended_ns=0, answer=answer)


def main() -> None:
    """Run the case that the JSON argument names."""
    parameters = json.loads(sys.argv[1])
    pin(parameters["sender_cpu"])
    globals()[parameters["case"]](parameters["kind"])


if __name__ == "__main__":
    main()
