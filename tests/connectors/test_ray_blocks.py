# SPDX-License-Identifier: Apache-2.0
"""What goes into the object store, and what receivers are told: without a cluster."""

from __future__ import annotations

import gc
import pickle
import socket
import threading

import numpy as np
import pyarrow as pa
import pytest

import zcrx_arrow as zc
from tests.conftest import eventually
from zcrx_arrow import decoders, framing
from zcrx_arrow.config import parse_size
from zcrx_arrow.errors import ConfigError, ZcrxError

ray_source = pytest.importorskip("zcrx_arrow.connectors.ray_source")

from zcrx_arrow.connectors.ray_block import Block, Range, Ranges, read_as  # noqa: E402
from zcrx_arrow.connectors.ray_feed import Feed, FeedDiedError, Settings  # noqa: E402
from zcrx_arrow.connectors.ray_receiver import Receiver, Restart  # noqa: E402


def stored(block: Block) -> tuple[pa.Table, list[memoryview]]:
    """Do as Ray does: copy what pickle hands over out of band, and read it from there."""
    buffers = []
    inband = pickle.dumps(block, protocol=5, buffer_callback=buffers.append)
    assert len(inband) < 10_000
    views = [memoryview(buffer) for buffer in buffers]
    table = pickle.loads(inband, buffers=[view.tobytes() for view in views])
    return table, views


def address(view) -> int:
    return np.frombuffer(view, "u1").__array_interface__["data"][0]


@pytest.mark.parametrize("payload_type", ["large_binary", "binary_view"])
def test_bytes_are_handed_over_where_they_were_received(payload_type):
    lines = b"".join(b"%099d\n" % n for n in range(5000))
    with zc.listen("127.0.0.1:0", framing=framing.Delimited(), accept=1) as source:
        with socket.create_connection(source.address) as peer:
            peer.sendall(lines)
        batches = list(source)
        assert source.metrics().chunks_leased > 0
        area = {b.address for batch in batches for b in batch["payload"].buffers()[2:] if b}
        payload = sum(b.size for batch in batches for b in batch["payload"].buffers()[2:] if b)
        block = Block(batches, compact=payload_type == "large_binary")
        before = pa.Table.from_batches(batches)["payload"].cast(pa.large_binary()).to_pylist()
        table, views = stored(block)
        handed = {address(view): view.nbytes for view in views if view.nbytes}
        assert area <= set(handed), "the store gets other memory than the area's"
        assert sum(handed[each] for each in area) == payload
        # Beside the payloads: a view of 16, connection 4, position 8 and time 8 for each row.
        assert sum(handed.values()) == payload + 36 * 5000
        assert block.joined_bytes == 0
        assert source.metrics().copied_out_bytes == 0
        del views, handed, batches, block
        eventually(lambda: (gc.collect(), source.metrics().chunks_leased == 0)[1])
        assert str(table.schema.field("payload").type) == payload_type
        assert table["payload"].cast(pa.large_binary()).to_pylist() == before
        assert b"".join(each + b"\n" for each in before) == lines


NESTED = pa.struct([("a", pa.list_(pa.string_view())), ("b", pa.int8())])
COLUMNS = {
    "number": pa.array(range(100)),
    "text": pa.array([None if n % 7 == 0 else "x" * n for n in range(100)]),
    "view": pa.array([None if n % 5 == 0 else "y" * n for n in range(100)], pa.string_view()),
    "flags": pa.array([n % 3 == 0 for n in range(100)]),
    "kinds": pa.array(["a", "b"] * 50).dictionary_encode(),
    "nested": pa.array([{"a": ["z" * n, None], "b": n} for n in range(100)], NESTED),
    "nothing": pa.nulls(100),
}


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_any_columns_come_back_as_they_were(compact, pieces):
    whole = pa.RecordBatch.from_pydict(COLUMNS)
    size = len(whole) // pieces
    batches = [whole.slice(at * size, size) for at in range(pieces)]
    block = Block(batches, compact=compact)
    table, _ = stored(block)
    table.validate(full=True)
    assert table.to_pylist() == whole.slice(0, pieces * size).to_pylist()
    assert table.schema == read_as(whole.schema, compact=compact)
    assert (block.joined_bytes > 0) == (pieces == 50)
    kinds = {str(each) for each in table.schema.types}
    assert ("string_view" in kinds) == (not compact)


def test_ranges_are_of_each_connection():
    ranges = Ranges()
    ranges.add(
        np.array([1, 1, 2, 1, 3], "u4"),
        np.array([0, 10, 5, 20, 0], "u8"),
        np.array([9, 9, 4, 30, 1], "i4"),
    )
    ranges.add(np.array([2, 2], "u4"), np.array([9, 12], "u8"), np.array([3, 1], "i4"))
    ranges.add(np.array([], "u4"), np.array([], "u8"), np.array([], "i4"))
    assert set(ranges.take()) == {Range(1, 0, 50), Range(2, 5, 13), Range(3, 0, 1)}
    assert ranges.take() == ()


def test_ranges_of_many_connections_are_what_a_loop_finds():
    some = np.random.default_rng(7)
    ids = some.integers(1, 40, 5000).astype("u4")
    lengths = some.integers(0, 100, 5000).astype("i4")
    positions = np.zeros(5000, "u8")
    slow: dict[int, tuple[int, int]] = {}
    for at, each in enumerate(ids.tolist()):
        first, end = slow.get(each, (0, 0))
        positions[at] = end
        slow[each] = (first, end + int(lengths[at]))
    ranges = Ranges()
    for begin in range(0, 5000, 700):
        part = slice(begin, begin + 700)
        ranges.add(ids[part], positions[part], lengths[part])
    assert {each.connection: (each.first, each.end) for each in ranges.take()} == slow


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of listen= and connect="),
        ({"listen": ":1", "connect": "a:1"}, "one of listen= and connect="),
        ({"listen": "here"}, "host:port"),
        ({"listen": ":1", "greeting": b"hello"}, "greeting="),
        ({"listen": ":1", "reconnect": zc.Reconnect()}, "reconnect="),
        ({"connect": "a:1", "accept": 1}, "accept="),
        ({"listen": ":1", "payload_type": "utf8"}, "payload_type="),
        ({"listen": ":1", "decode": decoders.Ndjson(), "payload_type": "large_binary"}, "decode="),
        ({"listen": ":1", "decode": decoders.Ndjson(), "framing": framing.Raw()}, "framing"),
        ({"listen": ":1", "framing": "lines"}, "framing"),
        ({"listen": ":1", "transport": "zcrx"}, "nic="),
        ({"listen": ":1", "node": 7}, "node="),
    ],
)
def test_a_receiver_that_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Receiver(**options)


def test_a_receiver_is_named_by_its_address_and_queue():
    assert Receiver(listen=":9000").name == "*:9000"
    assert Receiver(listen="10.0.0.1:9000", nic="eth0:3").name == "10.0.0.1:9000 at eth0:3"
    assert Receiver(connect=("feed", 1), name="feed").name == "feed"
    assert Receiver(listen="127.0.0.1:0", name="a").at_port(7).listen == ("127.0.0.1", 7)
    assert Receiver(listen="127.0.0.1:9", name="a").at_port(7).listen == "127.0.0.1:9"
    assert Receiver(listen=":1", area="4 MiB").area_bytes == parse_size("4 MiB")


def test_restarts_wait_longer_and_longer():
    policy = Restart(first_delay=0.1, max_delay=1, factor=3)
    assert [policy.delay(n) for n in (1, 2, 3, 4, 1000)] == [0.1, pytest.approx(0.3), 0.9, 1, 1]
    for wrong in ({"factor": 0.5}, {"max_restarts": -1}, {"first_delay": "soon"}):
        with pytest.raises(ConfigError):
            Restart(**wrong)


def test_without_ray_running_nothing_starts():
    with pytest.raises(ZcrxError, match=r"not initialised.*\n.*ray.init"):
        ray_source.stream(Receiver(listen="127.0.0.1:0"))


def test_options_of_a_stream_are_checked_before_anything_starts():
    one = Receiver(listen="127.0.0.1:0")
    for receivers, options, message in [
        ([], {}, "there are none"),
        (["a:1"], {}, "must be Receivers"),
        ([one, one], {}, "several receivers are called '127.0.0.1:0'"),
        (one, {"on_death": "ignore"}, "on_death="),
        (one, {"latency": "soon"}, "latency="),
        (one, {"target": -1}, "target="),
        (one, {"backlog": "much"}, "backlog="),
    ]:
        with pytest.raises(ConfigError, match=message):
            ray_source.stream(receivers, **options)
    with pytest.raises(ConfigError, match="rows=, bytes= or seconds="):
        ray_source.read(one)
    with pytest.raises(ConfigError, match="rows="):
        ray_source.read(one, rows=0)


def test_what_cannot_be_sent_to_a_node_is_refused():
    class Mine(framing.Framing):
        def __init__(self):
            self.lock = threading.Lock()

        def cut(self, data):
            return [], 0

    with pytest.raises(ConfigError, match="cannot be sent to a node"):
        ray_source.stream(Receiver(listen="127.0.0.1:0", framing=Mine()))


def test_a_callback_that_raises_does_not_have_a_dead_receiver_started_again():
    def tell(_event):
        raise RuntimeError("of the callback")

    settings = Settings(
        target=1 << 20,
        patience=0.1,
        backlog=1 << 25,
        restart=None,
        start_timeout=1,
        answer_timeout=None,
        tell=tell,
    )
    feed = Feed(Receiver(listen="127.0.0.1:0"), settings)
    with pytest.raises(FeedDiedError) as error:
        feed._died("gone")
    assert "of the callback" in str(error.value.__context__)
    assert feed.ended
