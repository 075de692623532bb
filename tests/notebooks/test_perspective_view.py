# SPDX-License-Identifier: Apache-2.0
"""A feed in a Perspective table: what becomes of its types, and of the thread that feeds it."""

from __future__ import annotations

import decimal
import errno
import gc
import json
import logging
import socket
import threading

import numpy as np
import perspective
import pyarrow as pa
import pytest

import zcrx_arrow as zc
from tests.conftest import eventually
from zcrx_arrow import decoders, framing
from zcrx_arrow.connectors import perspective_view
from zcrx_arrow.errors import ConfigError, UnsupportedError, ZcrxError

TICK = np.dtype([("at", "<u8"), ("price", "<i8"), ("size", "<u4"), ("symbol", "S8")])
LAYOUT = decoders.Records(
    TICK,
    types={"at": pa.timestamp("ns", "UTC"), "price": pa.decimal128(20, 4), "symbol": pa.string()},
)


def ticks(first: int, count: int) -> np.ndarray:
    made = np.zeros(count, TICK)
    made["at"] = 1_000_000_000_000_000_000 + 1_000_000 * np.arange(first, first + count)
    made["price"] = 10_000 * np.arange(first, first + count) + 5
    made["size"] = np.arange(first, first + count)
    made["symbol"] = np.where(np.arange(count) % 2, b"odd", b"even")
    return made


def shown(table, **options) -> dict[str, list]:
    view = table.view(**options)
    try:
        return view.to_columns()
    finally:
        view.delete()


TIME = 1_000_000_000_123
CASES = [
    (pa.bool_(), [True, False], "boolean", [True, False]),
    (pa.int8(), [-128], "integer", [-128]),
    (pa.int64(), [2**53 + 1, -(2**60)], "integer", [2**53 + 1, -(2**60)]),
    (pa.uint64(), [2**63 + 5], "integer", [2**63 + 5]),
    (pa.float16(), [1.5], "float", [1.5]),
    (pa.float32(), [0.5], "float", [0.5]),
    (pa.float64(), [1e300], "float", [1e300]),
    (pa.decimal32(5, 2), [decimal.Decimal("-1.25")], "float", [-1.25]),
    (pa.decimal128(38, 4), [decimal.Decimal("1e15")], "float", [1e15]),
    (pa.decimal256(60, 3), [decimal.Decimal("12.5")], "float", [12.5]),
    (pa.string(), ["é😀", ""], "string", ["é😀", ""]),
    (pa.large_string(), ["a"], "string", ["a"]),
    (
        pa.string_view(),
        ["longer than a view holds", "a\0b"],
        "string",
        ["longer than a view holds", "a\\x00b"],
    ),
    (pa.binary(), [b"a\xffb"], "string", ["a\\xffb"]),
    (pa.large_binary(), ["é".encode()], "string", ["é"]),
    (
        pa.binary_view(),
        [b"longer than a view holds", b"\xc3"],
        "string",
        ["longer than a view holds", "\\xc3"],
    ),
    (pa.binary(3), [b"abc"], "string", ["abc"]),
    (pa.date32(), [11574], "date", [1_000_000_000_000 // 86_400_000 * 86_400_000]),
    (pa.time32("ms"), [3_723_004], "string", ["01:02:03.004"]),
    (pa.time64("ns"), [1], "string", ["00:00:00.000000001"]),
    (pa.timestamp("ms"), [TIME], "datetime", [TIME]),
    (pa.timestamp("ns", "UTC"), [TIME * 10**6], "datetime", [TIME]),
    (pa.timestamp("us", "Europe/Berlin"), [TIME * 1000], "datetime", [TIME]),
    (pa.duration("ns"), [5_000_000_001], "integer", [5_000_000_001]),
    (pa.null(), [None, None], "string", [None, None]),
    (pa.list_(pa.int8()), [[1, 2], []], "string", ["[1, 2]", "[]"]),
    (pa.list_(pa.int8(), 2), [[1, 2]], "string", ["[1, 2]"]),
    (pa.list_(pa.string()), [["é"]], "string", ['["é"]']),
    (pa.map_(pa.string(), pa.int8()), [[("k", 1)]], "string", ['[{"key": "k", "value": 1}]']),
    (pa.dictionary(pa.int8(), pa.string()), ["x", "y", "x"], "string", ["x", "y", "x"]),
    (pa.dictionary(pa.int8(), pa.int64()), [7, 8], "integer", [7, 8]),
]


@pytest.mark.parametrize(("kind", "values", "type_", "expected"), CASES, ids=lambda c: str(c)[:30])
def test_every_type_is_shown_as_what_it_is(kind, values, type_, expected):
    array = pa.array(
        [*values, None],
        pa.int64() if isinstance(values[0], int) and pa.types.is_temporal(kind) else kind,
    )
    if array.type != kind:
        array = array.cast(pa.int32()).cast(kind) if kind.bit_width == 32 else array.cast(kind)
    data = pa.table({"x": array, "row": range(len(array))})
    made = perspective_view.compat(data)
    table = perspective.table(made.schema.empty_table(), limit=100)
    table.update(made)
    assert table.schema() == {"x": type_, "row": "integer"}
    assert shown(table) == {"x": [*expected, None], "row": list(range(len(array)))}
    # A slice is a slice.
    last = perspective_view.compat(data.slice(len(array) - 2, 1))
    assert len(last) == 1
    assert last["x"].to_pylist() == made["x"].slice(len(array) - 2, 1).to_pylist()


def test_structures_become_columns():
    kind = pa.struct([("price", pa.decimal64(9, 2)), ("deep", pa.struct([("size", pa.int8())]))])
    data = pa.table(
        {"level": pa.array([{"price": decimal.Decimal("1.5"), "deep": {"size": 3}}, None], kind)}
    )
    made = perspective_view.compat(data)
    assert made.to_pylist() == [
        {"level.price": 1.5, "level.deep.size": 3},
        {"level.price": None, "level.deep.size": None},
    ]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (pa.schema([("a", pa.int8()), ("a", pa.int8())]), "'a' twice"),
        (pa.schema([("a.b", pa.int8()), ("a", pa.struct([("b", pa.int8())]))]), "'a.b' twice"),
        (pa.schema([("__INDEX__", pa.int8())]), "'__INDEX__'"),
        (pa.schema([]), "no column"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_a_byte(schema, said):
    class Odd:
        pass

    Odd.schema = schema
    with pytest.raises(UnsupportedError, match=said):
        perspective_view.table(Odd())


def test_what_is_made_is_memory_of_its_own():
    with zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1) as source:
        with socket.create_connection(source.address) as peer:
            peer.sendall(b"".join(b"%d" % n * 40 + b"\n" for n in range(100)))
        batch = source.next_batch(20)
        there = {b.address for c in batch.columns for b in c.buffers() if b and b.size}
        made = perspective_view.compat(batch)
        assert not there & {
            b.address for c in made.columns for k in c.chunks for b in k.buffers() if b and b.size
        }
        assert source.metrics().batches_held == 1
        del batch
        eventually(lambda: (gc.collect(), source.metrics().batches_held == 0)[1])
        assert made["payload"].to_pylist()[1] == "1" * 40


def test_the_rows_of_a_feed_are_shown(send):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, accept=1) as source:
        table = perspective_view.table(source, limit=1000)
        assert table.schema() == {
            "at": "datetime",
            "price": "float",
            "size": "integer",
            "symbol": "string",
        }
        with perspective_view.live(source, table, every="20 ms") as feed:
            send(source.address, *(ticks(1000 * i, 1000).tobytes() for i in range(30)))
            feed.wait(30)
            assert feed.rows == 30_000
        assert repr(feed).startswith("<Live 30,000 rows")
        assert not feed.running
        got = shown(table)
        assert sorted(got["size"]) == list(range(29_000, 30_000))  # the newest
        by = got["size"].index(29_001)
        assert got["price"][by] == pytest.approx(29_001.0005, rel=1e-15)
        assert got["symbol"][by] == "odd"
        assert got["at"][by] == 1_000_000_000_000 + 29_001
        source.metrics()


def test_one_row_a_key_and_some_columns(send):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, accept=1) as source:
        table = perspective_view.table(source, index="symbol", columns=["symbol", "size"])
        feed = perspective_view.live(source, table)
        send(source.address, ticks(0, 5000).tobytes())
        feed.wait(30)
        assert shown(table, sort=[["symbol", "asc"]]) == {
            "size": [4998, 4999],
            "symbol": ["even", "odd"],
        }


def test_columns_that_are_not_shown_are_not_decoded(send):
    bad = ticks(0, 10)
    bad["symbol"] = b"\xff"
    with zc.listen("127.0.0.1:0", decode=LAYOUT, accept=1) as source:
        table = perspective_view.table(source, columns=["size"])
        with perspective_view.live(source, table) as feed:
            send(source.address, bad.tobytes())
            feed.wait(30)
        assert shown(table) == {"size": list(range(10))}


def test_stopping_leaves_the_source_to_others(endless):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, area="4 MiB") as source:
        table = perspective_view.table(source, limit=100)
        feed = perspective_view.live(source, table, every=0.01)
        endless(source.address, ticks(0, 1000).tobytes())
        eventually(lambda: feed.updates > 3)
        feed.stop()
        feed.stop()
        assert not feed.running
        updates = feed.updates
        assert source.next_batch(20).num_rows
        again = perspective_view.live(source, table)
        eventually(lambda: again.updates)
        again.stop()
        assert feed.updates == updates


def test_a_fast_feed_waits_and_nothing_grows(endless):
    with zc.listen("127.0.0.1:0", framing=framing.Delimited(), area="4 MiB") as source:
        table = perspective_view.table(source, limit=50, columns=["payload", "position"])
        with perspective_view.live(source, table) as feed:
            endless(source.address, b"a line that is longer than a view holds\n" * 10_000)
            eventually(lambda: feed.rows > 300_000)
            assert table.size() <= 50
        assert source.metrics().copied_out_bytes < source.metrics().bytes / 2
        eventually(lambda: source.metrics().batches_held == source.metrics().queue_batches)


def test_the_table_is_deleted_under_it(endless, caplog):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, area="4 MiB") as source:
        table = perspective_view.table(source, limit=100)
        feed = perspective_view.live(source, table, every=0.01)
        endless(source.address, ticks(0, 1000).tobytes())
        eventually(lambda: feed.updates)
        with caplog.at_level(logging.ERROR, "zcrx_arrow"):
            table.delete()
            eventually(lambda: not feed.running)
        assert "the live table ends" in caplog.text
        with pytest.raises(perspective.PerspectiveError):
            feed.stop()
        assert "failed" in repr(feed)
        assert source.next_batch(20).num_rows  # what comes now is for others


def test_an_error_of_the_block_goes_first(endless):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, area="4 MiB") as source:
        table = perspective_view.table(source, limit=100)
        endless(source.address, ticks(0, 1000).tobytes())
        with pytest.raises(KeyError), perspective_view.live(source, table) as feed:
            raise KeyError
        assert not feed.running
        assert feed.error is None


def test_closing_the_source_ends_it(endless):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, area="4 MiB") as source:
        table = perspective_view.table(source, limit=100)
        feed = perspective_view.live(source, table)
        endless(source.address, ticks(0, 1000).tobytes())
        eventually(lambda: feed.updates)
        source.close()
        feed.wait(20)


def test_a_row_that_cannot_be_read(send):
    with zc.listen(
        "127.0.0.1:0", decode=decoders.Ndjson(pa.schema([("a", pa.int64())])), accept=2
    ) as source:
        table = perspective_view.table(source, limit=100)
        with perspective_view.live(source, table) as feed:
            send(source.address, b'{"a": 1}\n{"a": "x"}\n{"a": 3}\n').join(20)
            send(source.address, b'{"a": 7}\n')
            feed.wait(30)
        assert shown(table) == {"a": [1, 7]}
        assert source.connections().column("close_reason").to_pylist() == ["framing", "eof"]


def test_a_schema_that_comes_with_the_rows(send):
    with zc.listen("127.0.0.1:0", decode=decoders.Ndjson(), accept=1) as source:
        send(source.address, b'{"a": 1, "b": {"c": [1, 2]}}\n{"a": 2, "b": null}\n')
        table = perspective_view.table(source)
        with perspective_view.live(source, table) as feed:
            feed.wait(30)
        assert shown(table) == {"a": [1, 2], "b.c": [json.dumps([1, 2]), None]}


def test_two_at_once_are_refused(send):
    """Each row comes once: to whom, nobody could say."""
    with zc.listen("127.0.0.1:0", decode=LAYOUT, accept=1) as source:
        tables = [perspective_view.table(source, limit=100_000, columns=["size"]) for _ in range(2)]
        feed = perspective_view.live(source, tables[0], every=0.01)
        with pytest.raises(ZcrxError, match="is being read by a live table") as error:
            perspective_view.live(source, tables[1], every=0.01)
        assert error.value.errno == errno.EBUSY
        send(source.address, *(ticks(1000 * i, 1000).tobytes() for i in range(20)))
        feed.wait(30)
        assert feed.rows == 20_000
        assert sorted(shown(tables[0])["size"]) == list(range(20_000))


def test_another_one_goes_on_where_one_was_stopped(send):
    with zc.listen("127.0.0.1:0", decode=LAYOUT, accept=1) as source:
        tables = [perspective_view.table(source, limit=100_000, columns=["size"]) for _ in range(2)]
        with perspective_view.live(source, tables[0], every=0.01):
            pass
        with perspective_view.live(source, tables[1], every=0.01) as feed:
            send(source.address, ticks(0, 1000).tobytes())
            feed.wait(30)
        assert feed.rows == 1000


def test_mistakes():
    with zc.listen("127.0.0.1:0", decode=LAYOUT) as source:
        made = perspective_view.table
        with pytest.raises(ConfigError, match="needs a bound"):
            made(source, limit=None)
        with pytest.raises(ConfigError, match="needs a bound"):
            made(source, limit=0)
        with pytest.raises(ConfigError, match="no column 'x'"):
            made(source, columns=["x"])
        with pytest.raises(ConfigError, match="index='at' must be one of size"):
            made(source, columns=["size"], index="at")
        with pytest.raises(ConfigError, match="was not made by"):
            perspective_view.live(source, perspective.table({"size": "integer"}, limit=1))
        with pytest.raises(ConfigError, match="is not live"):
            perspective_view.live(zc.decode(b"", LAYOUT), made(source))
        with (
            zc.listen("127.0.0.1:0") as other,
            pytest.raises(ConfigError, match="no column 'at' of the table's type, timestamp"),
        ):
            perspective_view.live(other, made(source))
        with pytest.raises(ConfigError, match="every"):
            perspective_view.live(source, made(source), every="soon")
        assert not [each for each in threading.enumerate() if each.name == "zcrx-live"]


def test_waiting_for_a_feed_that_does_not_end():
    with zc.listen("127.0.0.1:0", decode=LAYOUT) as source:
        feed = perspective_view.live(source, perspective_view.table(source))
        with pytest.raises(TimeoutError):
            feed.wait(0.05)
        assert feed.running
        feed.stop()


def test_the_source_fails(send):
    types = {"symbol": pa.string()}
    layout = decoders.Records(TICK, types=types, on_error="reject")
    with zc.listen("127.0.0.1:0", decode=layout, accept=1) as source:
        feed = perspective_view.live(source, perspective_view.table(source))
        bad = ticks(0, 80_000)
        bad["symbol"] = b"\xff"
        send(source.address, bad.tobytes())
        # Nobody takes the rejected rows, of which only so many are kept.
        with pytest.raises(ZcrxError, match="rejected"):
            feed.wait(60)
        assert len(source.rejected.take())


def test_the_interpreter_exits_while_it_feeds(run_python):
    done = run_python(
        """
        import socket, threading, time
        import pyarrow as pa
        import zcrx_arrow as zc
        from zcrx_arrow.connectors import perspective_view

        source = zc.listen("127.0.0.1:0", framing=zc.framing.Delimited())
        feed = perspective_view.live(source, perspective_view.table(source), every="1 ms")
        def send():
            try:
                with socket.create_connection(source.address) as peer:
                    while True:
                        peer.sendall(b"a line\\n" * 100)
            except OSError:
                pass
        threading.Thread(target=send, daemon=True).start()
        while feed.updates < 5:
            time.sleep(0.01)
        print("fed")
        """,
        warn="ignore",
    )
    assert done.stdout == "fed\n"
    assert not done.stderr


def test_rows_before_an_error_are_shown():
    class Failing:
        schema = pa.schema([("n", pa.int64())])
        left = 3

        def next_batch(self, _timeout):
            self.left -= 1
            if self.left < 0:
                raise ZcrxError(5, "the feed has failed")
            return pa.record_batch({"n": [self.left]})

        def __iter__(self):
            return iter(lambda: self.next_batch(None), None)

    source = Failing()
    table = perspective_view.table(source)
    live = perspective_view.live(source, table, every="1 min")
    with pytest.raises(ZcrxError, match="has failed"):
        live.wait("30 s")
    assert table.size() == live.rows == 3
