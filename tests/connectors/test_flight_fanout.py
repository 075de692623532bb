# SPDX-License-Identifier: Apache-2.0
"""The fan-out by itself: places, bounds, merging; against a model that is a list."""

from __future__ import annotations

import threading
import time
import weakref

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import eventually
from tests.connectors.flight_client.tools import numbered
from zcrx_arrow.connectors.flight_fanout import Fanout
from zcrx_arrow.connectors.flight_policy import Policy, ReaderEndedError
from zcrx_arrow.connectors.flight_wire import Wire

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 40)),
        st.tuples(st.just("join"), st.booleans()),
        st.tuples(st.just("read"), st.integers(0, 5)),
        st.tuples(st.just("leave"), st.integers(0, 5)),
        st.tuples(st.just("expire"), st.none()),
    ),
    max_size=80,
)


def publish(fanout: Fanout, first: int, count: int) -> None:
    batch = numbered(first, count)
    fanout.publish(batch, pa.ipc.get_record_batch_size(batch))


def next_of(fanout: Fanout, reader, step: float):
    return next(fanout.follow(reader, step))


def rows_of(piece) -> list[int]:
    return piece.batch["n"].to_pylist()


@pytest.mark.parametrize("slow", ["drop", "skip"])
@given(steps=STEPS, merge=st.sampled_from([0, 2000, 10**6]), keep=st.sampled_from([0, "1 h"]))
@settings(max_examples=150, deadline=None)
def test_every_reader_gets_the_rows_from_its_place_on(slow, steps, merge, keep):
    policy = Policy(
        slow=slow, merge=merge, keep=keep, keep_bytes=8000, queue=6000, queue_batches=8, readers=4
    )
    fanout = Fanout(policy)
    total = 0
    readers = []  # with the row that comes next
    for step, value in [*steps, ("end", None)]:
        if step == "publish":
            publish(fanout, total, value)
            total += value
        elif step == "join":
            reader = fanout.join("x", 3600.0 if value else None)
            assert (reader is None) == (len(readers) == 4)
            if reader is not None:
                assert value or reader.row == total
                readers.append([reader, reader.row])
        elif step == "leave" and value < len(readers):
            fanout.leave(readers.pop(value)[0])
        elif step == "read" and value < len(readers):
            read(fanout, readers, value)
        elif step == "expire":
            fanout.expire()
        assert fanout.kept()[1] <= 8000 + 6000 + 3000
    fanout.finish()
    while readers:
        if not read(fanout, readers, 0):
            continue
    assert fanout.kept()[1] <= 8000 + 3000 or keep == 0
    assert fanout.counts.rows == total


def read(fanout, readers, at) -> bool:
    reader, expected = readers[at]
    try:
        taken = next_of(fanout, reader, 0)
    except ReaderEndedError:
        assert reader.dropped is not None
    except StopIteration:
        assert expected == fanout.counts.rows
    else:
        if taken is None:
            assert expected == fanout.counts.rows
            return False
        piece, _, skipped = taken
        assert rows_of(piece) == list(range(piece.row, piece.row + piece.batch.num_rows))
        assert piece.row == expected + skipped
        readers[at][1] = piece.row + piece.batch.num_rows
        return True
    fanout.leave(reader)
    readers.pop(at)
    return True


def test_a_reader_that_waits_gets_a_small_batch_at_once():
    fanout = Fanout(Policy(merge="1 MiB"))
    reader = fanout.join("x")
    got = []
    waiting = threading.Thread(target=lambda: got.append(next_of(fanout, reader, 30)))
    waiting.start()
    deadline = time.monotonic() + 20
    while not fanout._hungry and time.monotonic() < deadline:
        time.sleep(0.001)
    publish(fanout, 0, 3)
    waiting.join(20)
    assert rows_of(got[0][0]) == [0, 1, 2]


def test_what_is_pending_goes_to_who_asks_and_not_to_who_comes_later():
    fanout = Fanout(Policy(merge="1 MiB", keep=0))
    first = fanout.join("first")
    publish(fanout, 0, 3)
    publish(fanout, 3, 3)
    second = fanout.join("second")
    publish(fanout, 6, 3)
    assert rows_of(next_of(fanout, first, 0)[0]) == [0, 1, 2, 3, 4, 5]
    assert rows_of(next_of(fanout, second, 0)[0]) == [6, 7, 8]
    assert rows_of(next_of(fanout, first, 0)[0]) == [6, 7, 8]


def test_large_batches_are_not_copied():
    fanout = Fanout(Policy(merge="1 KiB"))
    reader = fanout.join("x")
    batch = numbered(0, 1000)
    fanout.publish(batch, 20_000)
    fanout.publish(batch, 20_000)
    assert next_of(fanout, reader, 0)[0].batch is batch


def test_a_new_reader_with_much_past_is_not_slow_for_that():
    fanout = Fanout(Policy(keep="1 h", keep_bytes="1 MiB", queue=1000, queue_batches=2))
    for n in range(20):
        publish(fanout, n * 10, 10)
    reader = fanout.join("x", 3600)
    publish(fanout, 200, 10)
    rows = []
    for _ in range(21):
        rows += rows_of(next_of(fanout, reader, 0)[0])
    assert rows == list(range(210))
    for n in range(3):
        publish(fanout, 210 + n * 10, 10)
    with pytest.raises(ReaderEndedError):
        next_of(fanout, reader, 0)


def test_ends():
    fanout = Fanout(Policy())
    reader = fanout.join("x")
    publish(fanout, 0, 1)
    fanout.finish("boom")
    assert next_of(fanout, reader, 0)
    with pytest.raises(ReaderEndedError, match="boom"):
        next_of(fanout, reader, 0)
    assert not fanout.wait_until_left(0)
    fanout.leave(reader)
    fanout.leave(reader)
    assert fanout.wait_until_left(0)
    assert fanout.sent().sent_rows == 1
    fanout.abort("closing")
    with pytest.raises(ReaderEndedError, match="closing"):
        fanout.join("y")
    publish(fanout, 1, 1)  # to nobody
    assert fanout.kept() == (0, 0)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60), st.integers(1, 20_000))
@settings(max_examples=60, deadline=None)
def test_pieces_make_up_the_batch_and_fit(widths, message):
    texts = pa.array(["x" * width for width in widths], pa.string_view())
    batch = pa.record_batch([texts], names=["t"])
    for views in (False, True):
        wire = Wire(batch.schema, views=views, message=message, lent=True)
        pieces = wire.pieces(batch)
        assert [row for piece, _ in pieces for row in piece["t"].to_pylist()] == texts.to_pylist()
        for piece, size in pieces:
            assert piece.schema == wire.schema
            assert size == pa.ipc.get_record_batch_size(piece)
            assert size <= message + 256 or piece.num_rows == 1
        held = {buffer.address for buffer in texts.buffers() if buffer}
        for piece, _ in pieces:
            assert not held & {b.address for b in piece["t"].buffers() if b}


@pytest.mark.parametrize("rows", [0, 1, 1000])
@pytest.mark.parametrize("views", [False, True])
def test_what_is_lent_is_copied_whatever_its_type(rows, views):
    columns = {
        "n": pa.array(range(1000), pa.int64()),
        "null": pa.array([None, 1.5] * 500),
        "list": pa.array([[n] * 3 for n in range(1000)]),
        "text": pa.array([str(n) for n in range(1000)]),
        "struct": pa.array([{"a": n} for n in range(1000)]),
    }
    lent = pa.record_batch(list(columns.values()), names=list(columns)).slice(0, rows)
    wire = Wire(lent.schema, views=views, message=10**6, lent=True)
    pieces = wire.pieces(lent)
    assert pa.Table.from_batches([piece for piece, _ in pieces], lent.schema).to_pylist() == (
        lent.to_pylist()
    )
    held = {each.address for column in lent for each in column.buffers() if each}
    for piece, _ in pieces:
        assert not held & {each.address for column in piece for each in column.buffers() if each}


@pytest.mark.parametrize("slow", ["drop", "skip", "wait"])
def test_many_threads_read_while_one_writes(slow):
    policy = Policy(
        slow=slow, merge="4 KiB", keep="20 ms", queue="16 KiB", queue_batches=64, readers=64
    )
    fanout = Fanout(policy)
    failures = []

    def run(hasty: bool) -> None:
        reader = fanout.join("x", 0.01)
        follow = fanout.follow(reader, 10)
        expected, seen = reader.row, 0
        try:
            while not hasty or seen < 300:
                piece, _, skipped = next(follow)
                if piece.row != expected + skipped or rows_of(piece)[0] != piece.row:
                    failures.append((piece.row, expected, skipped))
                expected = piece.row + piece.batch.num_rows
                seen += 1
        except StopIteration:
            if expected != fanout.counts.rows:
                failures.append(("end", expected))
        except ReaderEndedError:
            if slow != "drop":
                failures.append("dropped")
        finally:
            fanout.leave(reader)

    threads = [threading.Thread(target=run, args=(n % 2 == 0,)) for n in range(6)]
    publish(fanout, 0, 10)
    for thread in threads:
        thread.start()
    for n in range(1, 3000):
        publish(fanout, n * 10, 10)
        if n % 50 == 0:
            fanout.expire()
    fanout.finish()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures
    assert fanout.wait_until_left(1)
    assert fanout.counts.rows == 30_000


def test_leaving_never_waits_for_the_lock():
    fanout = Fanout(Policy())
    reader = fanout.join("x")
    with fanout._lock:  # as if a destructor ran in the middle of something
        fanout.leave(reader)
    assert fanout.readers()
    fanout.expire()
    assert not fanout.readers()


def test_the_feed_goes_on_as_soon_as_half_of_the_bound_is_free():
    fanout = Fanout(Policy(slow="wait", queue="1 MiB", queue_batches=8, patience="1 min", keep=0))
    reader = fanout.join("x")
    for n in range(8):
        publish(fanout, n, 1)
    writing = threading.Thread(target=publish, args=(fanout, 8, 1))
    writing.start()
    eventually(lambda: reader.awaited_at == 5)
    follow = fanout.follow(reader, 0)
    for _ in range(4):
        next(follow)
    writing.join(0.1)
    assert writing.is_alive()
    next(follow)
    writing.join(10)
    assert not writing.is_alive()
    assert fanout.counts.waits == 1
    assert [rows_of(next(follow)[0]) for _ in range(4)] == [[5], [6], [7], [8]]


def test_what_a_reader_has_passed_is_not_held_while_it_waits():
    fanout = Fanout(Policy(keep=0))
    reader = fanout.join("x")
    publish(fanout, 0, 10)
    follow = fanout.follow(reader, 0)
    piece, _, _ = next(follow)
    there = weakref.ref(piece.batch)
    del piece
    fanout.expire()
    assert next(follow) is None
    assert there() is None
