# SPDX-License-Identifier: Apache-2.0
"""Arrow libraries read a source by the PyCapsule protocol alone, without copying its bytes."""

from __future__ import annotations

import gc

import duckdb
import polars as pl
import pyarrow as pa
import pytest

import zcrx_arrow as zc
from tests.rows import payload_buffers
from zcrx_arrow._native import lib

LINES = [f"line {i} of the feed, long enough to lie outside of its view" for i in range(5000)]
TEXT = "\n".join(LINES).encode() + b"\n"


class Protocol:
    """Nothing but the protocol."""

    def __init__(self, source) -> None:
        self._source = source

    def __arrow_c_stream__(self, requested_schema=None):
        return self._source.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self):
        return self._source.__arrow_c_schema__()


@pytest.fixture
def source(wire, send):
    with wire.listen(
        framing=zc.framing.Delimited(),
        payload_type="string_view",
        accept=1,
    ) as source:
        send(source.address, TEXT)
        yield source


def test_pyarrow_table(source):
    table = pa.table(Protocol(source))
    table.validate(full=True)
    assert table["payload"].to_pylist() == LINES
    assert table.schema.metadata == source.schema.metadata


def test_pyarrow_is_zero_copy(source):
    reader = pa.RecordBatchReader.from_stream(Protocol(source))
    assert reader.schema.equals(source.schema)
    batch = reader.read_next_batch()
    assert lib.za_outstanding() > 0
    assert source.metrics().zero_copy_batches >= 1
    spans = [buffer.size for buffer in payload_buffers(batch)]
    # The spans hold the lines with their newlines, as they came: nobody has put them together.
    assert sum(spans) == sum(len(line) + 1 for line in batch.column("payload").to_pylist())
    del batch
    gc.collect()
    reader.read_all()
    reader.close()


def test_requested_schema(source):
    wanted = source.schema.set(0, pa.field("payload", pa.large_string(), nullable=False))
    try:
        table = pa.table(Protocol(source), schema=wanted)
    except (pa.ArrowInvalid, NotImplementedError, ValueError, TypeError):
        return  # a producer may refuse; silently giving something else is not allowed
    assert table.schema.field("payload").type == pa.large_string()


def test_polars(source):
    frame = pl.DataFrame(Protocol(source))
    assert frame["payload"].to_list() == LINES
    assert frame["position"].is_sorted()
    assert lib.za_outstanding() > 0, "Polars points into the area"
    del frame
    gc.collect()
    assert lib.za_outstanding() == 0


def test_duckdb(source):
    feed = Protocol(source)
    (row,) = duckdb.sql("select count(*), sum(length(payload)) from feed").fetchall()
    assert row == (len(LINES), sum(map(len, LINES)))
    del feed


def test_duckdb_reads_the_source_itself(source):
    (row,) = duckdb.sql("select min(payload), max(payload) from source").fetchall()
    assert row == (min(LINES), max(LINES))


def test_duckdb_limit_stops(wire, send):
    with wire.listen(framing=zc.framing.Delimited()) as source:  # endless
        send(source.address, TEXT)
        assert len(duckdb.sql("select payload from source limit 10").fetchall()) == 10


def test_one_queue_for_all_streams(source):
    one, two = (pa.RecordBatchReader.from_stream(Protocol(source)) for _ in range(2))
    rows = one.read_all()["payload"].to_pylist() + two.read_all()["payload"].to_pylist()
    assert rows == LINES


def test_errors_reach_the_consumer(wire, send):
    limits = zc.Limits(exhausted_after="50 ms")
    area = zc.Area(size="128 KiB", chunk="4 KiB", window="16 KiB")
    with wire.listen(copy_out="never", area=area, limits=limits) as source:
        send(source.address, b"x" * 1_000_000)
        with pytest.raises(OSError, match='copy_out="auto"'):
            pa.table(Protocol(source))
