# SPDX-License-Identifier: Apache-2.0
"""Tools that need no code of ours: each reads a feed, copies what is said, and lets go of it."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import arro3.core as arro3
import datafusion
import nanoarrow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

import zcrx_arrow as zc
from tests.conftest import eventually
from tests.rows import payload_buffers
from zcrx_arrow import decoders, framing

LINES = [b"line %d of a feed, too long for a view" % i for i in range(5000)]
ROW = np.dtype([("key", "<u4"), ("value", "<f8")])


def rows(count: int) -> bytes:
    made = np.zeros(count, ROW)
    made["key"] = np.arange(count) % 10
    made["value"] = np.arange(count)
    return made.tobytes()


@pytest.fixture
def text(send):
    """Open sources of lines, all of which have come."""
    opened = []

    def make(**options) -> zc.Source:
        source = zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1, **options)
        opened.append(source)
        send(source.address, b"".join(line + b"\n" for line in LINES)).join()
        return source

    yield make
    for source in opened:
        source.close()


@pytest.fixture
def records(send):
    """Open a source of records whose sender is a thread of this process, and still at it."""
    with zc.listen("127.0.0.1:0", decode=decoders.Records(ROW), accept=1) as source:
        send(source.address, *[rows(1000)] * 20)
        yield source


def held(source) -> bool:
    # Its chunk may be the one that the kernel goes on to fill, which counts as offered.
    return source.metrics().batches_held > 0


def in_area(batch, source) -> bool:
    """Whether the payloads lie in a mapping that is as large as the receive memory."""
    seen = source.metrics()
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(number, 16) for number in line.split()[0].split("-"))
        if end - begin >= seen.chunks * source.chunk_bytes:
            spans = payload_buffers(batch)
            if spans and all(begin <= span.address < end for span in spans):
                return True
    return False


def released(source) -> None:
    def over():
        gc.collect()
        seen = source.metrics()
        return (seen.chunks_leased, seen.batches_held) == (0, 0)

    eventually(over)


# --- pandas --------------------------------------------------------------------------------------


def test_pandas_copies_and_lets_go_at_once(text):
    source = text()
    frame = pd.DataFrame.from_arrow(source)
    released(source)
    assert frame["payload"].tolist() == LINES
    assert frame["position"].dtype == np.uint64
    assert str(frame["received_at"].dtype) == "datetime64[ns, UTC]"


def test_pandas_of_columns(records):
    frame = pd.DataFrame.from_arrow(records)
    released(records)
    assert frame.groupby("key")["value"].count().tolist() == [2000] * 10


# --- datafusion ----------------------------------------------------------------------------------


def test_datafusion_holds_until_the_table_is_gone(text):
    source = text(payload_type="string_view")
    context = datafusion.SessionContext()
    frame = context.from_arrow(source, name="feed")
    assert held(source)
    query = "select count(*) as n from feed where payload like '%9 of a feed%'"
    assert context.sql(query).to_pydict() == {"n": [500]}
    context.deregister_table("feed")
    del frame
    released(source)


def test_datafusion_of_a_feed_that_still_comes(records):
    """A decoded source is read through Python, which lets other threads run meanwhile."""
    context = datafusion.SessionContext()
    context.from_arrow(records, name="feed")
    found = context.sql("select key, sum(value) as s from feed group by key order by key")
    assert found.to_pydict()["key"] == list(range(10))
    released(records)


def test_a_feed_that_still_comes_by_way_of_a_reader(send):
    with zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1) as source:
        send(source.address, *[line + b"\n" for line in LINES])
        reader = pa.RecordBatchReader.from_batches(source.schema, iter(source))
        context = datafusion.SessionContext()
        context.from_arrow(reader, name="feed")
        found = context.sql("select count(*) as n from feed").to_pydict()
        assert found == {"n": [len(LINES)]}
        context.deregister_table("feed")
        released(source)


# --- nanoarrow -----------------------------------------------------------------------------------


def test_nanoarrow_holds_views_batch_by_batch(text):
    """It hands a stream of views on; looking at a view itself would crash it."""
    source = text(batching=zc.Batching(max_rows=1000))
    positions = []
    with nanoarrow.ArrayStream(source) as stream:
        for batch in stream:
            assert held(source)
            positions += batch.child(2).to_pylist()
            del batch
    assert positions == np.cumsum([0] + [len(line) + 1 for line in LINES[:-1]]).tolist()
    released(source)
    source = text()
    table = pa.table(nanoarrow.ArrayStream(source))
    assert held(source)
    assert table["payload"].to_pylist() == LINES
    assert in_area(table.to_batches()[0], source)
    del table
    released(source)


def test_nanoarrow_reads_large_binary_itself(text):
    source = text(payload_type="large_binary")
    array = nanoarrow.Array(source)
    assert array.child(0).to_pylist() == LINES
    del array
    released(source)


# --- arro3 ---------------------------------------------------------------------------------------


def test_arro3_is_zero_copy(text):
    source = text()
    reader = arro3.RecordBatchReader.from_stream(source)
    batch = reader.read_next_batch()
    assert held(source)
    ours = pa.record_batch(batch)
    assert ours.column("payload").to_pylist() == LINES[: batch.num_rows]
    assert in_area(ours, source)
    del batch, ours
    for rest in reader:
        assert rest.num_rows
        del rest
    del reader
    released(source)


def test_arro3_of_all(records):
    table = arro3.Table.from_arrow(records)
    assert table.num_rows == 20_000
    assert pa.table(table)["value"].to_pylist()[:3] == [0.0, 1.0, 2.0]
    released(records)


# --- Arrow datasets ------------------------------------------------------------------------------


def test_a_scanner_selects_and_lets_go(records):
    reader = pa.RecordBatchReader.from_stream(records)
    scanner = ds.Scanner.from_batches(reader, columns=["value"], filter=pc.field("key") == 3)
    assert scanner.to_table().num_rows == 2000
    del scanner, reader
    released(records)


def test_a_scanner_of_views_passes_them_on_but_does_not_filter(text):
    source = text()
    scanner = ds.Scanner.from_batches(pa.RecordBatchReader.from_stream(source))
    table = scanner.to_table()
    assert held(source)
    assert table["payload"].to_pylist() == LINES
    assert in_area(table.to_batches()[0], source)
    del scanner, table
    released(source)
    source = text()
    late = ds.field("position") > 1000
    with pytest.raises(pa.ArrowNotImplementedError, match="binary_view"):
        ds.Scanner.from_batches(pa.RecordBatchReader.from_stream(source), filter=late).to_table()
    sys.last_value = None
    released(source)
    source = text(payload_type="large_binary")
    scanner = ds.Scanner.from_batches(pa.RecordBatchReader.from_stream(source), filter=late)
    starts = np.cumsum([0] + [len(line) + 1 for line in LINES[:-1]])
    assert scanner.count_rows() == int((starts > 1000).sum())
    del scanner
    released(source)


@pytest.mark.parametrize("form", ["parquet", "ipc"])
def test_a_dataset_is_written(text, tmp_path, form):
    source = text()
    reader = pa.RecordBatchReader.from_stream(source)
    ds.write_dataset(reader, tmp_path, format=form, max_rows_per_file=2000, max_rows_per_group=1000)
    del reader
    released(source)
    assert len(list(tmp_path.iterdir())) == 3
    got = ds.dataset(tmp_path, format=form).to_table()
    pairs = zip(got["position"].to_pylist(), got["payload"].to_pylist(), strict=True)
    assert [payload for _, payload in sorted(pairs)] == LINES


def test_a_dataset_by_partitions(records, tmp_path):
    by_key = ds.partitioning(pa.schema([("key", pa.uint32())]), flavor="hive")
    reader = pa.RecordBatchReader.from_stream(records)
    ds.write_dataset(reader, tmp_path, format="parquet", partitioning=by_key)
    del reader
    released(records)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"key={n}" for n in range(10)]
    assert ds.dataset(tmp_path, partitioning="hive").count_rows() == 20_000


def test_a_scanner_reads_ahead(send):
    """`head` wants five rows; a scanner takes what it can get meanwhile."""
    small = zc.Batching(max_rows=1)
    with zc.listen("127.0.0.1:0", decode=decoders.Records(ROW), batching=small, accept=1) as source:
        send(source.address, *[rows(10)] * 100)
        reader = pa.RecordBatchReader.from_stream(source)
        scanner = ds.Scanner.from_batches(reader)
        assert scanner.head(5).num_rows == 5
        eventually(lambda: source.decode_stats.rows > 15)
        source.close()  # or its threads would go on to wait
        del scanner, reader
        released(source)
