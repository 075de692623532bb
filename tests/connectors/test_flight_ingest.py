# SPDX-License-Identifier: Apache-2.0
"""What Flight clients put comes out as a source: all of it, once, validated, and held back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import flight

from tests.conftest import eventually
from tests.connectors.flight_client.tools import SCHEMA, Reading, numbered
from zcrx_arrow.connectors.flight_inbox import Inbox
from zcrx_arrow.connectors.flight_ingest import ingest
from zcrx_arrow.connectors.flight_server import serve
from zcrx_arrow.errors import ConfigError, ForkedError, FramingError

PATH = flight.FlightDescriptor.for_path("feed")


class Putting(threading.Thread):
    """A client that puts batches from a thread."""

    def __init__(self, location, batches, *, schema=SCHEMA, descriptor=PATH, **client) -> None:
        super().__init__(daemon=True)
        self.location, self.batches, self.schema, self.client = location, batches, schema, client
        self.descriptor, self.written, self.error, self.answer = descriptor, 0, None, None
        self.start()

    def run(self) -> None:
        try:
            with flight.connect(self.location, **self.client) as client:
                writer, answers = client.do_put(self.descriptor, self.schema)
                with writer:
                    for batch in self.batches:
                        writer.write_batch(batch)
                        self.written += 1
                    writer.done_writing()
                    self.answer = answers.read().to_pybytes()
        except (pa.ArrowException, flight.FlightError) as error:
            self.error = error

    def done(self) -> Putting:
        self.join(60)
        assert not self.is_alive(), "a client hangs"
        return self


def numbers(data) -> list[int]:
    return data["n"].to_pylist()


def test_what_is_put_comes_out():
    with ingest(accept=1) as source:
        putting = Putting(source.location, [numbered(n * 100, 100) for n in range(20)])
        assert source.schema == SCHEMA
        table = pa.table(source)
        assert numbers(table) == list(range(2000))
        assert putting.done().error is None
        assert putting.answer == b'{"batches": 20, "rows": 2000}'
        (row,) = source.connections().to_pylist()
        assert (row["id"], row["close_reason"], row["rows"]) == (1, "eof", 2000)
        assert row["peer"].startswith("127.0.0.1:")
        found = source.metrics()
        assert (found.rows, found.batches, found.connections, found.refused) == (2000, 20, 0, 0)
        assert source.next_batch() is None


def test_it_is_a_source_to_every_consumer():
    for pull in (
        lambda source: [n for batch in source for n in numbers(batch)],
        lambda source: pl.DataFrame(source)["n"].to_list(),
        lambda source: numbers(pa.RecordBatchReader.from_stream(source).read_all()),
        lambda source: asyncio.run(gather(source)),
        lambda source: numbers(next(source)) + numbers(pa.table(source)),
    ):
        with ingest(accept=1) as source:
            Putting(source.location, [numbered(0, 10), numbered(10, 10)])
            assert pull(source) == list(range(20))


async def gather(source) -> list[int]:
    return [n async for batch in source for n in numbers(batch)]


def test_a_task_that_is_cancelled_loses_no_batch():
    async def impatient(source) -> list[int]:
        got = []
        batches = aiter(source)
        while True:
            try:
                batch = await asyncio.wait_for(anext(batches), 0.002)
            except TimeoutError:
                batches = aiter(source)
            except StopAsyncIteration:
                return got
            else:
                got += numbers(batch)

    def slowly():
        for n in range(100):
            time.sleep(0.002)
            yield numbered(n * 10, 10)

    with ingest(accept=1) as source:
        Putting(source.location, slowly())
        assert asyncio.run(impatient(source)) == list(range(1000))


def test_many_clients_and_where_rows_come_from():
    with ingest(accept=4, origin=True) as source:
        clients = [
            Putting(source.location, [numbered(k * 1000 + n * 10, 10) for n in range(50)])
            for k in range(4)
        ]
        rows = pa.table(source).to_pandas()
        for each in clients:
            assert each.done().error is None
        assert sorted(rows["n"]) == sorted(k * 1000 + n for k in range(4) for n in range(500))
        for _, own in rows.groupby("connection"):
            assert list(own["position"]) == list(range(500))
            assert list(own["n"] - own["n"].iloc[0]) == list(range(500))
        assert (np.diff(rows["received_at"].astype("int64")) > -(10**9)).all()


def test_a_full_queue_holds_clients_back_and_loses_nothing():
    size = pa.ipc.get_record_batch_size(numbered(0, 1000, width=1000))
    count = 60
    with ingest(accept=1, queue=4 * size) as source:
        batches = [numbered(n * 1000, 1000, width=1000) for n in range(count)]
        putting = Putting(source.location, batches)
        eventually(lambda: source.metrics().stalls == 1)
        # It stands still once the buffers on the way are full too.
        before = -1
        while before != putting.written:
            before = putting.written
            time.sleep(0.3)
        assert putting.written < count
        assert source.metrics().queue_bytes <= 4 * size
        got = [n for batch in source for n in numbers(batch)]
        assert got == list(range(count * 1000))
        assert putting.done().error is None
        assert source.metrics().stalled_s > 0


def test_one_schema_for_life():
    with ingest() as source:
        first = Putting(source.location, [numbered(0, 10)]).done()
        assert first.error is None
        other = pa.schema([("n", pa.int64()), ("text", pa.binary())])
        refused = Putting(source.location, [], schema=other).done()
        assert "text: string where the stream's has text: binary" in str(refused.error)
        assert refused.error.extra_info == b"schema"
        fewer = Putting(source.location, [], schema=pa.schema([("n", pa.int64())])).done()
        assert "where the stream's has no column" in str(fewer.error)
        labelled = Putting(source.location, [], schema=SCHEMA.with_metadata({"a": "b"})).done()
        assert labelled.error is None
        assert numbers(source.next_batch("5 s")) == list(range(10))
        assert source.metrics().refused == 2
        with pytest.raises(TimeoutError):
            source.next_batch("10 ms")


def test_the_schema_may_be_given():
    with ingest(schema=SCHEMA) as source:
        assert source.schema == SCHEMA
        other = Putting(source.location, [], schema=pa.schema([("x", pa.int8())])).done()
        assert other.error.extra_info == b"schema"


def invalid() -> pa.RecordBatch:
    text = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], "<i4")), pa.py_buffer(b"\xff\xfe")]
    )
    return pa.record_batch([pa.array([1, 2]), text], schema=SCHEMA)


WORDS = pa.schema([("n", pa.int64()), ("text", pa.dictionary(pa.int8(), pa.string()))])


def outside() -> pa.RecordBatch:
    indices = pa.array([0, 100], pa.int8())
    words = pa.DictionaryArray.from_arrays(indices, pa.array(["only one"]), safe=False)
    return pa.record_batch([pa.array([1, 2]), words], schema=WORDS)


@pytest.mark.parametrize("bad", [invalid, outside])
def test_what_is_not_valid_is_refused_and_the_others_stay(bad):
    with ingest() as source:
        schema = bad().schema
        good = numbered(0, 10).cast(schema)
        putting = Putting(source.location, [good, bad(), good], schema=schema).done()
        assert "a batch is not valid" in str(putting.error)
        assert numbers(source.next_batch("10 s")) == list(range(10))
        eventually(lambda: source.metrics().connections == 0)
        with pytest.raises(TimeoutError):
            source.next_batch(0)
        (row,) = source.connections().to_pylist()
        assert (row["rows"], row["close_reason"]) == (10, "framing")
        assert source.metrics().invalid == 1
        assert Putting(source.location, [good], schema=schema).done().error is None
        source.next_batch("10 s")


def test_a_batch_above_the_bound_is_refused():
    with ingest(queue="1 MiB") as source:
        putting = Putting(source.location, [numbered(0, 2000, width=1000)]).done()
        assert "larger than the queue of 1048576" in str(putting.error)
        assert putting.error.extra_info == b"too-large"
        assert source.metrics().invalid == 1
        (row,) = source.connections().to_pylist()
        assert (row["close_reason"], row["rows"]) == ("framing", 0)


def test_acknowledgements_are_asked_for():
    command = flight.FlightDescriptor.for_command(b'{"feed": "feed", "acks": true}')
    with ingest() as source, flight.connect(source.location) as client:
        writer, answers = client.do_put(command, SCHEMA)
        for n in range(3):
            writer.write_batch(numbered(n * 10, 10))
            said = answers.read().to_pybytes()
            assert said == b'{"batches": %d, "rows": %d}' % (n + 1, (n + 1) * 10)
        writer.close()
        assert [source.next_batch("5 s").num_rows for _ in range(3)] == [10, 10, 10]


def test_another_feed_is_refused():
    with ingest(name="trades") as source:
        putting = Putting(source.location, []).done()
        assert "no feed 'feed' here, but 'trades'" in str(putting.error)
        path = flight.FlightDescriptor.for_path("trades")
        assert Putting(source.location, [], descriptor=path).done().error is None


def test_a_client_that_dies_in_the_middle_is_seen():
    script = """
import os, sys
from pyarrow import flight
from tests.connectors.flight_client.tools import SCHEMA, numbered
client = flight.connect(sys.argv[1])
writer, _ = client.do_put(flight.FlightDescriptor.for_path("feed"), SCHEMA)
writer.write_batch(numbered(0, 10))
sys.stdin.read()
os._exit(1)
"""
    with ingest() as source:
        child = subprocess.Popen(
            [sys.executable, "-c", script, source.location], stdin=subprocess.PIPE
        )
        assert numbers(source.next_batch("60 s")) == list(range(10))
        child.stdin.close()
        child.wait()
        eventually(lambda: source.metrics().connections == 0)
        (row,) = source.connections().to_pylist()
        assert (row["close_reason"], row["rows"]) == ("reset", 10)
        assert row["error"]
        assert source.metrics().broken == 1
        with pytest.raises(TimeoutError):
            source.next_batch(0)


def test_a_client_that_gives_up_while_it_is_held_back():
    size = pa.ipc.get_record_batch_size(numbered(0, 1000, width=1000))
    with ingest(queue=size) as source:
        client = flight.connect(source.location)
        writer, answers = client.do_put(PATH, SCHEMA, flight.FlightCallOptions(timeout=1.5))
        with pytest.raises((pa.ArrowException, flight.FlightError)):
            for n in range(1000):
                writer.write_batch(numbered(n * 1000, 1000, width=1000))
            writer.close()
        eventually(lambda: source.metrics().connections == 0)
        assert source.connections()["close_reason"].to_pylist() == ["reset"]
        assert numbers(source.next_batch("5 s")) == list(range(1000))
        with pytest.raises(TimeoutError):
            source.next_batch(0)
        assert source.metrics().rows == 1000
        del writer, answers
        client.close()


def test_too_many_streams_are_refused():
    with ingest(connections=1) as source, flight.connect(source.location) as client:
        writer, _ = client.do_put(PATH, SCHEMA)
        writer.write_batch(numbered(0, 1))
        source.next_batch("5 s")
        second = Putting(source.location, []).done()
        assert isinstance(second.error, flight.FlightUnavailableError)
        writer.close()


def test_stop_leaves_what_is_queued_and_close_counts_it():
    source = ingest()
    Putting(source.location, [numbered(0, 10), numbered(10, 10)]).done()
    source.stop()
    assert numbers(source.next_batch()) == list(range(10))
    source.close()
    assert source.next_batch() is None
    assert source.metrics().discarded_rows == 10
    assert Putting(source.location, []).done().error is not None


def test_closing_takes_bounded_time_though_clients_idle_or_wait():
    size = pa.ipc.get_record_batch_size(numbered(0, 1000, width=1000))
    source = ingest(queue=size)
    client = flight.connect(source.location)
    idle, _ = client.do_put(PATH, SCHEMA)
    idle.write_batch(numbered(0, 1))
    waiting = Putting(source.location, [numbered(0, 1000, width=1000)] * 50)
    eventually(lambda: source.metrics().stalls == 1)
    pulling = threading.Thread(target=lambda: [None for _ in source])
    begin = time.monotonic()
    source.close()
    assert time.monotonic() - begin < 20
    pulling.start()
    pulling.join(10)
    assert not pulling.is_alive()
    assert waiting.done().error is not None
    assert set(source.connections()["close_reason"].to_pylist()) == {"local"}
    with pytest.raises((pa.ArrowException, flight.FlightError)):
        idle.close()
    client.close()


def test_without_a_client_there_is_no_schema():
    source = ingest()
    source.close()
    with pytest.raises(FramingError, match="no client came"):
        _ = source.schema


def test_options_that_cannot_work():
    for option in ({"name": ""}, {"queue": 0}, {"connections": 0}, {"accept": 0}):
        with pytest.raises(ConfigError):
            ingest(**option)
    with pytest.raises(ConfigError, match="column 'position' already"):
        ingest(schema=pa.schema([("position", pa.int8())]), origin=True)
    with ingest(origin=True) as source:
        clash = pa.schema([("connection", pa.int8())])
        putting = Putting(source.location, [], schema=clash).done()
        assert "'connection' already" in str(putting.error)
        assert Putting(source.location, [numbered(0, 1)]).done().error is None
        source.next_batch("5 s")


def test_a_child_process_may_not_pull(run_python):
    done = run_python(
        """
        import os
        from zcrx_arrow.connectors.flight_ingest import ingest
        from zcrx_arrow.errors import ForkedError
        with ingest() as source:
            if not (child := os.fork()):
                try:
                    source.next_batch(0)
                except ForkedError:
                    os._exit(7)
                os._exit(1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        warn="ignore",
    )
    assert done.stdout.split() == ["7"]
    assert ForkedError


def test_what_is_put_can_be_served_again():
    with ingest(accept=1) as source:
        putting = Putting(source.location, [numbered(n * 10, 10) for n in range(50)])
        with serve(source, wait_for=2) as server:
            clients = [Reading(server.location) for _ in range(2)]
            server.wait("20 s")
        for each in clients:
            assert each.done().numbers == list(range(500))
        assert putting.done().error is None


def test_a_source_that_is_stopped_before_a_client_came_has_no_schema():
    with ingest() as source:
        source.stop()
        assert source.next_batch() is None
        with pytest.raises(FramingError, match="no client came"):
            _ = source.schema


def test_a_task_that_gives_up_waiting_leaves_nothing_behind():
    async def impatient(source) -> None:
        async def first() -> None:
            async for _ in source:
                return

        for _ in range(10):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(first(), 0.01)

    with ingest() as source:
        asyncio.run(impatient(source))
        assert not source._engine.inbox._wakers


def coded(text: pa.Array) -> pa.RecordBatch:
    return pa.record_batch({"d": pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), text)})


def test_dictionaries_count_with_the_first_batch_that_has_them():
    own = [coded(pa.array([str(n) * 400_000])) for n in range(5)]
    with ingest(queue="1 MiB") as source:
        putting = Putting(source.location, own, schema=own[0].schema)
        eventually(lambda: source.metrics().stalls)
        assert source.metrics().queue_batches == 2
        assert [source.next_batch(30)["d"][0].as_py()[0] for _ in own] == list("01234")
        assert putting.done().error is None

        shared = [coded(own[0]["d"].dictionary) for _ in range(5)]
        assert Putting(source.location, shared, schema=own[0].schema).done().error is None
        assert source.metrics().queue_batches == 5
        assert 400_000 < source.metrics().queue_bytes < 500_000


def test_a_batch_with_too_large_a_dictionary_is_refused():
    batch = coded(pa.array(["x" * 2_000_000]))
    with ingest(queue="1 MiB") as source:
        putting = Putting(source.location, [batch], schema=batch.schema).done()
        assert "larger than the queue" in str(putting.error)


def test_small_batches_do_not_keep_a_large_one_waiting():
    inbox = Inbox(100, 1000)
    batch = numbered(0, 1)

    def put(size: int) -> threading.Thread:
        thread = threading.Thread(target=inbox.put, args=(batch, size, lambda: False, 0.01))
        thread.start()
        return thread

    assert inbox.put(batch, 60, lambda: False, 0.01)
    large = put(90)
    eventually(lambda: inbox.stalls == 1)
    small = put(10)  # there is room for it, but not in its turn
    eventually(lambda: inbox.stalls == 2)
    assert len(inbox) == 1
    assert inbox.get(1) is batch
    large.join(30)
    small.join(30)
    assert inbox.bytes == 100
    gone = threading.Thread(target=inbox.put, args=(batch, 90, lambda: True, 0.01))
    gone.start()
    gone.join(30)
    assert inbox.get(1) is batch
    assert inbox.put(batch, 90, lambda: False, 0.01)


def test_a_null_where_none_may_be_is_refused():
    schema = pa.schema([pa.field("n", pa.int64(), nullable=False)])
    holed = pa.RecordBatch.from_arrays([pa.array([1, None], pa.int64())], schema=schema)
    with ingest(name="feed", accept=1) as source:
        put = Putting(source.location, [holed], schema=schema).done()
        assert "must not be" in str(put.error)
        assert source.next_batch("10 s") is None
        assert source.metrics().invalid == 1
