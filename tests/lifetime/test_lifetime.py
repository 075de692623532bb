# SPDX-License-Identifier: Apache-2.0
"""Batches, sources, threads and processes end in every order."""

from __future__ import annotations

import gc
import random
import threading
import warnings
from pathlib import Path

import pytest

from tests.conftest import eventually, open_fds
from tests.rows import by_connection, payload_buffers, stream_of
from tests.wire import dial
from zcrx_arrow._native import lib

DATA = random.Random(0).randbytes(3_000_000)


@pytest.fixture
def batches(wire, send):
    """Batches of a source that is closed already."""
    with wire.listen(accept=1) as source:
        send(source.address, DATA)
        kept = list(source)
    yield kept
    kept.clear()


def test_batches_outlive_the_source(batches):
    assert lib.za_outstanding() > 0
    assert stream_of(by_connection(batches)[1]) == DATA


def test_released_in_reverse_after_close(batches):
    while batches:
        batches.pop()
    gc.collect()
    assert lib.za_outstanding() == 0


def test_released_by_other_threads(batches):
    chance = random.Random(1)
    chance.shuffle(batches)
    piles = [batches[i::4] for i in range(4)]
    batches.clear()
    threads = [threading.Thread(target=pile.clear) for pile in piles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert lib.za_outstanding() == 0


def test_one_column_keeps_the_bytes(batches):
    columns = [batch.column("payload") for batch in batches]
    batches.clear()
    gc.collect()
    assert lib.za_outstanding() > 0
    assert b"".join(p for column in columns for p in column.to_pylist()) == DATA


def test_a_memoryview_keeps_the_bytes(batches):
    views = [memoryview(span) for batch in batches for span in payload_buffers(batch)]
    batches.clear()
    gc.collect()
    assert lib.za_outstanding() > 0
    for view in views:
        assert bytes(view) in DATA


def test_dropped_after_an_exception_in_the_loop(wire, send):
    class Unlucky(Exception):
        pass

    def consume(source):
        for batch in source:
            raise Unlucky(batch)

    with wire.listen() as source:
        send(source.address, b"x" * 100_000)
        with pytest.raises(Unlucky) as caught:
            consume(source)
        source.close()
        assert caught.value.args[0].num_rows
    del caught


def test_unclosed_source_warns_and_leaks_nothing(wire):
    fds = open_fds()
    source = wire.listen()
    with pytest.warns(ResourceWarning, match="unclosed <zcrx_arrow.Source"):
        del source
        gc.collect()
    eventually(lambda: open_fds() <= fds)


def test_a_stream_ends_when_its_source_is_collected(wire):
    import pyarrow as pa

    source = wire.listen()
    reader = pa.RecordBatchReader.from_stream(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del source
        gc.collect()
    assert reader.read_all().num_rows == 0


def test_close_while_others_wait(wire):
    for _ in range(wire.some(20)):
        source = wire.listen()
        found = []

        def wait(source=source, found=found):
            found.append(source.next_batch())

        threads = [threading.Thread(target=wait) for _ in range(4)]
        for thread in threads:
            thread.start()
        source.close()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "a wait outlives close()"
        assert found == [None] * 4


def test_many_sources_leave_nothing_behind(wire):
    def cycle():
        with wire.listen(area="1 MiB") as source, dial(source.address) as peer:
            peer.sendall(b"x" * 1000)
            source.next_batch(20)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(wire.some(20)):
        cycle()
    gc.collect()
    fds, pages = open_fds(), resident()
    for _ in range(wire.some(200)):
        cycle()
    gc.collect()
    eventually(lambda: open_fds() <= fds)
    assert resident() - pages < 4096, "16 MiB grown over 200 sources"


EXIT = """
    import socket, sys
    import pyarrow as pa
    import zcrx_arrow as zc
    source = zc.listen("127.0.0.1:0", framing=zc.framing.Delimited(), batching=zc.Batching(max_rows=10))
    peer = socket.create_connection(source.address)
    peer.sendall(b"a line that is longer than a view\\n" * 1000)
    kept = [source.next_batch(20) for _ in range(20)]
"""


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        "source.close(); sys.exit()",
        "reader = pa.RecordBatchReader.from_stream(source); reader.read_next_batch()",
        "import polars as pl; frame = pl.from_arrow(kept[0]); kept.clear()",
        "import duckdb; db = duckdb.connect(); r = db.sql('select payload from source limit 5').fetchall()",
        """
    import threading
    threading.Thread(target=lambda: [b for b in source], daemon=True).start()
    """,
        """
    import pyarrow.dataset as ds, threading
    scan = ds.Scanner.from_batches(pa.RecordBatchReader.from_stream(source))
    batches = scan.to_batches(); next(batches)
    """,
    ],
)
def test_interpreter_exit_in_any_state(run_python, end):
    done = run_python(EXIT + "\n    " + end.strip(), warn="ignore")
    assert not done.stderr


def test_fork_in_the_middle(run_python):
    done = run_python("""
    import os, socket, sys, warnings
    import pyarrow as pa
    import zcrx_arrow as zc
    from zcrx_arrow.errors import ForkedError
    warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is the test
    source = zc.listen("127.0.0.1:0", framing=zc.framing.Delimited())
    peer = socket.create_connection(source.address)
    peer.sendall(b"before the fork, longer than a view\\n")
    batch = source.next_batch(20)
    reader = pa.RecordBatchReader.from_stream(source)
    pid = os.fork()
    if pid == 0:
        good = batch.column("payload").to_pylist() == [b"before the fork, longer than a view"]
        for call in (source.next_batch, source.metrics, source.connections, source.stop,
                     source.__arrow_c_stream__, lambda: next(iter(source))):
            try:
                call()
                good = False
            except ForkedError as error:
                good = good and f"process {os.getppid()}" in str(error)
        try:
            reader.read_next_batch()
            good = False
        except OSError as error:
            good = good and "parent process" in str(error)
        source.close()       # nothing happens
        del batch, reader    # nor here
        os._exit(0 if good else 1)
    _, status = os.waitpid(pid, 0)
    print("child", os.waitstatus_to_exitcode(status))
    peer.sendall(b"after the fork, longer than a view\\n")
    print(source.next_batch(20).column("payload").to_pylist(), batch.column("payload")[0])
    peer.close()
    metrics = source.metrics()
    source.close()
    print("faults", metrics.lease_faults)
    """)
    lines = done.stdout.splitlines()
    assert lines[0] == "child 0"
    assert "after the fork" in lines[1]
    assert "before the fork" in lines[1]
    assert lines[2] == "faults 0"
