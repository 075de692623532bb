# SPDX-License-Identifier: Apache-2.0
"""A feed into a table: rows and position are committed together, whatever happens."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcrx_arrow as zc
from tests.conftest import ROOT, eventually
from zcrx_arrow import decoders, framing
from zcrx_arrow.connectors import duckdb_append
from zcrx_arrow.connectors.duckdb_source import append, position, positions
from zcrx_arrow.errors import ConfigError, ZcrxError

ROW = np.dtype([("n", "<u8"), ("x", "<f8")])
SIZE = ROW.itemsize
KEPT = decoders.Records(ROW, keep=["connection", "position"])
BARE = decoders.Records(ROW)


def rows(first: int, last: int) -> bytes:
    made = np.empty(last - first, ROW)
    made["n"] = np.arange(first, last)
    made["x"] = made["n"] / 2
    return made.tobytes()


@pytest.fixture
def db(tmp_path):
    with duckdb.connect(tmp_path / "feed.db") as connection:
        yield connection


def numbers(db, table="t") -> list[int]:
    return [n for (n,) in db.sql(f"select n from {table} order by rowid").fetchall()]


def few(layout=KEPT, data=None, count=1000):
    """Replay rows in batches of 64."""
    return pieces(data if data is not None else rows(0, count), layout, 64)


def pieces(data, layout, size):
    batching = zc.Batching(max_bytes=size * SIZE)
    return zc.decode(data, layout, fragment=size * SIZE, batching=batching)


def test_batches_are_small():
    assert len(list(few())) > 10


# --- what is committed -------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [{"max_rows": 100}, {"max_bytes": "2 KiB"}, {"interval": 0}, {}])
def test_rows_and_position(db, limit):
    seen = []
    done = append(few(), db, "t", feed="f", on_commit=seen.append, **limit)
    assert numbers(db) == list(range(1000))
    assert (done.rows, done.skipped, done.commits) == (1000, 0, len(seen))
    assert (done.commits > 1) == bool(limit)
    at = position(db, "f")
    assert (at.position, at.rows, at.connection, at.run) == (999 * SIZE, 1000, 1, 0)
    assert [each.rows for (each,) in seen] == sorted({each.rows for (each,) in seen})
    assert done.positions[0].rows == at.rows == seen[-1][0].rows
    assert position(db, "other") is None


def test_by_path(tmp_path):
    path = tmp_path / "made.db"
    assert position(path, "f") is None
    assert not path.exists()
    append(few(), path, "t", feed="f")
    assert position(str(path), "f").rows == 1000
    with duckdb.connect(path) as db:
        assert numbers(db) == list(range(1000))


def test_a_live_feed_of_several_connections(db):
    with zc.listen("127.0.0.1:0", decode=KEPT, accept=3) as source:
        peers = [socket.create_connection(source.address) for _ in range(3)]
        for number, peer in enumerate(peers):
            peer.sendall(rows(1000 * number, 1000 * number + 10 + number))
            peer.close()
        done = append(source, db, "t", feed="f")
        there = {row["id"]: row["peer"] for row in source.connections().to_pylist()}
    assert done.rows == 33
    assert sorted(each.rows for each in positions(db, "f")) == [10, 11, 12]
    for each in positions(db, "f"):
        assert each.peer == there[each.connection]
        assert each.position == (each.rows - 1) * SIZE
    with pytest.raises(ZcrxError, match="had 3 connections"):
        position(db, "f")
    with pytest.raises(ZcrxError, match="had 3 connections"):
        append(few(), db, "t", feed="f", resume="skip")
    assert append(few(), db, "t", feed="f", resume="anew").positions[0].run == 1
    assert position(db, "f").run == 1


def test_a_silent_feed_is_committed_in_time(tmp_path):
    path = tmp_path / "feed.db"
    with zc.listen("127.0.0.1:0", decode=KEPT) as source, duckdb.connect(path) as db:
        with socket.create_connection(source.address) as peer:
            done = []
            work = threading.Thread(
                target=lambda: done.append(append(source, db, "t", feed="f", interval="50 ms"))
            )
            work.start()
            for count in (5, 10):
                peer.sendall(rows(count - 5, count))
                eventually(lambda n=count: (at := position(db, "f")) and at.rows == n)
            assert source.metrics().connections == 1
            source.stop()
            work.join(20)
            assert done[0].rows == 10
        eventually(lambda: (gc.collect(), source.metrics().batches_held == 0)[1])
        assert source.metrics().chunks_leased == 0


def test_a_feed_in_receive_memory_that_must_not_be_copied_out(db):
    lines = b"".join(b"line %d of a feed, long enough\n" % n for n in range(40_000))
    options = {"framing": framing.Delimited(), "area": "1 MiB", "copy_out": "never", "accept": 1}
    limits = zc.Limits(exhausted_after="50 ms")
    with zc.listen("127.0.0.1:0", limits=limits, **options) as source:

        def send():
            with socket.create_connection(source.address) as peer:
                peer.sendall(lines)

        thread = threading.Thread(target=send)
        thread.start()
        done = append(source, db, "t", feed="f", interval="60 s")
        thread.join()
    assert done.rows == 40_000
    assert done.commits > 1
    assert b"".join(each + b"\n" for (each,) in db.sql("select payload from t").fetchall()) == lines


def test_columns_and_a_table_that_is_there(db):
    db.execute("create schema s")
    db.execute("create table s.t (id integer default 7, x double, n bigint)")
    append(few(count=3), db, "s.t", feed="f", columns=["n", "x"])
    assert db.sql("from s.t").fetchall() == [(7, 0.0, 0), (7, 0.5, 1), (7, 1.0, 2)]
    assert position(db, "f", table="s.zcrx_arrow_positions").position == 2 * SIZE


def test_rows_that_do_not_say_where_they_come_from(db):
    append(few(BARE), db, "t", feed="f")
    assert [(at.connection, at.position, at.rows) for at in positions(db, "f")] == [(0, None, 1000)]
    with pytest.raises(ConfigError, match=r"resume='skip' needs|without positions"):
        append(few(BARE), db, "t", feed="f", resume="skip")
    with pytest.raises(ConfigError, match="without positions"):
        append(few(), db, "t", feed="f", resume="skip", columns=["n", "x"])


# --- going on ----------------------------------------------------------------------------------


class StopHereError(Exception):
    pass


@settings(max_examples=25, deadline=None)
@given(
    stops=st.lists(st.integers(1, 5), max_size=4),
    max_rows=st.integers(1, 300),
    fragment=st.integers(1, 80),
    whole=st.booleans(),
)
def test_no_gap_and_no_repetition(stops, max_rows, fragment, whole):
    """Stopped after some commits, begun again: from where it was, or from the beginning."""
    count = 300
    with duckdb.connect() as db:
        for stop in [*stops, None]:
            at = position(db, "f")
            base = 0 if at is None or whole else at.position
            left = [stop]

            def told(_, left=left):
                if left[0] is not None:
                    left[0] -= 1
                    if not left[0]:
                        raise StopHereError

            replay = pieces(rows(0, count)[base:], KEPT, fragment)
            try:
                options = {"resume": "skip", "base": base, "max_rows": max_rows}
                append(replay, db, "t", feed="f", on_commit=told, **options)
            except StopHereError:
                pass
            at = position(db, "f")
            there = numbers(db)
            assert there == list(range(at.rows))
            assert at.position == (at.rows - 1) * SIZE
        assert there == list(range(count))


def test_an_error_of_the_source_comes_after_what_was_before_it(db):
    bad = framing.LengthPrefixed("u8")
    messages = b"".join(bytes([SIZE]) + rows(n, n + 1) for n in range(50))
    with pytest.raises(zc.errors.FramingError):
        append(zc.decode(messages + b"\x05short", KEPT, bad), db, "t", feed="f")
    assert numbers(db) == list(range(50))
    assert position(db, "f").rows == 50


def test_ctrl_c_keeps_what_came(db):
    class Stopping:
        schema = KEPT.schema

        def __iter__(self):
            yield from few()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append(Stopping(), db, "t", feed="f", interval="60 s")
    assert len(numbers(db)) == position(db, "f").rows == 1000


def test_ctrl_c_within_a_transaction_keeps_what_came(db, monkeypatch):
    store, told = duckdb_append.store, []

    def storing(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return store(*arguments)

    monkeypatch.setattr(duckdb_append, "store", storing)
    with pytest.raises(KeyboardInterrupt):
        append(few(), db, "t", feed="f", max_rows=50, on_commit=told.append)
    there = numbers(db)
    assert 0 < len(there) < 1000
    assert there == list(range(position(db, "f").rows))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_columns_that_are_only_called_so(db):
    of_others = pa.table({"connection": ["a", None], "position": [3, -5], "n": [0, 1]})

    class Feed:
        schema = of_others.schema

        def __iter__(self):
            return iter(of_others.to_batches())

    append(Feed(), db, "t", feed="f")
    assert db.sql("select connection, position from t").fetchall() == [("a", 3), (None, -5)]
    assert [(at.connection, at.position, at.rows) for at in positions(db, "f")] == [(0, None, 2)]


def test_feeds_that_begin_at_the_same_moment():
    for _ in range(5):
        together, failed = threading.Barrier(3), []

        def run(db, feed, together=together, failed=failed):
            together.wait()
            try:
                append(few(), db, "t", feed=feed)
            except duckdb.Error as error:
                failed.append(error)
            except ConfigError as error:
                failed.append(error)

        with duckdb.connect() as db:
            threads = [threading.Thread(target=run, args=(db, feed)) for feed in "abc"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failed
            assert len(numbers(db)) == 3000


def test_resume_must_be_said(db):
    append(few(), db, "t", feed="f")
    with pytest.raises(ZcrxError, match="was appended before, 1,000 rows up to 15984"):
        append(few(), db, "t", feed="f")
    assert append(few(), db, "t", feed="f", resume="skip").skipped == 1000
    assert append(few(), db, "t", feed="f", resume="anew").rows == 1000
    assert len(numbers(db)) == 2000


def test_a_gap_is_an_error(db):
    append(few(count=100), db, "t", feed="f")
    for base, data in ((101 * SIZE, rows(101, 110)), (0, rows(0, 99)), (0, b"")):
        with pytest.raises(ZcrxError, match="did not come again"):
            append(few(data=data), db, "t", feed="f", resume="skip", base=base)
        assert len(numbers(db)) == 100
    options = {"resume": "skip", "base": 101 * SIZE, "gap": "allow"}
    assert append(few(data=rows(101, 110)), db, "t", feed="f", **options).rows == 9
    assert position(db, "f").position == 109 * SIZE


def test_a_second_connection_cannot_go_on(db):
    append(few(count=10), db, "t", feed="f")
    with zc.listen("127.0.0.1:0", decode=KEPT, accept=2) as source:
        for _ in range(2):
            with socket.create_connection(source.address) as peer:
                peer.sendall(rows(0, 20))
        with pytest.raises(ZcrxError, match="rows of another connection"):
            append(source, db, "t", feed="f", resume="skip")
    assert numbers(db) in (list(range(10)), list(range(20)))


def test_positions_that_go_back(db):
    (batch,) = zc.decode(rows(0, 10), KEPT)

    class Repeating:
        schema = KEPT.schema

        def __iter__(self):
            return iter([batch, batch])

    with pytest.raises(ZcrxError, match="go back"):
        append(Repeating(), db, "t", feed="f")
    assert len(numbers(db)) == position(db, "f").rows == 10


# --- transactions that fail --------------------------------------------------------------------


def test_a_value_that_does_not_fit(db):
    db.execute("create table t (n utinyint, x double)")
    with pytest.raises(duckdb.ConversionException):
        append(few(), db, "t", feed="f", columns=["n", "x"], max_rows=50)
    at = position(db, "f")
    assert len(numbers(db)) == at.rows > 0
    assert at.position == (at.rows - 1) * SIZE
    assert at.rows <= 256


def test_somebody_else_appends_to_the_feed(db):
    def meddle(_):
        with db.cursor() as other:
            other.execute("update zcrx_arrow_positions set rows = rows + 1")

    with pytest.raises(ZcrxError, match="something else appends"):
        append(few(), db, "t", feed="f", max_rows=50, on_commit=meddle)
    assert len(numbers(db)) + 1 == position(db, "f").rows


def test_two_readers_of_one_source(db):
    with zc.listen("127.0.0.1:0", decode=KEPT) as source:
        work = threading.Thread(target=lambda: append(source, db, "t", feed="f"))
        work.start()
        try:
            eventually(lambda: db.sql("from duckdb_tables()").fetchall())
            with (
                duckdb.connect() as other,
                pytest.raises(ZcrxError, match=r"is being read by append\(\)"),
            ):
                append(source, other, "t", feed="f")
        finally:
            source.close()
            work.join(20)
        with pytest.raises(ZcrxError, match="is closed"):
            append(source, db, "t", feed="f")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"feed": ""}, "feed=''"),
        ({"resume": "maybe"}, "resume='maybe'"),
        ({"gap": "maybe"}, "gap='maybe'"),
        ({"base": -1}, "base=-1"),
        ({"max_rows": 0}, "max_rows=0"),
        ({"max_bytes": "x"}, "max_bytes='x'"),
        ({"interval": "x"}, "interval='x'"),
        ({"table": "a.b.c.d"}, "must be table"),
        ({"database": 5}, "must be a DuckDB connection"),
        ({"columns": ["nope"]}, "does not fit table"),
        ({"create": False}, "does not fit table"),
        ({"table": "there"}, "does not fit table"),
    ],
)
def test_what_cannot_work_is_said_before_the_first_byte(db, options, match):
    db.execute("create table there (other int)")
    with zc.listen("127.0.0.1:0", decode=KEPT) as source:
        known = {"database": db, "table": "t", "feed": "f"} | options
        with pytest.raises(ConfigError, match=match):
            append(source, known.pop("database"), known.pop("table"), **known)


# --- kill -9, and a full disk ------------------------------------------------------------------

CHILD = """
    import struct, sys, time, numpy as np, zcrx_arrow as zc
    from zcrx_arrow.connectors import duckdb_append, duckdb_source
    path, port, pause = sys.argv[1], int(sys.argv[2]), sys.argv[3]

    at = duckdb_source.position(path, "f")
    base = at.position if at else 0
    commits = 0

    def told(positions):
        global commits
        commits += 1
        print(positions[0].rows, flush=True)

    def paused(when, call):
        def instead(*args, **options):
            if pause == "before " + when and commits >= 3:
                print("paused", flush=True)
                time.sleep(60)
            result = call(*args, **options)
            if pause == "after " + when and commits >= 3:
                print("paused", flush=True)
                time.sleep(60)
            return result
        return instead

    duckdb_append.store = paused("position", duckdb_append.store)
    layout = zc.decoders.Records([("n", "<u8"), ("x", "<f8")], keep=["connection", "position"])
    greeting = struct.pack("<Q", base)
    batching = zc.Batching(max_bytes="16 KiB")
    options = {"decode": layout, "greeting": greeting, "batching": batching}
    with zc.connect(("127.0.0.1", port), **options) as source:
        duckdb_source.append(
            source, path, "t", feed="f", resume="skip", base=base, max_rows=2000, on_commit=told
        )
    print("done", flush=True)
"""
COUNT = 1_000_000


@contextmanager
def replayer():
    """Send the feed from the byte on that each peer asks for, as logs and brokers do."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                try:
                    (at,) = struct.unpack("<Q", peer.recv(8, socket.MSG_WAITALL))
                    peer.sendall(rows(at // SIZE, COUNT))
                    peer.shutdown(socket.SHUT_WR)
                    peer.recv(1)
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(20)


@contextmanager
def child(path, port, pause="never"):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(path), str(port), pause],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def check(path) -> int:
    """See that rows are exactly those up to the position; gives how many there are."""
    with duckdb.connect(path) as db:
        if position(db, "f") is None:
            return 0
        (row,) = db.sql("select count(*), count(distinct n), min(n), max(n) from t").fetchall()
        at = position(db, "f")
        assert row == (at.rows, at.rows, 0, at.rows - 1)
        assert at.position == (at.rows - 1) * SIZE
        return at.rows


def test_kill_9_between_and_within_transactions(tmp_path):
    path = tmp_path / "feed.db"
    before = 0
    with replayer() as port:
        for pause in ("before position", "after position"):
            with child(path, port, pause) as process:
                told = [process.stdout.readline().strip() for _ in range(4)]
                assert told[3] == "paused", (told, process.stderr.read())
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            now = check(path)
            # The transaction that was under way has left nothing.
            assert now == int(told[2]) > before
            before = now
        for lines in (1, 2):
            with child(path, port) as process:
                told = [process.stdout.readline().strip() for _ in range(lines)]
                assert told[-1].isdigit(), (told, process.stderr.read())
                threading.Event().wait(random.random() * 0.03)
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            now = check(path)
            assert now >= int(told[-1]) > before
            before = now
        with child(path, port) as process:
            out, err = process.communicate(timeout=60)
            assert out.endswith("done\n"), err
    assert check(path) == COUNT


@pytest.mark.parametrize("use", ["append", "windows"])
def test_a_program_may_end_while_a_thread_of_it_is_at_work(run_python, tmp_path, use):
    path = tmp_path / "feed.db"
    calls = {
        "append": f'duckdb_source.append(source, {str(path)!r}, "t", feed="f", interval="60 s")',
        "windows": 'list(duckdb_source.windows(source, every=1000, sql="from feed"))',
    }
    done = run_python(
        f"""
        import socket, sys, threading, time, zcrx_arrow as zc
        from zcrx_arrow.connectors import duckdb_source
        layout = zc.decoders.Records([("n", "<u8"), ("x", "<f8")], keep=["connection", "position"])
        source = zc.listen("127.0.0.1:0", decode=layout)
        peer = socket.create_connection(source.address)
        work = threading.Thread(target=lambda: {calls[use]}, daemon=True)
        work.start()
        peer.sendall(b"".join(n.to_bytes(8, "little") + bytes(8) for n in range(500)))
        while source.metrics().rows < 500:  # decoded: it has them
            time.sleep(0.01)
        """
    )
    assert "FATAL" not in done.stderr
    if use == "append":  # and what had come was committed
        assert check(path) == 500


def test_a_full_disk_leaves_rows_and_position_together(tmp_path):
    """The file may grow to 1.5 MB only: as with a full disk, a write fails in the middle."""
    path = tmp_path / "feed.db"
    script = f"""
        import resource, signal, sys
        import numpy as np, zcrx_arrow as zc
        from zcrx_arrow.connectors import duckdb_source
        layout = zc.decoders.Records([("n", "<u8"), ("x", "<f8")], keep=["connection", "position"])
        random = np.random.default_rng(1)
        made = np.empty(500_000, [("n", "<u8"), ("x", "<f8")])
        made["n"] = np.arange(len(made))
        made["x"] = random.random(len(made))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
        batching = zc.Batching(max_bytes=80_000)
        replay = zc.decode(made.tobytes(), layout, fragment=80_000, batching=batching)
        try:
            duckdb_source.append(replay, {str(path)!r}, "t", feed="f", max_rows=10_000)
        except Exception as error:
            print("failed", type(error).__name__, error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("failed"), done.stdout + done.stderr
    assert 0 < check(path) < 500_000
    # And with room again it goes on.
    replay = zc.decode(rows(0, 500_000), KEPT)
    assert append(replay, path, "t", feed="f", resume="skip").rows > 0
    assert check(path) == 500_000
