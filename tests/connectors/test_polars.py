# SPDX-License-Identifier: Apache-2.0
"""Polars over a feed: what is asked for is what is pulled, and nothing is copied on the way."""

from __future__ import annotations

import gc
import socket
import threading

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

import zcrx_arrow as zc
from tests.conftest import eventually
from zcrx_arrow import decoders, framing
from zcrx_arrow.connectors import polars_source
from zcrx_arrow.errors import FramingError, UnsupportedError, ZcrxError

ROW = np.dtype([("key", "<u4"), ("value", "<f8"), ("text", "S8"), ("parts", "<i2", (2,))])


def rows(count: int) -> np.ndarray:
    made = np.zeros(count, ROW)
    made["key"] = np.arange(count) % 7
    made["value"] = np.arange(count) / 2
    made["text"] = b"abc"
    made["parts"] = np.arange(2 * count).reshape(count, 2) % 1000
    return made


LAYOUT = decoders.Records(ROW, types={"text": pa.string()})


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_query_gives_what_it_gives_of_a_frame(engine):
    data = rows(100_000).tobytes()
    whole = pl.DataFrame(zc.decode(data, LAYOUT))
    lazy = polars_source.scan(zc.decode(data, LAYOUT), again=False)
    query = [
        lambda f: f.group_by("key").agg(pl.col("value").sum(), pl.len()).sort("key"),
        lambda f: f.filter(pl.col("key") == 3).select("text", "value").head(11),
        lambda f: f.select(pl.col("parts").arr.sum()).tail(5),
        lambda f: f.slice(10_000, 3).with_columns(x=pl.col("value") * 2),
    ]
    for ask in query:
        lazy = polars_source.scan(zc.decode(data, LAYOUT))
        assert_frame_equal(ask(lazy).collect(engine=engine), ask(whole.lazy()).collect())


def test_columns_that_are_not_asked_for_are_not_decoded():
    bad = rows(10)
    bad["text"] = b"\xff\xfe"  # would close the connection if anybody looked
    lazy = polars_source.scan(zc.decode(bad.tobytes(), LAYOUT))
    assert lazy.select(pl.col("key").sum()).collect().item() == 24


TEXT = pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.float64())])


@pytest.mark.parametrize(
    ("decoder", "data"),
    [
        (decoders.Csv(TEXT, header=False), b"1,x,oops\n2,y,no\n"),
        (decoders.Csv(TEXT, keep=["position"]), b"c,b,a\noops,x,1\nno,y,2\n"),
        (
            decoders.Ndjson(TEXT, extra="ignore"),
            b'{"a":1,"b":"x","c":"oops"}\n{"z":0,"c":[],"a":2}\n',
        ),
    ],
    ids=["csv", "header", "ndjson"],
)
def test_text_of_columns_that_are_not_asked_for_is_not_read(decoder, data):
    lazy = polars_source.scan(zc.decode(data, decoder))
    assert lazy.select("a").collect()["a"].to_list() == [1, 2]
    lazy = polars_source.scan(zc.decode(data, decoder))
    assert lazy.select(pl.len()).collect().item() == 2
    with pytest.raises(FramingError, match="position"):
        polars_source.scan(zc.decode(data, decoder)).collect()


def test_a_missing_field_is_seen_in_columns_that_are_not_asked_for():
    """Without ``extra="ignore"`` every field of an object is looked at."""
    lazy = polars_source.scan(zc.decode(b'{"a":1,"z":2}\n', decoders.Ndjson(TEXT)))
    with pytest.raises(FramingError, match="unexpected field"):
        lazy.select("a").collect()


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_an_endless_feed_stops_at_head(endless, engine):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, area="4 MiB") as source:
        endless(source.address, rows(10_000).tobytes())
        lazy = polars_source.scan(source, again=True)
        for _ in range(3):
            assert lazy.head(5).collect(engine=engine).height == 5
        if engine == "streaming":  # the other engine wants all that passes a filter, first
            got = lazy.filter(pl.col("key") == 3).head(5).collect(engine=engine)
            assert got["key"].to_list() == [3] * 5
        gc.collect()
        assert not source.closed


def test_payloads_are_not_copied():
    with zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1) as source:
        with socket.create_connection(source.address) as peer:
            peer.sendall(b"".join(b"%d" % n * 40 + b"\n" for n in range(100)))
        batch = source.next_batch()
        frame = next(polars_source.iter_frames([batch]))
        there = {buffer.address for buffer in batch.column("payload").buffers()[2:] if buffer}
        again = frame.to_arrow(compat_level=pl.CompatLevel.newest()).column("payload").chunk(0)
        assert there & {buffer.address for buffer in again.buffers()[2:] if buffer}
        assert source.metrics().batches_held > 0
        del batch, frame, again
        eventually(lambda: (gc.collect(), source.metrics().batches_held == 0)[1])


def test_memory_stays_bounded(endless, tmp_path):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, area="4 MiB") as source:
        endless(source.address, rows(10_000).tobytes())
        lazy = polars_source.scan(source)
        lazy.head(400_000).sink_parquet(tmp_path / "feed.parquet")
    assert pl.scan_parquet(tmp_path / "feed.parquet").select(pl.len()).collect().item() == 400_000


def test_a_second_query_is_refused():
    source = zc.decode(rows(10).tobytes(), LAYOUT)
    lazy = polars_source.scan(source)
    assert lazy.select(pl.len()).collect().item() == 10
    with pytest.raises(ZcrxError, match=r"was read by a query over scan\(\) before"):
        lazy.collect()


def test_a_type_that_polars_has_not_is_refused_at_once():
    class Odd:
        schema = pa.schema([("fine", pa.int8()), ("odd", pa.month_day_nano_interval())])

    with pytest.raises(UnsupportedError, match="'odd' of type month_day_nano"):
        polars_source.scan(Odd())


def test_a_bad_row_ends_the_query():
    data = b'{"a": 1}\n{"a": "x"}\n'
    lazy = polars_source.scan(zc.decode(data, decoders.Ndjson(pa.schema([("a", pa.int64())]))))
    with pytest.raises((zc.errors.FramingError, pl.exceptions.ComputeError), match="position 9"):
        lazy.collect()


def test_closing_the_source_ends_the_query(endless):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, area="4 MiB") as source:
        endless(source.address, rows(1000).tobytes())
        threading.Timer(0.5, source.close).start()
        total = polars_source.scan(source).select(pl.len()).collect(engine="streaming").item()
    assert total % 1 == 0
    assert total > 0


def test_what_a_query_left_lacks_columns_and_goes_with_it():
    """A later query never sees rows without the columns that it asks for."""
    pieces = b"".join(b'{"a":%d,"b":"x","c":1.5}\n' % n for n in range(60_000))
    decoder = decoders.Ndjson(TEXT, extra="ignore")
    with zc.decode(pieces, decoder, batching=zc.Batching(max_rows=1)) as replay:
        lazy = polars_source.scan(replay, again=True)
        first = lazy.select("a").head(3).collect(engine="streaming")
        rest = lazy.select("b", "a").collect()
        assert first["a"].to_list() == [0, 1, 2]
        assert rest["b"].unique().to_list() == ["x"]
        numbers = rest["a"].to_list()
        assert numbers == list(range(60_000 - len(numbers), 60_000))
        assert replay.metrics().discarded_rows <= 60_000 - 3 - len(numbers)


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_an_expression_that_raises_ends_the_query_and_gives_back(endless, engine):
    def broken(_column):
        raise RuntimeError("no, thanks")

    with zc.listen("127.0.0.1:0", framing=framing.Delimited(), area="4 MiB") as source:
        endless(source.address, b"0123456789" * 10 + b"\n")
        lazy = polars_source.scan(source, again=True)
        ask = lazy.head(100).with_columns(pl.col("position").map_batches(broken, pl.UInt64))
        with pytest.raises((RuntimeError, pl.exceptions.ComputeError), match="no, thanks"):
            ask.collect(engine=engine)
        assert lazy.head(3).collect(engine="streaming").height == 3  # the feed goes on
        source.stop()
        while source.next_batch("10 s") is not None:
            pass
        eventually(lambda: (gc.collect(), source.metrics().batches_held == 0)[1])


def test_frames_that_somebody_stops_taking(endless):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, area="4 MiB") as source:
        endless(source.address, rows(1000).tobytes())
        seen = 0
        for frame in polars_source.iter_frames(source):
            seen += frame.height
            if seen > 5000:
                break
        assert source.next_batch("10 s").num_rows
