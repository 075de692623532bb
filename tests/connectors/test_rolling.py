# SPDX-License-Identifier: Apache-2.0
"""A folder of files that roll: whole or not there, in order, and each says what it has."""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import zcrx_arrow as zc
from tests.cli import Receiver, run
from tests.conftest import eventually, unavailable
from tests.connectors.rolling_peer import Replaying, hidden, names, read
from zcrx_arrow import decoders, framing
from zcrx_arrow.connectors import rolling
from zcrx_arrow.errors import ConfigError, FramingError, UnsupportedError, ZcrxError

NUMBER = np.dtype([("n", "<u4"), ("noise", "S60")])
KEPT = decoders.Records(NUMBER, keep=["connection", "position"])


def numbers(first: int, count: int) -> bytes:
    made = np.zeros(count, NUMBER)
    made["n"] = np.arange(first, first + count)
    made["noise"] = np.frombuffer(np.random.default_rng(first).bytes(60 * count), "S60")
    return made.tobytes()


def lines(count: int) -> bytes:
    return b"".join(b"line %d of a feed, too long for a view\n" % i for i in range(count))


def released(source) -> None:
    def over():
        gc.collect()
        seen = source.metrics()
        return seen.chunks_leased == 0 and seen.batches_held == 0

    eventually(over)


@contextmanager
def writing(source, folder, **options):
    """`write` in a thread of its own; what it gave or raised is in the list, afterwards."""
    outcome: list = []

    def run():
        try:
            outcome.append(rolling.write(source, folder, **options))
        except Exception as error:  # noqa: BLE001 - looked at by the test
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcome
    finally:
        source.stop()
        thread.join(30)
        assert not thread.is_alive()


# --- what is in the files ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_files_have_the_feed_in_order(tmp_path, send, kind):
    told = []
    with zc.listen("127.0.0.1:0", decode=KEPT, accept=1) as source:
        send(source.address, numbers(0, 60_000))
        report = rolling.write(
            source, tmp_path / "new" / "feed", roll="1 MiB", format=kind, on_file=told.append
        )
        released(source)
    folder = tmp_path / "new" / "feed"
    assert read(folder)["n"].to_pylist() == list(range(60_000))
    assert report.rows == 60_000
    assert report.files == len(names(folder)) > 1
    assert report.bytes == sum((folder / name).stat().st_size for name in names(folder))
    assert [(each.path.name, each.bytes) for each in told] == [
        (name, (folder / name).stat().st_size) for name in names(folder)
    ]
    assert not hidden(folder)
    found = rolling.positions(folder).to_pylist()
    assert [row["file"] for row in found] == names(folder)
    assert [row["sequence"] for row in found] == list(range(1, len(found) + 1))
    assert found[0]["first"] == 0
    for before, after in pairwise(found):
        assert after["first"] == before["last"] + NUMBER.itemsize
    assert sum(row["rows"] for row in found) == 60_000
    assert {row["peer"] for row in found} == {source.connections()["peer"][0].as_py()}
    assert len({row["run"] for row in found}) == 1


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_other_tools_read_them(tmp_path, send, kind):
    with zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1) as source:
        send(source.address, lines(1000))
        rolling.write(source, tmp_path, roll=None, rows=300, format=kind)
    suffix = {"parquet": "parquet", "ipc": "arrow"}[kind]
    assert ds.dataset(tmp_path, format=kind).count_rows() == 1000
    scan = pl.scan_parquet if kind == "parquet" else pl.scan_ipc
    frame = scan(f"{tmp_path}/*.{suffix}").collect()
    assert b"".join(line + b"\n" for line in frame["payload"]) == lines(1000)


def test_rows_of_a_file_are_exact(tmp_path, send):
    with zc.listen("127.0.0.1:0", decode=KEPT, accept=1) as source:
        send(source.address, numbers(0, 10_000))
        rolling.write(source, tmp_path, roll=None, rows=999)
    found = rolling.positions(tmp_path)["file_rows"].to_pylist()
    assert found == [999] * 10 + [10]
    assert read(tmp_path)["n"].to_pylist() == list(range(10_000))


def test_a_file_has_the_bytes_of_its_own_rows_alone(tmp_path):
    feed = zc.frame(lines(10_000), framing.Delimited())
    rolling.write(feed, tmp_path, roll=None, rows=9_999, format="ipc")
    assert (tmp_path / names(tmp_path)[-1]).stat().st_size < 4000
    assert read(tmp_path)["payload"][9_999].as_py() == lines(10_000).splitlines()[-1]


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_sizes_are_as_asked_for(tmp_path, kind):
    feed = zc.decode(numbers(0, 200_000), KEPT, batching=zc.Batching(max_bytes="64 KiB"))
    rolling.write(feed, tmp_path, roll="2 MiB", format=kind)
    sizes = [(tmp_path / name).stat().st_size for name in names(tmp_path)]
    assert len(sizes) > 4
    assert all(2 << 20 <= size < 2.5 * 2**20 for size in sizes[:-1]), sizes


def test_small_batches_share_a_row_group(tmp_path, send):
    few = zc.Batching(max_rows=10)
    with zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1, batching=few) as source:
        send(source.address, lines(5000))
        rolling.write(source, tmp_path)
        assert source.metrics().batches >= 500
    (name,) = names(tmp_path)
    assert pq.read_metadata(tmp_path / name).num_row_groups == 1
    assert read(tmp_path)["payload"].to_pylist() == lines(5000).splitlines()


def test_dictionaries_differ_from_file_to_file(tmp_path):
    kind = pa.dictionary(pa.int8(), pa.string())
    schema = pa.schema([("word", kind)])
    batches = [
        pa.record_batch([pa.array([f"w{i}", f"w{i}", None]).dictionary_encode().cast(kind)], schema)
        for i in range(300)
    ]
    rolling.write(pa.RecordBatchReader.from_batches(schema, batches), tmp_path, roll=None, rows=90)
    rolling.write(batches, tmp_path, roll=None, rows=90, format="ipc")
    found = [word for batch in batches for word in batch.column(0).to_pylist()]
    tables = [each.cast(pa.schema([("word", pa.string())])) for each in _tables(tmp_path)]
    assert pa.concat_tables(tables)["word"].to_pylist() == found * 2


def test_more_words_than_a_dictionary_can_have(tmp_path):
    kind = pa.dictionary(pa.int8(), pa.string())
    batches = [
        pa.record_batch([pa.array([f"w{i}"]).dictionary_encode().cast(kind)], ["word"])
        for i in range(200)
    ]
    with pytest.raises(rolling.WriteError) as caught:
        rolling.write(batches, tmp_path, roll=None, rows=150, format="ipc")
    assert caught.value.errno == errno.EINVAL
    assert caught.value.report.unwritten_rows == 150
    assert not names(tmp_path)
    assert not hidden(tmp_path)


def _tables(folder):
    for name in names(folder):
        path = folder / name
        if path.suffix == ".parquet":
            yield pq.read_table(path)
        else:
            yield pa.ipc.open_file(path).read_all()


def test_an_ipc_feed_with_types_that_cannot_be_joined(tmp_path):
    kind = pa.dense_union([pa.field("a", pa.int8()), pa.field("b", pa.string())])
    array = pa.UnionArray.from_dense(
        pa.array([0, 1, 0], pa.int8()),
        pa.array([0, 0, 1], pa.int32()),
        [pa.array([1, 2], pa.int8()), pa.array(["x"])],
        ["a", "b"],
    )
    batch = pa.record_batch([array], pa.schema([("u", kind)]))
    rolling.write([batch] * 200, tmp_path, roll=None, rows=300, format="ipc")
    assert read(tmp_path)["u"].to_pylist() == [1, "x", 2] * 200


# --- when they end -------------------------------------------------------------------------------


def test_by_time_also_while_no_rows_come(tmp_path, send):
    hold = threading.Event()
    with zc.listen("127.0.0.1:0", decode=KEPT) as source:
        with writing(source, tmp_path, roll=("64 MiB", "300 ms")) as outcome:
            send(source.address, numbers(0, 10), hold=hold)
            eventually(lambda: len(names(tmp_path)) == 1)
            assert read(tmp_path)["n"].to_pylist() == list(range(10))
            send(source.address, numbers(10, 5), hold=hold)
            eventually(lambda: len(names(tmp_path)) == 2)
            assert not outcome
        assert outcome[0].rows == 15
        hold.set()


def test_receive_memory_goes_back_while_a_file_is_open(tmp_path, send):
    hold = threading.Event()
    with zc.listen("127.0.0.1:0", framing=framing.Delimited()) as source:
        with writing(source, tmp_path, roll="1 h") as outcome:
            send(source.address, lines(100), hold=hold)
            eventually(lambda: source.metrics().rows == 100)
            released(source)
            assert not names(tmp_path)
            hold.set()
        assert outcome[0].rows == 100
    assert read(tmp_path)["payload"].to_pylist() == lines(100).splitlines()


def test_an_area_that_may_not_be_copied_from(tmp_path, send):
    """Batches that wait for their row group must not starve the receiver."""
    options = {"copy_out": "never", "area": "1 MiB", "limits": zc.Limits(exhausted_after="50 ms")}
    with zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1, **options) as source:
        send(source.address, lines(200_000))
        report = rolling.write(source, tmp_path)
    assert report.rows == 200_000


def test_stop_and_close(tmp_path, send):
    for end in ("stop", "close"):
        hold = threading.Event()
        folder = tmp_path / end
        with zc.listen("127.0.0.1:0", decode=KEPT) as source:
            with writing(source, folder, roll="1 h") as outcome:
                send(source.address, numbers(0, 1000), hold=hold)
                eventually(lambda source=source: source.metrics().rows == 1000)
                eventually(lambda folder=folder: hidden(folder))
                getattr(source, end)()
                eventually(lambda outcome=outcome: outcome)
            hold.set()
        got = read(folder)["n"].to_pylist()
        assert got == list(range(len(got)))
        assert outcome[0].rows == len(got)
        assert end == "close" or len(got) == 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roll": None}, "must say when"),
        ({"roll": "0 B"}, "no bytes"),
        ({"roll": 0}, "no seconds"),
        ({"roll": "12 parsec"}, "12 parsec"),
        ({"roll": 64 << 20}, "more than a day"),
        ({"roll": ("1 MiB", "2 MiB")}, "two sizes"),
        ({"roll": (5, "1 min")}, "two durations"),
        ({"roll": [1]}, "must be a size"),
        ({"roll": True}, "must be a size"),
        ({"rows": 0}, "rows=0"),
        ({"format": "csv"}, "format='csv'"),
        ({"prefix": "../x"}, "prefix="),
        ({"prefix": ".x"}, "prefix="),
    ],
)
def test_options_are_checked_before_anything_is_made(tmp_path, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        rolling.write([], tmp_path / "x", **options)
    assert not (tmp_path / "x").exists()


def test_what_is_no_feed(tmp_path):
    with pytest.raises(ConfigError, match="int does not"):
        rolling.write(3, tmp_path)
    with pytest.raises(ConfigError, match="takes record batches, not str"):
        rolling.write("text", tmp_path)


# --- names, locks, leftovers ---------------------------------------------------------------------


def test_a_later_run_goes_on_behind_the_names_that_are_there(tmp_path):
    for first in range(0, 300, 100):
        feed = zc.decode(numbers(first, 100), KEPT)
        rolling.write(feed, tmp_path, roll=None, rows=50, prefix="bc"[first == 100])
    found = rolling.positions(tmp_path)
    assert found["sequence"].to_pylist() == [1, 2, 3, 4, 5, 6]
    assert len(set(found["run"].to_pylist())) == 3
    by_number = sorted(names(tmp_path), key=lambda name: name.split("-")[1])
    assert found["file"].to_pylist() == by_number
    assert all(re.fullmatch(r"[bc]-\d{10}-\d{8}T\d{6}Z\.parquet", name) for name in by_number)


def test_one_writer_at_a_time_and_its_partial_file_stays(tmp_path, send):
    hold = threading.Event()
    with zc.listen("127.0.0.1:0", decode=KEPT) as source:
        with writing(source, tmp_path, roll="1 h") as outcome:
            send(source.address, numbers(0, 10), hold=hold)
            eventually(lambda: hidden(tmp_path))
            with pytest.raises(ZcrxError, match=f"by process {os.getpid()}"):
                rolling.write(zc.decode(numbers(0, 5), KEPT), tmp_path)
            assert len(hidden(tmp_path)) == 1
            hold.set()
        assert outcome[0].rows == 10
    rolling.write(zc.decode(numbers(10, 5), KEPT), tmp_path)
    assert read(tmp_path)["n"].to_pylist() == list(range(15))


def test_what_a_dead_writer_has_left_is_removed_and_nothing_else(tmp_path):
    left = tmp_path / ".feed-0000000001-20260101T000000Z.parquet.1.part"
    other = tmp_path / ".somebody.parquet.1.part"
    for path in (left, other):
        path.write_bytes(b"PAR1")
    rolling.write(zc.decode(numbers(0, 5), KEPT), tmp_path)
    assert hidden(tmp_path) == [other.name]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        rolling.write([], tmp_path / "file" / "folder")


# --- what goes wrong -----------------------------------------------------------------------------


def test_another_schema_is_an_error_and_what_came_before_is_kept(tmp_path):
    one = pa.record_batch({"a": pa.array([1, 2])})
    for other in (
        pa.record_batch({"a": pa.array(["x"])}),
        pa.record_batch({"a": pa.array([1]), "b": pa.array([1])}),
        pa.record_batch({}),
    ):
        folder = tmp_path / str(other.num_columns) / str(other.schema)[:5]
        with pytest.raises(rolling.WriteError, match="another schema than the first") as caught:
            rolling.write([one, one, other], folder)
        assert caught.value.report.rows == 4
        assert caught.value.report.unwritten_rows == other.num_rows
        assert read(folder)["a"].to_pylist() == [1, 2, 1, 2]
        assert not hidden(folder)


def test_a_type_that_the_format_has_not_is_an_error_before_the_first_byte(tmp_path, send):
    class Odd:
        schema = pa.schema([("fine", pa.int8()), ("odd", pa.month_day_nano_interval())])

        def __iter__(self):
            raise AssertionError("pulled")

    with pytest.raises(UnsupportedError, match="'odd' of type month_day_nano"):
        rolling.write(Odd(), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_feed_that_fails_leaves_what_came_before(tmp_path):
    schema = pa.schema([("a", pa.int64())])
    feed = zc.decode(b'{"a": 1}\n{"a": 2}\n{"a": "x"}\n', decoders.Ndjson(schema))
    with pytest.raises(FramingError, match="position 18") as caught:
        rolling.write(feed, tmp_path)
    assert read(tmp_path)["a"].to_pylist() == [1, 2]
    assert "1 files with 2 rows" in caught.value.__notes__[0]


def test_a_callback_that_raises_costs_no_row(tmp_path):
    def fail(_finished):
        raise RuntimeError("no more")

    feed = zc.decode(numbers(0, 1000), KEPT, batching=zc.Batching(max_rows=1000))
    with pytest.raises(RuntimeError, match="no more"):
        rolling.write(feed, tmp_path, roll=None, rows=100, on_file=fail)
    assert read(tmp_path)["n"].to_pylist() == list(range(1000))
    rolling.write(zc.decode(numbers(1000, 1), KEPT), tmp_path)  # the lock is free


def test_rejected_rows_are_handed_over(tmp_path):
    bad = b'{"a": 1}\n{"a": "x"}\n{"a": 2}\n'
    decoder = decoders.Ndjson(pa.schema([("a", pa.int64())]), on_error="reject", on_drift="reject")
    aside = []
    rolling.write(zc.decode(bad, decoder), tmp_path, on_rejected=aside.append)
    assert read(tmp_path)["a"].to_pylist() == [1, 2]
    assert [row for table in aside for row in table["payload"].to_pylist()] == [b'{"a": "x"}']


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_loses_no_row(tmp_path, send, number):
    """Interrupted at any moment and taken up again: every row is there once."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with zc.listen("127.0.0.1:0", decode=KEPT, accept=1, area="4 MiB") as source:
            send(source.address, *(numbers(n, 2000) for n in range(0, 400_000, 2000)))
            interrupted = 0
            while True:
                timer = threading.Timer(0.05 + 0.01 * interrupted, os.kill, (os.getpid(), number))
                timer.start()
                try:
                    rolling.write(source, tmp_path, roll="1 MiB")
                    break
                except KeyboardInterrupt:
                    interrupted += 1
                finally:
                    timer.cancel()
                    try:
                        timer.join()
                    except KeyboardInterrupt:
                        interrupted += 1
    except KeyboardInterrupt:
        pytest.fail("a signal came when nothing was being written")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert interrupted
    assert read(tmp_path)["n"].to_pylist() == list(range(400_000))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_raises_nothing_ends_nothing(tmp_path, send):
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(1))
    try:
        with zc.listen("127.0.0.1:0", decode=KEPT, accept=1) as source:
            hold = threading.Event()
            send(source.address, numbers(0, 100), hold=hold)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            threading.Timer(0.5, hold.set).start()
            assert rolling.write(source, tmp_path).rows == 100
        eventually(lambda: came)
    finally:
        signal.signal(signal.SIGINT, before)


# --- full disks ----------------------------------------------------------------------------------


def full(folder, source) -> rolling.WriteError:
    """Write until the disk is full; look at what is left."""
    with pytest.raises(rolling.WriteError) as caught:
        rolling.write(source, folder, roll="256 KiB")
    report = caught.value.report
    assert not hidden(folder)
    found = read(folder)["n"].to_pylist()
    assert found == list(range(report.rows))
    assert report.files == len(names(folder)) > 0
    (lost,) = report.unwritten
    assert report.unwritten_rows == lost.rows > 0
    assert lost.first == report.rows * NUMBER.itemsize
    assert lost.last == (report.rows + lost.rows - 1) * NUMBER.itemsize
    assert f"{lost.rows:,} rows that were taken are in no file" in str(caught.value)
    return caught.value


@pytest.fixture
def tiny(tmp_path):
    """A filesystem of 1 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tiny", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        unavailable(f"no tmpfs could be mounted: {mounted.stderr.decode()}")
    yield folder
    # Threads of Arrow may not have closed yet what they have read.
    eventually(lambda: subprocess.run(["umount", folder], check=False).returncode == 0)


def test_a_full_disk(tiny, send):
    small = zc.Batching(max_bytes="64 KiB")
    with zc.listen("127.0.0.1:0", decode=KEPT, batching=small) as source:
        peer = send(source.address, *(numbers(n, 1000) for n in range(0, 50_000, 1000)))
        error = full(tiny, source)
        assert error.errno == errno.ENOSPC
        # Room is made, and the sender goes on where the files say.
        begin = rolling.resume(tiny).last // NUMBER.itemsize + 1
        (tiny / names(tiny)[0]).unlink()
        rolling.write(zc.decode(numbers(begin, 10), KEPT), tiny)
        assert read(tiny)["n"].to_pylist()[-10:] == list(range(begin, begin + 10))
        source.close()
        peer.join(20)


def test_a_limit_of_file_sizes(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(rolling.WriteError) as caught:
            rolling.write(zc.decode(numbers(0, 50_000), KEPT), tmp_path, roll="256 KiB")
        assert caught.value.errno == errno.EFBIG
        assert caught.value.report.unwritten_rows > 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not names(tmp_path)
    assert not hidden(tmp_path)


# --- going on ------------------------------------------------------------------------------------


def prefixed(count: int) -> bytes:
    return b"".join(b"\0\0\0\x14message %08d abc" % i for i in range(count))


WAYS = {
    "lines": (lines(5000), {"framing": framing.Delimited(emit_unterminated=False)}),
    "raw": (lines(5000), {"framing": framing.Raw()}),
    "large": (
        lines(5000),
        {
            "framing": framing.Delimited(emit_unterminated=False),
            "payload_type": "large_binary",
        },
    ),
    "prefixed": (prefixed(5000), {"framing": framing.LengthPrefixed("u32be")}),
    "prefixed, kept": (
        prefixed(5000),
        {
            "framing": framing.LengthPrefixed("u32be", keep_header=True),
            "payload_type": "large_binary",
        },
    ),
    "fixed": (numbers(0, 5000), {"framing": framing.FixedSize(64)}),
    "records": (numbers(0, 5000), {"decode": KEPT}),
    "ndjson": (
        b"".join(b'{"n": %d}\n' % i for i in range(5000)),
        {
            "decode": decoders.Ndjson(
                pa.schema([("n", pa.int64())]), keep=["connection", "position"]
            )
        },
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_goes_on_where_the_last_one_stopped(tmp_path, way):
    data, options = WAYS[way]
    sender = Replaying(data, most=len(data) // 4 + 10)  # then it hangs up, mostly within a row
    try:
        while not sender.asked or sender.asked[-1] < len(data) - sender.most:
            where = rolling.resume(tmp_path)
            with sender.connect(where, **options) as source:
                report = rolling.write(source, tmp_path, roll="10 KiB", start=where)
    finally:
        sender.close()
    assert sender.asked[0] == 0
    assert 4 <= len(sender.asked) <= 6
    table = read(tmp_path)
    if "payload" in table.schema.names:
        whole = list(zc.frame(data, options["framing"], payload_type="large_binary"))
        got = table["payload"].to_pylist()
        want = [row for batch in whole for row in batch["payload"].to_pylist()]
        assert b"".join(got) == b"".join(want)
        assert way == "raw" or got == want
    else:
        assert table["n"].to_pylist() == list(range(5000))
    found = rolling.positions(tmp_path).to_pylist()
    assert report.repeated_rows == (0 if found[-1]["next"] else 1)
    assert {row["base"] for row in found} == set(sender.asked)
    for before, after in pairwise(found):
        assert after["first"] > before["last"]
        if before["next"] and way != "prefixed":  # whose rows begin behind their headers
            assert after["first"] == before["next"]


def test_rows_that_come_from_others_are_not_taken_for_repeats(tmp_path, send):
    """Only the connection that goes on has a beginning that is known already."""
    with zc.listen("127.0.0.1:0", decode=KEPT, accept=2) as source:
        send(source.address, numbers(5, 10)).join()
        send(source.address, numbers(100, 10))
        start = rolling.Position(offset=5 * 64, last=9 * 64)
        report = rolling.write(source, tmp_path, start=start)
    assert report.repeated_rows == 5
    assert sorted(read(tmp_path)["n"].to_pylist()) == [*range(10, 15), *range(100, 110)]
    first, second = rolling.positions(tmp_path).to_pylist()
    assert (first["base"], first["first"], first["last"]) == (320, 640, 14 * 64)
    assert (second["base"], second["first"], second["last"]) == (0, 0, 9 * 64)


def test_where_to_go_on_is_not_made_up(tmp_path, send):
    assert rolling.resume(tmp_path / "nothing") == rolling.Position()
    plain = decoders.Records(NUMBER)
    rolling.write(zc.decode(numbers(0, 5), plain), tmp_path / "plain")
    (row,) = rolling.positions(tmp_path / "plain").to_pylist()
    assert row["file_rows"] == 5
    assert row["connection"] is None
    with pytest.raises(UnsupportedError, match="no column connection"):
        rolling.resume(tmp_path / "plain")
    with pytest.raises(ConfigError, match="keep="):
        rolling.write(zc.decode(b"", plain), tmp_path / "x", start=rolling.Position())
    syslog = zc.frame(b"5 <1>ab6 <1>abc", framing.Syslog())
    rolling.write(syslog, tmp_path / "syslog")
    with pytest.raises(UnsupportedError, match="where a message begins"):
        rolling.resume(tmp_path / "syslog")
    with zc.listen("127.0.0.1:0", decode=KEPT, accept=2) as source:
        send(source.address, numbers(0, 10))
        send(source.address, numbers(0, 20))
        rolling.write(source, tmp_path / "two")
    with pytest.raises(ConfigError, match="the last run had 1, 2"):
        rolling.resume(tmp_path / "two")
    with pytest.raises(ConfigError, match="connection=3"):
        rolling.resume(tmp_path / "two", connection=3)
    ends = {rolling.resume(tmp_path / "two", connection=n).last for n in (1, 2)}
    assert ends == {9 * 64, 19 * 64}


def test_a_framing_of_ones_own_says_nothing_of_positions(tmp_path):
    class Pairs(framing.Framing):
        def cut(self, data):
            count = len(data) // 2
            return [(2 * i, 2) for i in range(count)], 2 * count

    rolling.write(zc.frame(b"aabbcc", Pairs()), tmp_path)
    assert rolling.positions(tmp_path)["last"].to_pylist() == [4]
    with pytest.raises(UnsupportedError, match="where a message begins"):
        rolling.resume(tmp_path)


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_files_that_are_not_ours(tmp_path, kind):
    rolling.write(zc.decode(numbers(0, 5), KEPT), tmp_path, format=kind)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other-0000000007-20260101T000000Z.parquet")
    assert rolling.positions(tmp_path).num_rows == 1
    assert rolling.resume(tmp_path).last == 4 * 64
    bad = tmp_path / "feed-0000000009-20260101T000000Z.arrow"
    bad.write_bytes(b"ARROW1 but no more")
    with pytest.raises(ZcrxError, match="is not what its name says"):
        rolling.resume(tmp_path)
    bad.unlink()
    rolling.write(zc.decode(numbers(5, 5), KEPT), tmp_path, format=kind)
    assert rolling.positions(tmp_path)["sequence"].to_pylist() == [1, 8]


def test_metadata_of_another_version_is_refused(tmp_path):
    with pq.ParquetWriter(
        tmp_path / "feed-0000000001-20260101T000000Z.parquet", pa.schema([("a", pa.int8())])
    ) as writer:
        writer.add_key_value_metadata({"zcrx_arrow.rolling": '{"version": 9}'})
    with pytest.raises(ZcrxError, match="another version"):
        rolling.positions(tmp_path)


def test_a_sink_for_who_pushes(tmp_path):
    sink = rolling.RollingSink(tmp_path, None, rolling.Roll(rows=7))
    for batch in zc.decode(numbers(0, 20), KEPT, batching=zc.Batching(max_rows=3)):
        sink.write(batch)
        sink.tick()
    sink.close()
    sink.close()
    assert rolling.positions(tmp_path)["rows"].to_pylist() == [7, 7, 6]
    assert io.StringIO(str(sink.report)).read().startswith("3 files with 20 rows")


# --- the command line ----------------------------------------------------------------------------


def test_a_feed_with_connections_of_its_own(tmp_path):
    class Feed:
        connections = 3

        def __iter__(self):
            numbers = [pa.array([1], pa.uint32()), pa.array([0], pa.uint64())]
            yield pa.record_batch(numbers, ["connection", "position"])

    assert rolling.write(Feed(), tmp_path, roll="1 MiB").rows == 1


def test_a_closed_sink_takes_nothing(tmp_path):
    sink = rolling.RollingSink(tmp_path, None, rolling.Roll(rows=7))
    sink.close()
    with pytest.raises(ZcrxError, match="is closed"):
        sink.write(pa.record_batch({"n": [1]}))
    sink.tick()
    sink.close()
    assert names(tmp_path) == []


def test_folders_that_are_made_are_on_the_disk(tmp_path, monkeypatch):
    synced, sync = set(), os.fsync

    def syncing(handle):
        synced.add(str(Path(f"/proc/self/fd/{handle}").readlink()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", syncing)
    rolling.write([pa.record_batch({"n": [1]})], tmp_path / "a" / "b", roll="1 MiB")
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= synced


def test_the_command_rolls(tmp_path):
    target = f"rolling:{tmp_path},roll=64 MiB,roll=200 ms,rows=3,format=ipc,prefix=x"
    receiver = Receiver("--framing", "lines", "--to", target)
    with socket.create_connection(("127.0.0.1", int(receiver.address.split(":")[1]))) as peer:
        peer.sendall(b"1\n2\n3\n4\n")
        eventually(lambda: len(names(tmp_path)) == 2)  # by rows, and by time
        peer.sendall(b"5\n")
        eventually(lambda: len(names(tmp_path)) == 3)
        peer.sendall(b"6\n")
        eventually(lambda: hidden(tmp_path))
        receiver.process.send_signal(signal.SIGTERM)
        out, _ = receiver.end()
    assert json.loads(out)["rows"] == 6
    assert read(tmp_path)["payload"].to_pylist() == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert all(re.fullmatch(r"x-\d{10}-.*\.arrow", name) for name in names(tmp_path))
    assert not hidden(tmp_path)


def test_the_command_decodes_a_file_into_files(tmp_path):
    (tmp_path / "in").write_bytes(b'{"a": 1}\n' * 10)
    run("decode", tmp_path / "in", "--decode", "ndjson", "--to", f"rolling:{tmp_path / 'out'}")
    assert read(tmp_path / "out")["a"].to_pylist() == [1] * 10


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("rolling", "name a folder"),
        ("rolling:x,roll=1 parsec", "1 parsec"),
        ("rolling:x,size=3", "'size' is unknown"),
        ("rolling:x,format=csv", "format='csv'"),
    ],
)
def test_the_command_refuses_others(tmp_path, target, message):
    (tmp_path / "in").write_bytes(b"")
    done = run("decode", tmp_path / "in", "--to", target, code=2)
    assert message in done.stderr
