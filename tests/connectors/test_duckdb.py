# SPDX-License-Identifier: Apache-2.0
"""DuckDB over a feed: only what is asked for is decoded, and nobody reads a row twice or half."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import zcrx_arrow as zc
from tests.conftest import ROOT, eventually
from zcrx_arrow import decoders, framing
from zcrx_arrow._native import lib
from zcrx_arrow.connectors import duckdb_source
from zcrx_arrow.errors import ConfigError, UnsupportedError

ROW = np.dtype([("key", "<u4"), ("value", "<f8"), ("text", "S8"), ("parts", "<i2", (2,))])
LAYOUT = decoders.Records(ROW, types={"text": pa.string()})


def rows(count: int) -> np.ndarray:
    made = np.zeros(count, ROW)
    made["key"] = np.arange(count) % 7
    made["value"] = np.arange(count) / 2
    made["text"] = b"abc"
    made["parts"] = np.arange(2 * count).reshape(count, 2) % 1000
    return made


@contextmanager
def fed(data: bytes, *, endless: bool = False, **options):
    """Open a source that gets these bytes, once or for ever, from a peer that stays."""
    with zc.listen("127.0.0.1:0", **options) as source:
        stop = threading.Event()

        def run():
            try:
                with socket.create_connection(source.address) as peer:
                    peer.sendall(data)
                    while endless:
                        peer.sendall(data)
                    stop.wait()
            except OSError:
                pass

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield source
        finally:
            stop.set()
            source.close()
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def db():
    with duckdb.connect() as connection:
        yield connection


def all_returned(source) -> None:
    eventually(lambda: (gc.collect(), source.metrics().batches_held == 0)[1])
    assert source.metrics().chunks_leased == 0


# --- as it is ----------------------------------------------------------------------------------


def test_sql_from_source_as_it_is(send):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, accept=1) as source:
        send(source.address, rows(10_000).tobytes())
        (row,) = duckdb.sql("select count(*), sum(value) from source where key = 3").fetchall()
    there = rows(10_000)
    there = there[there["key"] == 3]
    assert row == (len(there), there["value"].sum())


def test_lines_as_they_are(send):
    options = {"framing": framing.Delimited(), "payload_type": "string_view", "accept": 1}
    with zc.listen("127.0.0.1:0", **options) as source:
        send(source.address, b'{"a": 1}\n{"a": 41}\n')
        sql = "select sum((payload->>'a')::int) from source"
        assert duckdb.sql(sql).fetchall() == [(42,)]


# --- register ----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_a_query_gives_what_it_gives_of_a_table(db, threads):
    db.execute(f"set threads = {threads}")
    data = rows(100_000).tobytes()
    db.register("whole", zc.decode(data, LAYOUT).read_all())
    for number, sql in enumerate(
        [
            "select key, sum(value), count(*) from {} group by key order by key",
            "select text, value from {} where key = 3 order by value desc limit 11",
            "select sum(parts[1]) from {}",
            "select * from {} order by value limit 3 offset 10000",
            "select count(*) from {}",
        ]
    ):
        with duckdb_source.register(db, f"feed{number}", zc.decode(data, LAYOUT)) as feed:
            got = db.sql(sql.format(feed.name)).fetchall()
            assert got == db.sql(sql.format("whole")).fetchall()
            assert feed.ended
            assert not feed.running


def test_columns_that_are_not_asked_for_are_not_decoded(db):
    bad = rows(10)
    bad["text"] = b"\xff\xfe"  # would be an error if anybody looked
    with duckdb_source.register(db, "feed", zc.decode(bad.tobytes(), LAYOUT)):
        assert db.sql("select sum(key), max(value) from feed").fetchall() == [(24, 4.5)]
    with (
        duckdb_source.register(db, "feed", zc.decode(bad.tobytes(), LAYOUT)),
        pytest.raises(duckdb.Error, match="UTF-8"),
    ):
        db.sql("select max(text) from feed").fetchall()


def test_only_a_kept_column(db):
    layout = decoders.Records(ROW, types={"text": pa.string()}, keep=["position"])
    with duckdb_source.register(db, "feed", zc.decode(rows(10).tobytes(), layout)):
        assert db.sql("select max(position) from feed").fetchall() == [(9 * ROW.itemsize,)]


def test_limit_stops_the_pull_and_releases(db):
    lines = b"".join(b"line %d of a feed, not short\n" % n for n in range(50_000))
    limits = zc.Limits(queue_batches=4)
    with fed(
        lines, endless=True, framing=framing.Delimited(), area="8 MiB", limits=limits
    ) as source:
        with duckdb_source.register(db, "feed", source, again=True) as feed:
            for _ in range(3):
                assert len(db.sql("select payload from feed limit 10").fetchall()) == 10
                eventually(lambda: not feed.running)
                # What is still out lies in the queue: nobody else holds any.
                eventually(lambda: source.metrics().batches_held <= 4 + 1)
        pulled = source.metrics()
        assert pulled.batches - pulled.queue_batches < 50
        source.close()
        all_returned(source)


def test_all_leases_come_back(db):
    lines = b"".join(b"line %d of a feed, not short\n" % n for n in range(20_000))
    with fed(lines, framing=framing.Delimited()) as source:
        with duckdb_source.register(db, "feed", source) as feed:
            assert len(db.sql("select payload from feed limit 1").fetchall()) == 1
            eventually(lambda: not feed.running)
        gone = 1  # rows that the limit cut off are gone, so count to the last one
        while gone is not None:
            try:
                gone = source.next_batch(timeout="300 ms")
            except TimeoutError:
                break
        del gone
        all_returned(source)


def test_projection_of_a_later_query_is_its_own(db):
    options = {"decode": LAYOUT, "area": "4 MiB"}
    with (
        fed(rows(10_000).tobytes(), endless=True, **options) as source,
        duckdb_source.register(db, "feed", source, again=True),
    ):
        for _ in range(5):
            assert db.sql("select key from feed limit 5").fetchall()
            (row,) = db.sql("select * from feed limit 1").fetchall()
            assert row[2] == "abc"
            assert db.sql("select text from feed limit 1").fetchall() == [("abc",)]


@pytest.mark.parametrize("kind", ["ndjson", "ipc"])
def test_projection_of_other_decoders(db, kind):
    table = pa.table({"a": list(range(3000)), "b": ["x" * 20] * 3000})
    if kind == "ndjson":
        data = b"".join(b'{"a": %d, "b": "%s"}\n' % (n, b"x" * 20) for n in range(3000))
        decoder = decoders.Ndjson(table.schema)
    else:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
        data, decoder = sink.getvalue().to_pybytes(), decoders.ArrowIpc(schema=table.schema)
    with duckdb_source.register(db, "feed", zc.decode(data, decoder, fragment=1000), again=True):
        seen = db.sql("select b from feed limit 1").fetchall()
        assert seen == [("x" * 20,)]
        while True:
            got = db.sql("select a, b from feed limit 50").fetchall()
            assert all(row == (row[0], "x" * 20) for row in got)
            if len(got) < 50:
                break


def test_what_a_limit_cut_off_is_not_taken_for_whole(db):
    """Two headers make two batches of what came together; the second one waits, without `a`."""
    options = {
        "decode": decoders.Csv(pa.schema([("a", pa.int64()), ("b", pa.string())])),
        "batching": zc.Batching(max_delay="10 s"),
    }
    with zc.listen("127.0.0.1:0", accept=2, **options) as source:
        for text in (b"a,b\n1,x\n", b"b,a\nx,2\n"):
            with socket.create_connection(source.address) as peer:
                peer.sendall(text)
        eventually(lambda: source.metrics().bytes == 16)
        with duckdb_source.register(db, "feed", source, again=True) as feed:
            assert db.sql("select b from feed limit 1").fetchall() == [("x",)]
            assert db.sql("select * from feed").fetchall() in ([], [(2, "x")], [(1, "x")])
            assert feed.ended


# --- never twice, never split ------------------------------------------------------------------


def test_a_second_query_is_refused(db):
    with (
        fed(rows(10_000).tobytes(), endless=True, decode=LAYOUT, area="4 MiB") as source,
        duckdb_source.register(db, "feed", source),
    ):
        assert db.sql("select key from feed limit 1").fetchall()
        with pytest.raises(duckdb.Error, match=r"was read by a query over register\(\) before"):
            db.sql("select key from feed limit 1").fetchall()


def test_a_feed_that_was_read_to_its_end_does_not_seem_empty(db):
    with duckdb_source.register(db, "feed", zc.decode(rows(9).tobytes(), LAYOUT), again=True):
        assert db.sql("select count(*) from feed").fetchall() == [(9,)]
        with pytest.raises(duckdb.Error, match="to its end"):
            db.sql("select count(*) from feed").fetchall()


def test_a_self_join_is_refused_not_wrong(db):
    for again in (False, True):
        with (
            duckdb_source.register(
                db, "feed", zc.decode(rows(9).tobytes(), LAYOUT), again=again
            ) as feed,
            pytest.raises(duckdb.Error, match="read"),
        ):
            db.sql(f"select * from {feed.name} x join {feed.name} y using (value)").fetchall()
    with duckdb_source.register(db, "feed", zc.decode(rows(9).tobytes(), LAYOUT)):
        sql = "with f as materialized (from feed) select count(*) from f x join f y using (value)"
        assert db.sql(sql).fetchall() == [(9,)]


def test_two_at_a_time_are_refused(db):
    with (
        fed(rows(1000).tobytes(), decode=LAYOUT) as source,
        db.cursor() as other,
        duckdb_source.register(db, "feed", source) as feed,
        duckdb_source.register(other, "feed", source),
    ):
        ended = []
        thread = threading.Thread(
            target=lambda: ended.append(db.sql("select count(*) from feed").fetchall())
        )
        thread.start()
        eventually(lambda: feed.running)
        with pytest.raises(duckdb.Error, match="is being read by a query over register"):
            other.sql("select count(*) from feed").fetchall()
        with pytest.raises(zc.ZcrxError, match="is being read by a query"):
            next(duckdb_source.windows(source, every=10, sql="from feed"))
        source.stop()
        thread.join(30)
        assert ended == [[(1000,)]]


def test_a_later_query_takes_over_without_losing_a_row(db):
    """Each row goes to one of them; the earlier one fails, so it cannot pass for whole."""
    data = b"".join(b"%d\n" % n for n in range(200_000))
    options = {
        "framing": framing.Delimited(),
        "payload_type": "large_string",
        "batching": zc.Batching(max_rows=1000),
    }
    with (
        fed(data, **options) as source,
        duckdb_source.register(db, "feed", source, again=True) as feed,
    ):
        reader = db.sql("select payload from feed").to_arrow_reader(1000)
        first = reader.read_next_batch().column(0).to_pylist()
        # The connection is the first one's; the same view can be read no second time there,
        # so the other query comes through the object that DuckDB was given.
        second = feed._feed.reader(["payload"])
        got = second.read_next_batch().column(0).to_pylist()
        with pytest.raises((duckdb.Error, OSError), match="read by another query"):
            while True:
                first += reader.read_next_batch().column(0).to_pylist()
        while got[-1] != "199999":
            got += second.read_next_batch().column(0).to_pylist()
        del reader, second
        # What DuckDB had pulled for the first and not handed out is gone with its error.
        assert not set(first) & set(got)
        assert got == [str(n) for n in range(int(got[0]), 200_000)]


# --- ends --------------------------------------------------------------------------------------


def test_closing_the_source_ends_the_query(db):
    with (
        fed(rows(1000).tobytes(), endless=True, decode=LAYOUT, area="4 MiB") as source,
        duckdb_source.register(db, "feed", source) as feed,
    ):
        threading.Timer(0.3, source.close).start()
        assert db.sql("select count(*) from feed").fetchall()[0][0] > 0
        assert feed.ended
    with (
        duckdb_source.register(db, "feed", source),
        pytest.raises(duckdb.Error, match="closed"),
    ):
        db.sql("select count(*) from feed").fetchall()


@pytest.mark.parametrize("how", ["connection", "feed", "close"])
def test_interrupting_a_busy_query_releases(db, how):
    with fed(rows(10_000).tobytes(), endless=True, decode=LAYOUT, area="4 MiB") as source:
        feed = duckdb_source.register(db, "feed", source)
        ends = {"connection": db.interrupt, "feed": feed.interrupt, "close": feed.close}
        timer = threading.Timer(0.3, ends[how])
        timer.start()
        with pytest.raises(duckdb.Error, match=r"(?i)interrupt|unregistered"):
            db.sql("select sum(value) from feed").fetchall()
        timer.join()
        eventually(lambda: not feed.running)
        feed.close()
        feed.close()
        source.close()
        all_returned(source)


def test_interrupting_a_query_over_a_silent_feed(db):
    with (
        fed(b"", decode=LAYOUT) as source,
        duckdb_source.register(db, "feed", source, again=True) as feed,
    ):
        for end in (feed.interrupt, feed.close):
            threading.Timer(0.2, end).start()
            begin = time.monotonic()
            with pytest.raises(duckdb.Error, match=r"(?i)interrupt|unregistered"):
                db.sql("select count(*) from feed").fetchall()
            assert time.monotonic() - begin < 10
            assert not feed.running


def test_ctrl_c_over_a_silent_feed():
    script = """
        import socket, threading, duckdb, zcrx_arrow as zc
        from zcrx_arrow.connectors import duckdb_source
        with zc.listen("127.0.0.1:0", framing=zc.framing.Delimited()) as source:
            peer = socket.create_connection(source.address)
            db = duckdb.connect()
            with duckdb_source.register(db, "feed", source):
                print("ready", flush=True)
                try:
                    db.sql("select count(*) from feed").fetchall()
                except KeyboardInterrupt:
                    print("ended")
                except Exception as error:
                    print("ended" if "nterrupt" in str(error) else repr(error))
            peer.close()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.7)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert out == "ended\n", out + err


def test_a_bad_row_ends_the_query(db):
    data = b'{"a": 1}\n{"a": "x"}\n'
    decoder = decoders.Ndjson(pa.schema([("a", pa.int64())]))
    with duckdb_source.register(db, "feed", zc.decode(data, decoder)) as feed:
        with pytest.raises(duckdb.Error, match="position 9"):
            db.sql("select sum(a) from feed").fetchall()
        assert not feed.running


def test_a_consumer_that_raises_releases(db):
    def fail(value: int) -> int:
        raise RuntimeError("no more")

    db.create_function("fail", fail, [duckdb.sqltype("UINTEGER")], duckdb.sqltype("INTEGER"))
    with fed(rows(10_000).tobytes(), endless=True, decode=LAYOUT, area="4 MiB") as source:
        with duckdb_source.register(db, "feed", source) as feed:
            with pytest.raises(duckdb.Error, match="no more"):
                db.sql("select fail(key) from feed").fetchall()
            eventually(lambda: not feed.running)
        source.close()
        all_returned(source)


def test_a_result_that_is_left_unread_is_told(db, monkeypatch):
    monkeypatch.setattr(duckdb_source, "_PATIENCE_S", 0.2)
    with fed(rows(10_000).tobytes(), endless=True, decode=LAYOUT, area="4 MiB") as source:
        feed = duckdb_source.register(db, "feed", source)
        reader = db.sql("select key from feed").to_arrow_reader(100)
        assert reader.read_next_batch().num_rows
        with pytest.raises(zc.ZcrxError, match="open result"):
            feed.close()
        reader.close()
        feed.close()
        assert not feed.running
        assert feed.closed


# --- before the first byte ---------------------------------------------------------------------


def test_a_query_may_be_collected_while_another_one_pulls(db):
    batch = pa.record_batch({"n": [1, 2, 3]})

    class Feed:
        schema = batch.schema

        def __iter__(self):
            yield batch
            gc.collect()  # what any allocation may do
            yield batch

    class Left:
        pass

    with duckdb_source.register(db, "feed", Feed(), again=True) as feed:
        left = Left()
        left.itself, left.reader = left, feed._feed.reader(["n"])
        left.reader.read_next_batch()
        gc.disable()
        try:
            del left
            assert db.sql("select count(*) from feed").fetchall() == [(3,)]
        finally:
            gc.enable()
        assert not feed.running


def test_a_type_that_duckdb_has_not_is_refused_at_once(db):
    layout = decoders.Records(np.dtype([("fine", "<i4"), ("odd", "<f2")]))
    with fed(b"", decode=layout) as source:
        for use in (
            lambda: duckdb_source.register(db, "feed", source),
            lambda: duckdb_source.windows(source, every=10, sql="from feed"),
            lambda: duckdb_source.append(source, db, "t", feed="x"),
        ):
            with pytest.raises(UnsupportedError, match="'odd' of type halffloat"):
                use()
        assert source.metrics().bytes == 0


def test_names_that_duckdb_takes_for_one_are_refused(db):
    layout = decoders.Records(np.dtype([("a", "<i4"), ("A", "<i4")]))
    with pytest.raises(UnsupportedError, match="two columns are called 'A'"):
        duckdb_source.register(db, "feed", zc.decode(b"", layout))


def test_an_old_duckdb_is_refused(db, monkeypatch):
    monkeypatch.setattr(duckdb_source, "MAJOR", 1)
    with pytest.raises(UnsupportedError, match="needs DuckDB 2"):
        duckdb_source.register(db, "feed", zc.decode(b"", LAYOUT))


def test_a_name_that_is_taken_is_refused(db):
    replay = zc.decode(b"", LAYOUT)
    db.execute("create table there (i int)")
    with pytest.raises(ConfigError, match="'There' already"):
        duckdb_source.register(db, "There", replay)
    with (
        duckdb_source.register(db, "feed", replay),
        pytest.raises(ConfigError, match="'feed' already"),
    ):
        duckdb_source.register(db, "feed", replay)
    with duckdb_source.register(db, "feed", replay):
        pass
    with pytest.raises(duckdb.CatalogException):
        db.sql("select count(*) from feed")


def test_looking_at_the_schema_reads_nothing(db):
    with duckdb_source.register(db, "feed", zc.decode(rows(5).tobytes(), LAYOUT)):
        db.sql("describe feed").fetchall()
        db.sql("explain select * from feed").fetchall()
        db.sql("select key from feed")
        assert db.sql("select count(*) from feed").fetchall() == [(5,)]


def test_nothing_is_outstanding():
    eventually(lambda: (gc.collect(), lib.za_outstanding() == 0)[1])
