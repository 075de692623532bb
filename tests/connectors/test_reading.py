# SPDX-License-Identifier: Apache-2.0
"""Connectors that read one source: each row goes to one of them, and nobody is left to guess."""

from __future__ import annotations

import errno
import gc
import threading
from contextlib import contextmanager

import duckdb
import polars as pl
import pytest

import zcrx_arrow as zc
from tests.conftest import eventually
from zcrx_arrow import framing
from zcrx_arrow.connectors import (
    duckdb_source,
    flight_server,
    perspective_view,
    polars_source,
    rolling,
)
from zcrx_arrow.connectors.reading import Reading, _states
from zcrx_arrow.errors import ZcrxError

LINES = framing.Delimited()
FEW = zc.Batching(max_rows=100)
PIECE = b"".join(b"%05d\n" % n for n in range(1000))


@pytest.fixture
def db():
    with duckdb.connect() as made:
        yield made


def reading(source, *, again=False, what="a test") -> Reading:
    return Reading(source, step="read", what=what, again=again)


def test_one_engine_refuses_a_source_that_another_one_reads(db, endless):
    with (
        zc.listen("127.0.0.1:0", framing=LINES, area="4 MiB") as source,
        duckdb_source.register(db, "feed", source, again=True) as feed,
    ):
        ended = []
        thread = threading.Thread(
            target=lambda: ended.append(db.sql("select count(*) from feed").fetchall())
        )
        thread.start()
        eventually(lambda: feed.running)
        with pytest.raises(ZcrxError, match=r"is being read by a query over register\(\)") as error:
            polars_source.scan(source, again=True).head(1).collect()
        assert "End that one first" in str(error.value)
        endless(source.address, PIECE)
        eventually(lambda: source.metrics().rows > 10_000)
        source.stop()
        thread.join(30)
        assert ended == [[(source.metrics().rows,)]]  # not one row was taken away


def test_a_scan_keeps_others_out_as_long_as_it_runs(db, endless):
    with (
        zc.listen("127.0.0.1:0", framing=LINES, area="4 MiB", batching=FEW) as source,
        duckdb_source.register(db, "feed", source, again=True),
    ):
        endless(source.address, PIECE)
        seen, frames = [], polars_source.scan(source).collect_batches(chunk_size=10)
        thread = threading.Thread(target=lambda: seen.extend(each.height for each in frames))
        thread.start()
        eventually(lambda: seen)
        refused = r"is being read by a query over scan\(\)"
        with pytest.raises(duckdb.Error, match=refused):
            db.sql("select position from feed limit 1").fetchall()
        with pytest.raises(ZcrxError, match=refused):
            next(duckdb_source.windows(source, every=10, sql="from feed"))
        with pytest.raises(ZcrxError, match=refused):
            duckdb_source.append(source, db, "t", feed="f")
        assert source.next_batch("10 s").num_rows  # plain iteration is free
        source.stop()
        thread.join(30)


@pytest.mark.parametrize("first", ["polars", "duckdb"])
def test_going_on_where_another_engine_stopped_must_be_asked_for(db, first):
    data = b"".join(b"%05d\n" % n for n in range(1000))
    options = {"framing": LINES, "batching": FEW, "payload_type": "string_view"}

    def by_polars(source, *, again):
        found = polars_source.scan(source, again=again).select("payload").head(100)
        return found.collect(engine="streaming")["payload"].to_list()

    def by_duckdb(source, *, again):
        with duckdb_source.register(db, "feed", source, again=again):
            return [row for (row,) in db.sql("select payload from feed limit 100").fetchall()]

    one, other = (by_polars, by_duckdb) if first == "polars" else (by_duckdb, by_polars)
    with zc.frame(data, **options) as source:
        assert one(source, again=False) == [f"{n:05}" for n in range(100)]
        for each in (one, other):
            with pytest.raises(
                (ZcrxError, duckdb.Error), match=r"(?s)was read by a query over .*again=T"
            ):
                each(source, again=False)
        rest = other(source, again=True)
        assert len(rest) == 100
        assert rest == sorted(rest)
        assert rest[0] >= "00100"  # what the first engine had pulled beyond its limit is gone


def test_a_scan_of_a_closed_source_does_not_seem_empty():
    with zc.listen("127.0.0.1:0", framing=LINES) as source:
        lazy = polars_source.scan(source)
    with pytest.raises(ZcrxError, match="is closed"):
        lazy.collect()


def test_a_query_that_its_engine_has_left_is_in_nobodys_way(db, endless):
    """Polars neither ends a filtered head nor goes on with it."""
    with (
        zc.listen("127.0.0.1:0", framing=LINES, area="4 MiB") as source,
        duckdb_source.register(db, "feed", source, again=True),
    ):
        endless(source.address, PIECE)
        lazy = polars_source.scan(source, again=True).filter(pl.col("connection") == 1).head(5)
        for _ in range(3):
            assert lazy.collect(engine="streaming").height == 5
            assert len(db.sql("select position from feed limit 5").fetchall()) == 5


def test_a_query_that_was_overtaken_in_its_pull_gives_no_row():
    """Else its rows would lie around those of the later one, and both would pass for whole."""
    asked, go = threading.Event(), threading.Event()
    batches = [zc.frame(b"%d\n" % n, framing=LINES) for n in range(2)]
    batches = [next(iter(each)) for each in batches]

    class Feed:
        schema = batches[0].schema

        def __init__(self):
            self.left = list(batches)

        def __iter__(self):
            return self

        def __next__(self):
            if len(self.left) == 2:
                asked.set()
                assert go.wait(20)
            if not self.left:
                raise StopIteration
            return self.left.pop(0)

    lazy, found = polars_source.scan(Feed(), again=True), []

    def first():
        try:
            found.append(lazy.head(1).collect())
        except (ZcrxError, pl.exceptions.ComputeError) as error:
            found.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert asked.wait(20)
    later = threading.Thread(target=lambda: found.append(lazy.collect()))
    later.start()
    # The later one has begun once it waits for a batch as well.
    eventually(lambda: next(s for s in _states.values() if s.reader).reader._queries == 2)
    go.set()
    for each in (thread, later):
        each.join(20)
    assert "is being read by another query" in str(
        next(f for f in found if not hasattr(f, "height"))
    )


def test_what_an_overtaken_query_selected_stays_the_later_ones():
    class Feed:
        schema = next(iter(zc.frame(b"a\n", framing=LINES))).schema

        def __init__(self):
            self.selected = []

        def _select(self, columns):
            self.selected.append(columns)

        def __iter__(self):
            while True:
                yield next(iter(zc.frame(b"a\n", framing=LINES)))

    feed = Feed()
    lazy = polars_source.scan(feed, again=True)
    early = iter(lazy.select("payload").collect_batches(chunk_size=1))
    next(early)
    late = iter(lazy.select("position").collect_batches(chunk_size=1))
    next(late)
    with pytest.raises((ZcrxError, pl.exceptions.ComputeError), match="by another query"):
        for _ in early:
            pass
    del early
    gc.collect()
    assert feed.selected == [["payload"], None, ["position"]]


def test_it_is_remembered_as_long_as_the_source_is_there():
    source = zc.frame(b"a\n", framing=LINES)
    begun = reading(source)
    begun.end(begun.begin())
    del begun
    gc.collect()
    with pytest.raises(ZcrxError, match="was read by a test before"):
        reading(source).begin()
    before = len(_states)
    del source
    gc.collect()
    assert len(_states) == before - 1


def test_a_list_is_remembered_while_somebody_wants_to_read_it():
    batches = list(zc.frame(b"a\n", framing=LINES))
    one, other = reading(batches), reading(batches, again=True, what="another")
    query = one.begin()
    with pytest.raises(ZcrxError, match="is being read by a test"):
        other.begin()
    one.end(query)
    other.end(other.begin())
    del one, other
    assert reading(batches).begin() == 1


def test_a_reader_that_is_about_to_end_is_waited_for():
    batches = list(zc.frame(b"a\n", framing=LINES))
    one, other = reading(batches), reading(batches, again=True)
    threading.Timer(0.1, one.end, (one.begin(),)).start()
    other.end(other.begin())


def test_a_query_that_was_left_and_comes_back_gets_no_more():
    class Feed:
        selected = ()

        def _select(self, columns):
            self.selected = (*self.selected, columns)

    feed = Feed()
    one, other = reading(feed), reading(feed, again=True)
    query = one.begin()
    one.pause(query)
    with pytest.raises(ZcrxError, match="is being read by a test"):
        reading(feed).begin()  # that one did not ask to go on
    later = other.begin()
    assert feed.selected == (None,)  # what the first one had selected is not the second one's
    with pytest.raises(ZcrxError, match="by another query"):
        one.check(query)
    one.end(query)
    with pytest.raises(ZcrxError, match="is being read by a test"):
        reading(feed, again=True).begin()
    other.end(later)


def test_a_query_that_was_left_does_not_outlast_the_one_behind_it():
    source = zc.frame(b"a\n", framing=LINES)
    one = reading(source, again=True)
    left = one.begin()
    one.pause(left)
    one.end(one.begin())
    other = reading(source, again=True)
    other.end(other.begin())
    one.end(left)


@contextmanager
def served(source, _folder):
    with flight_server.serve(source, "127.0.0.1:0"):
        yield "a Flight server"


@contextmanager
def written(source, folder):
    thread = threading.Thread(target=rolling.write, args=(source, folder), kwargs={"roll": 3600})
    thread.start()
    eventually(lambda: (folder / ".zcrx-rolling.lock").exists() or any(folder.iterdir()))
    yield r"rolling\.write\(\)"
    source.stop()
    thread.join(30)
    assert not thread.is_alive()


@contextmanager
def shown(source, _folder):
    with perspective_view.live(source, perspective_view.table(source, limit=10)):
        yield "a live table"


@pytest.mark.parametrize("reads", [served, written, shown])
def test_others_that_read_keep_everybody_out(reads, tmp_path):
    with zc.listen("127.0.0.1:0", framing=LINES, area="4 MiB") as source:
        with reads(source, tmp_path) as who:
            with pytest.raises(ZcrxError, match=rf"is being read by {who}") as error:
                polars_source.scan(source, again=True).head(1).collect()
            assert error.value.errno == errno.EBUSY
            with pytest.raises(ZcrxError, match=rf"is being read by {who}"):
                rolling.write(source, tmp_path / "other", roll=3600)
        # And let go of it at their end.
        query = reading(source, again=True).begin()
        assert query
