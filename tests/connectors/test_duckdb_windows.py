# SPDX-License-Identifier: Apache-2.0
"""Windows of a feed: against a model in plain Python, and against the clock."""

from __future__ import annotations

import gc
import socket
import threading
import time
from datetime import UTC, datetime

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcrx_arrow as zc
from tests.conftest import eventually
from zcrx_arrow import decoders, framing
from zcrx_arrow.connectors import window_rows
from zcrx_arrow.connectors.duckdb_source import windows
from zcrx_arrow.connectors.window_rows import Budget, Rows, cut
from zcrx_arrow.connectors.window_times import ByTime, TimeOptions, Times
from zcrx_arrow.errors import ConfigError, ZcrxError

EVENT = np.dtype([("at", "<i8"), ("n", "<u4")])
NULL = -(2**63)
LAYOUT = decoders.Records(EVENT, types={"at": pa.timestamp("us", "UTC")}, nulls={"at": NULL})
SCHEMA = pa.schema([("at", pa.timestamp("us", "UTC")), ("n", pa.uint32())])
BASE = 1_700_000_000_000_000  # us


class Feed:
    """Batches, as a source or replay gives them."""

    def __init__(self, schema: pa.Schema, batches: list[pa.RecordBatch]) -> None:
        self.schema, self._batches = schema, batches

    def __iter__(self):
        return iter(self._batches)


def events(times, sizes=None) -> Feed:
    """Number rows in order; cut them into batches of these sizes, again and again."""
    at = pa.array(times, pa.timestamp("us", "UTC"))
    whole = pa.record_batch([at, pa.array(range(len(times)), pa.uint32())], schema=SCHEMA)
    batches, start = [], 0
    sizes = sizes or [max(1, len(times))]
    while start < len(times):
        size = sizes[len(batches) % len(sizes)]
        batches.append(whole.slice(start, size))
        start += size
    return Feed(SCHEMA, batches)


def numbers(window) -> list[int]:
    return window.table.column("n").to_pylist()


ALL = "select n from feed"
DB = duckdb.connect()


@pytest.fixture(scope="module", autouse=True)
def closed_at_the_end():
    yield
    DB.close()


# --- by rows -----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 200), st.integers(1, 40), st.lists(st.integers(1, 50), min_size=1, max_size=5)
)
def test_windows_of_rows(count, every, sizes):
    with windows(events(range(count), sizes), every=every, sql=ALL, connection=DB) as made:
        got = list(made)
    assert [numbers(each) for each in got] == [
        list(range(start, min(count, start + every))) for start in range(0, count, every)
    ]
    for number, each in enumerate(got):
        last = number == len(got) - 1
        assert (each.number, each.start) == (number, number * every)
        assert each.end - each.start == each.rows
        assert each.partial == (each.rows < every)
        assert each.closed_by == ("end" if last and each.partial else "full")
    assert made.stats.rows == count
    assert made.stats.open_rows == made.stats.open_bytes == 0


# --- by event time, against a model ------------------------------------------------------------


def model(times, every, offset, lateness, empty):
    """Row by row: (start, rows, partial, late and untimed so far) of each window, and the rest."""
    open_, given_, top, closed = {}, [], None, None
    strays = {"late": [], "untimed": []}

    def close(start, partial):
        given_.append((start, open_.pop(start, []), partial, dict(strays)))
        strays.update(late=[], untimed=[])

    def close_below(bound, partial):
        due = sorted(start for start in open_ if start < bound)
        if empty and (given_ or due):
            first = given_[-1][0] + every if given_ else due[0]
            due = range(first, bound, every)
        for start in due:
            close(start, partial)

    for number, time_ in enumerate(times):
        if time_ is None:
            strays["untimed"].append(number)
            continue
        start = (time_ - offset) // every * every + offset
        if closed is not None and start < closed:
            strays["late"].append(number)
            continue
        open_.setdefault(start, []).append(number)
        top = time_ if top is None else max(top, time_)
        bound = (top - lateness - offset) // every * every + offset
        if closed is None or bound > closed:
            close_below(bound, partial=False)
            closed = bound
    if open_:
        close_below(max(open_) + every, partial=True)
    return given_, strays


TIMES = st.lists(st.one_of(st.none(), st.integers(0, 300)), max_size=80)


@settings(max_examples=300, deadline=None)
@given(
    times=TIMES,
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    every=st.integers(1, 60),
    shift=st.integers(0, 59),
    lateness=st.integers(0, 100),
    empty=st.booleans(),
)
def test_windows_of_time_are_the_models(times, sizes, every, shift, lateness, empty):
    times = [None if each is None else each + BASE for each in times]
    offset = shift % every
    given_, rest = model(times, every, offset, lateness, empty)
    options = {
        "every": f"{every} us",
        "offset": f"{offset} us",
        "lateness": f"{lateness} us",
        "late": "keep",
        "empty": "give" if empty else "skip",
        "on": "at",
    }
    with windows(events(times, sizes), sql=ALL, connection=DB, **options) as made:
        got = list(made)
        late = made.strays
    assert [(each.start, numbers(each), each.partial) for each in got] == [
        (start * 1000, rows, partial) for start, rows, partial, _ in given_
    ]
    for each, (start, rows, _, strays) in zip(got, given_, strict=True):
        assert (each.late, each.untimed) == (len(strays["late"]), len(strays["untimed"]))
        assert each.strays["n"].to_pylist() == sorted(strays["late"] + strays["untimed"])
        assert each.end == (start + every) * 1000
        assert each.rows == len(rows)
    assert late["n"].to_pylist() == sorted(rest["late"] + rest["untimed"])
    # Every row is in one window or astray.
    stats = made.stats
    assert sum(each.rows for each in got) + stats.late + stats.untimed == stats.rows == len(times)
    assert stats.open_rows == stats.open_bytes == 0


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_all_timestamps(unit, zone):
    seconds = [10, 11, 25]
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    at = pa.array([each * per_second for each in seconds], pa.timestamp(unit, zone))
    batch = pa.record_batch({"at": at, "n": pa.array([0, 1, 2], pa.uint32())})
    got = list(windows(Feed(batch.schema, [batch]), every="10 s", on="at", sql=ALL))
    assert [(each.start, numbers(each)) for each in got] == [
        (10 * 10**9, [0, 1]),
        (20 * 10**9, [2]),
    ]
    assert got[0].starts_at == datetime.fromtimestamp(10, UTC)
    assert got[0].ends_at == datetime.fromtimestamp(20, UTC)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_that_cannot_be_counted_are_untimed(unit):
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    raw = [2**63 - 1, -(2**63), 5 * per_second, 0, 2**63 - 1, -(2**63) + 1]
    batch = pa.record_batch(
        {"at": pa.array(raw, pa.timestamp(unit)), "n": pa.array(range(6), pa.uint32())}
    )
    made = windows(Feed(batch.schema, [batch]), every="10 s", on="at", sql=ALL, lateness="300 h")
    (window,) = list(made)
    assert numbers(window) == [2, 3]
    assert made.stats.untimed == 4


def test_ahead():
    now = time.time_ns() // 1000
    times = [now, now + 3_600_000_000, now, now + 1_000_000]
    options = {"every": "1 min", "on": "at", "sql": "select min(n) as n from feed"}
    made = windows(events(times), ahead="10 min", late="keep", lateness="5 min", **options)
    got = list(made)
    assert sum(each.rows for each in got) == 3
    assert got[0].ahead == 1
    assert got[0].strays["n"].to_pylist() == [1]
    assert not made.stats.late
    made = windows(events(times), **options)
    list(made)
    assert made.stats.late == 2  # what one wrong clock does without it


def test_late_rows_can_be_an_error():
    made = windows(events([100, 200, 0, 300]), every="50 us", on="at", sql=ALL, late="error")
    assert numbers(next(made)) == [0]
    with pytest.raises(ZcrxError, match="1 late"):
        list(made)


def test_parameters_and_joins():
    db = duckdb.connect()
    db.execute("create table names as select 1 as n, 'one' as name")
    sql = (
        "select $window as w, $window_start as s, $window_end as e, count(*) as c, max(name) as m "
        "from feed left join names using (n)"
    )
    made = windows(events([0, 1, 11]), every="10 us", on="at", sql=sql, connection=db)
    first, second = (each.table.to_pylist()[0] for each in made)
    assert (first["w"], first["c"], first["m"]) == (0, 2, "one")
    assert first["e"] == second["s"] == datetime.fromtimestamp(0, UTC).replace(microsecond=10)
    rows = list(windows(events([0] * 5), every=2, sql=sql, connection=db))
    assert [each.table["s"][0].as_py() for each in rows] == [0, 2, 4]
    # It is the caller's, and nothing of ours remains in it.
    assert db.sql("select count(*) from duckdb_views() where not internal").fetchall() == [(0,)]
    db.close()


def test_a_text_that_writes():
    db = duckdb.connect()
    db.execute("create table totals (w bigint, c bigint)")
    sql = "insert into totals select $window, count(*) from feed"
    assert len(list(windows(events([0] * 5), every=2, sql=sql, connection=db))) == 3
    assert db.sql("from totals order by w").fetchall() == [(0, 2), (1, 2), (2, 1)]
    db.close()


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"every": 0}, "every=0"),
        ({"every": "0 s"}, "every='0 s'"),
        ({"every": "10 ns"}, "microseconds"),
        ({"every": "1500 ns"}, "microseconds"),
        ({"every": "1000 d"}, "every='1000 d'"),
        ({"every": 10, "on": "at"}, "on='at' means nothing"),
        ({"every": 10, "late": "keep"}, "late= and empty="),
        ({"every": "1 s", "idle": "1 s"}, "idle='1 s' means nothing"),
        ({"every": "1 s", "lateness": "1 s"}, "lateness='1 s' means nothing"),
        ({"every": "1 s", "on": "n"}, "uint32, not a timestamp"),
        ({"every": "1 s", "on": "nope"}, "on='nope' must name"),
        ({"every": "1 s", "on": "at", "offset": "2 s"}, "offset='2 s' must be less"),
        ({"every": "1 s", "on": "at", "late": "maybe"}, "late='maybe'"),
        ({"every": "1 s", "empty": "maybe"}, "empty='maybe'"),
        ({"every": 10, "max_rows": 5}, "every=10 must be a whole number from 1 to 5"),
        ({"every": 10, "sql": "select 1; select 2"}, "one statement, not 2"),
        ({"every": 10, "sql": "select ?"}, "parameters \\['1'\\]"),
        ({"every": 10, "sql": 5}, "sql= must be text"),
        ({"every": 10, "name": ""}, "is no name"),
    ],
)
def test_options_that_cannot_work(options, match):
    with pytest.raises(ConfigError, match=match):
        windows(events([1]), **({"sql": ALL} | options))


def test_a_unit_that_is_too_coarse():
    schema = pa.schema([("at", pa.timestamp("s"))])
    with pytest.raises(ConfigError, match="multiple of 1000000000 ns"):
        windows(Feed(schema, []), every="1500 ms", on="at", sql="from feed")


def test_a_text_that_does_not_fit_is_refused_before_a_byte(send):
    with zc.listen("127.0.0.1:0", decode=LAYOUT) as source:
        for sql in ("select nope from feed", "selec", "select from feed", "from nothing"):
            with pytest.raises(duckdb.Error):
                windows(source, every=10, sql=sql)
        assert source.metrics().bytes == 0


def test_a_text_that_fails_names_its_window():
    sql = "select case when min(n) >= 2 then error('no') else 0 end as n from feed"
    made = windows(events(range(4)), every=2, sql=sql)
    assert numbers(next(made)) == [0]
    with pytest.raises(duckdb.Error, match="no") as raised:
        next(made)
    assert raised.value.__notes__ == ["in window 1, from 2 to 4, of 2 rows"]
    with pytest.raises(StopIteration):
        next(made)


def test_open_windows_are_bounded():
    made = windows(events(range(100), [10]), every="1 h", on="at", sql=ALL, max_rows=50)
    with pytest.raises(ZcrxError, match="the limit is 50 rows"):
        list(made)
    made = windows(events(range(100), [10]), every="1 h", on="at", sql=ALL, max_bytes="600 B")
    with pytest.raises(ZcrxError, match="and 600 bytes"):
        list(made)
    made = windows(
        events([0, 10**9] * 40), every="1 us", on="at", sql=ALL, late="keep", max_rows=30
    )
    with pytest.raises(ZcrxError, match="the limit is 30 rows"):
        list(made)


def test_a_gap_of_many_empty_windows_is_an_error():
    feed = events([0, 10**12])
    with pytest.raises(ZcrxError, match="windows without rows"):
        list(windows(feed, every="1 us", on="at", sql=ALL, empty="give"))


@pytest.mark.parametrize("closed_by", ["end", "row"])
@pytest.mark.parametrize(("gap", "count"), [(4_999, 10), (10_001, 1)])
def test_gaps_of_empty_windows_are_counted_one_by_one(closed_by, gap, count):
    schema = pa.schema({"at": pa.timestamp("us", "UTC")})
    options = TimeOptions(
        every=1000,
        offset=0,
        lateness=10**9,
        late="drop",
        ahead=None,
        idle=None,
        empty=True,
        arrival=False,
    )
    shape = ByTime(schema, Budget(1000, 10**6), Times(schema, "at"), options, 0)

    def at(*times):
        return pa.record_batch([pa.array(times, schema.field(0).type)], schema=schema)

    last = count * (gap + 1)
    assert not list(shape.add(at(*range(0, last + 1, gap + 1)), 0))

    def close():
        return list(shape.finish() if closed_by == "end" else shape.add(at(last + 10**6 + 1), 0))

    if gap > 10_000:
        with pytest.raises(ZcrxError, match="10,001 windows without rows"):
            close()
    else:
        assert len(close()) == last + 1


# --- memory ------------------------------------------------------------------------------------


def test_small_pieces_are_joined():
    budget = Budget(10**9, 10**9)
    rows = Rows(SCHEMA, budget)
    batch = events(range(3))._batches[0]
    for _ in range(20_000):
        rows.add(batch, 10)
    assert len(rows._pieces) < 200
    assert rows.take()["n"].to_pylist() == [0, 1, 2] * 20_000
    assert budget.rows == budget.bytes == 0


COLUMNS = {
    "binary_view": pa.array([b"x" * 20, None, b"", b"short", b"y" * 13], pa.binary_view()),
    "string_view": pa.array(["x" * 20, None, "", "short", "y" * 13], pa.string_view()),
    "nested": pa.array(
        [[b"x" * 20], None, [], [b"a", None], [b"y" * 13]], pa.list_(pa.binary_view())
    ),
    "dictionary": pa.array(["a", "b", None, "a", "c"]).dictionary_encode(),
    "decimal": pa.array([1, 2, None, 4, 5], pa.decimal128(20, 4)),
}


def test_kept_strays_are_joined():
    schema = pa.schema({"at": pa.timestamp("us", "UTC")})
    times = Times(schema, "at")
    options = TimeOptions(
        every=10**9,
        offset=0,
        lateness=0,
        late="keep",
        ahead=None,
        idle=None,
        empty=False,
        arrival=False,
    )
    budget = Budget(10**6, 10**6)
    shape = ByTime(schema, budget, times, options, 0)
    first = pa.record_batch([pa.array([10**9], schema.field(0).type)], schema=schema)
    two = pa.record_batch([pa.array([1, 10**9], schema.field(0).type)], schema=schema)
    for batch in [first, *[two] * 1000]:
        assert not list(shape.add(batch, 0))
    (window,) = shape.finish()
    assert (window.rows.num_rows, window.strays.late) == (1001, 1000)
    assert sum(piece.num_rows for piece in window.strays.kept) == 1000
    assert len(window.strays.kept) < 100
    assert (budget.rows, budget.bytes) == (0, 0)


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize(
    "wanted", [[0], [4], [1, 3], [0, 1, 2], [2, 3, 4], [0, 2, 4], [0, 1, 2, 3, 4]]
)
def test_rows_are_cut_out_of_every_type(kind, wanted):
    batch = pa.record_batch({"c": COLUMNS[kind]})
    for start in (0, 1):  # also of a batch that begins within its buffers
        part = batch.slice(start)
        mine = np.array([each - start for each in wanted if each >= start])
        if not len(mine):
            continue
        piece, share = cut(part, mine)
        piece.validate(full=True)
        assert piece["c"].to_pylist() == [part["c"].to_pylist()[each] for each in mine]
        assert piece["c"].type == COLUMNS[kind].type
        assert share > 0 or not part.nbytes


def test_a_row_alone_does_not_hold_its_batch():
    whole = pa.record_batch({"c": pa.array([b"x" * 1000] * 1000, pa.binary_view())})
    piece, _ = cut(whole, np.array([3]))
    assert piece.get_total_buffer_size() < 5000


def test_batches_are_held_only_while_their_window_is_open():
    lines = b"".join(b"line %d of a feed, long enough\n" % n for n in range(1000))
    with zc.listen("127.0.0.1:0", framing=framing.Delimited()) as source:
        with socket.create_connection(source.address) as peer:
            sql = "select count(*) as n, max(payload) as m from feed"
            with windows(source, every=1000, sql=sql) as made:
                for _ in range(3):
                    peer.sendall(lines)
                    assert numbers(next(made)) == [1000]
                peer.sendall(lines[:500])
                # a window is open now; leaving ends that
                threading.Timer(0.3, source.stop).start()
                assert next(made).partial
        eventually(lambda: (gc.collect(), source.metrics().batches_held == 0)[1])
        assert source.metrics().chunks_leased == 0


def test_leaving_early_releases_and_frees_the_source():
    with (
        zc.listen("127.0.0.1:0", decode=LAYOUT) as source,
        socket.create_connection(source.address) as peer,
    ):
        peer.sendall(np.zeros(100, EVENT).tobytes())
        for window in windows(source, every=10, sql=ALL):
            assert window.rows == 10
            break
        made = windows(source, every=10, sql=ALL)
        peer.sendall(np.zeros(10, EVENT).tobytes())
        assert next(made).rows == 10
        with pytest.raises(ZcrxError, match=r"is being read by windows\(\)"):
            next(windows(source, every=10, sql=ALL))
        made.close()
        made.close()
        peer.sendall(np.zeros(10, EVENT).tobytes())
        with windows(source, every=10, sql=ALL) as made:
            assert next(made).rows == 10


def test_rows_that_lie_in_the_area(monkeypatch):
    """Views into receive memory, disordered: taken apart and put together as any others."""
    monkeypatch.setattr(window_rows, "_SMALL_ROWS", 10**6)
    count = 5000
    lines = b"".join(b"%d is a line that is not so short\n" % n for n in range(count))
    with zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1) as source:
        with socket.create_connection(source.address) as peer:
            peer.sendall(lines)
        sql = "select list(payload::varchar) as n from feed"
        got = [window.table["n"][0].as_py() for window in windows(source, every=7, sql=sql)]
    assert [each for rows in got for each in rows] == [each.decode() for each in lines.splitlines()]


# --- the clock ---------------------------------------------------------------------------------


def shape(**options) -> ByTime:
    known = {
        "every": 10_000,
        "offset": 0,
        "lateness": 0,
        "late": "drop",
        "ahead": None,
        "idle": None,
        "empty": False,
        "arrival": False,
    }
    options = TimeOptions(**(known | options))
    schema = SCHEMA
    return ByTime(
        schema, Budget(10**6, 10**6), Times(schema, None if options.arrival else "at"), options, 0
    )


def starts(closings) -> list[tuple[int, int, str]]:
    return [(each.start // 1000, each.rows.num_rows, each.closed_by) for each in closings]


def test_silence_goes_on_with_the_clock():
    by_time = shape(idle=5_000, lateness=3_000)
    (batch,) = events([101, 112])
    clock = 1_000_000
    assert starts(by_time.add(batch, clock)) == []  # watermark 109 us
    assert by_time.due() == clock + 5_000  # 110 is reached after 1 us, but idle is 5
    assert starts(by_time.tick(clock + 4_999)) == []
    assert starts(by_time.tick(clock + 5_000)) == [(100, 1, "idle")]
    assert by_time.due() == clock + (120 + 3 - 112) * 1000
    assert starts(by_time.tick(by_time.due() - 1)) == []
    assert starts(by_time.tick(by_time.due())) == [(110, 1, "idle")]
    assert by_time.due() is None
    # Time stands again once rows come; those of closed windows are late.
    (batch,) = events([119, 121])
    assert starts(by_time.add(batch, clock + 50_000)) == []
    assert starts(by_time.finish()) == [(120, 1, "end")]


def test_silence_gives_empty_windows_if_asked():
    by_time = shape(idle=5_000, empty=True)
    (batch,) = events([101])
    assert starts(by_time.add(batch, 0)) == []
    assert starts(by_time.tick(40_000)) == [
        (100, 1, "idle"),
        (110, 0, "idle"),
        (120, 0, "idle"),
        (130, 0, "idle"),
    ]
    assert by_time.due() == 49_000


def test_arrival_is_closed_by_the_clock():
    by_time = shape(arrival=True, empty=True)
    (batch,) = events([None, None])
    assert starts(by_time.add(batch, 3_000)) == []
    assert by_time.due() == 10_000
    (first,) = by_time.tick(10_000)
    assert (first.start, first.partial, first.closed_by) == (0, True, "time")
    assert starts(by_time.add(batch, 34_000)) == [(10, 0, "time"), (20, 0, "time")]
    (last,) = by_time.finish()
    assert (last.start, last.rows.num_rows, last.partial) == (30_000, 2, True)


@pytest.mark.parametrize("by", ["arrival", "event", "rows"])
def test_a_silent_feed_closes_windows(by):
    options = {
        "arrival": {"every": "200 ms"},
        "event": {"every": "200 ms", "on": "at", "idle": "50 ms"},
        "rows": {"every": 100, "idle": "200 ms"},
    }[by]
    with (
        zc.listen("127.0.0.1:0", decode=LAYOUT) as source,
        socket.create_connection(source.address) as peer,
    ):
        made = np.zeros(3, EVENT)
        made["at"] = time.time_ns() // 1000
        peer.sendall(made.tobytes())
        with windows(source, sql="select count(*) as n from feed", **options) as results:
            begin = time.monotonic()
            window = next(results)
            assert numbers(window) == [3]
            assert time.monotonic() - begin < 20
            assert window.closed_by == ("time" if by == "arrival" else "idle")
            assert by == "arrival" or window.partial == (by == "rows")
            assert source.metrics().connections == 1  # nothing has ended


def test_a_slow_consumer_is_no_silence():
    """Rows that lay in the queue all the time do not come late."""
    with (
        zc.listen("127.0.0.1:0", decode=LAYOUT, accept=1) as source,
        socket.create_connection(source.address) as peer,
    ):
        options = {"every": "10 us", "on": "at", "idle": "50 ms", "sql": ALL}
        with windows(source, **options) as results:
            for number in range(4):
                made = np.zeros(1, EVENT)
                made["at"] = BASE + 10 * number
                peer.sendall(made.tobytes())
                peer.sendall(made.tobytes())
                eventually(lambda n=number: source.metrics().bytes == (n + 1) * 24)
            peer.shutdown(socket.SHUT_WR)
            for _ in range(3):
                next(results)
                time.sleep(0.2)
            assert len(list(results)) <= 1
        assert results.stats.late == 0
        assert results.stats.rows == 8


def test_partial_is_where_looking_began(send):
    with zc.listen("127.0.0.1:0", accept=1) as source:
        found = windows(source, every="1 h", sql="select 1 from feed limit 0")
        made = found._work._clock.now()
        found._work._clock._ahead += 3600 * 10**9  # an hour later
        send(source.address, b"x")
        (window,) = found
    assert window.start > made
    assert window.partial


def test_closing_the_source_gives_what_is_open():
    with (
        zc.listen("127.0.0.1:0", decode=LAYOUT) as source,
        socket.create_connection(source.address) as peer,
    ):
        peer.sendall(np.zeros(3, EVENT).tobytes())
        results = windows(source, every=10, sql="select count(*) as n from feed")
        timer = threading.Timer(0.5, source.close)
        timer.start()
        window = next(results)
        assert (numbers(window), window.partial, window.closed_by) == ([3], True, "end")
        timer.join()
