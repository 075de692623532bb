# SPDX-License-Identifier: Apache-2.0
"""Bytes that were sent are the bytes that arrive: all of them, in order, once."""

from __future__ import annotations

import random
import threading

import pyarrow as pa
import pytest

import zcrx_arrow as zc
from tests.conftest import SLOWER, eventually
from tests.rows import by_connection, payload_buffers, payloads, stream_of
from tests.wire import Wire, dial
from zcrx_arrow import _core


def pieces_of(data: bytes, chance: random.Random) -> list[bytes]:
    pieces, at = [], 0
    while at < len(data):
        size = chance.choice([1, 3, 100, 1460, 65536, 300_000])
        pieces.append(data[at : at + chance.randint(1, size)])
        at += len(pieces[-1])
    return pieces


@pytest.mark.parametrize("seed", range(4 // SLOWER + 1))
def test_raw_bytes_of_several_connections(wire, send, seed):
    chance = random.Random(seed)
    streams = [chance.randbytes(chance.randint(0, 3_000_000)) for _ in range(5)]
    with wire.listen(accept=5, area="8 MiB") as source:
        for stream in streams:
            send(source.address, *pieces_of(stream, chance))
        received = by_connection(source)
        connections = source.connections().to_pylist()
        metrics = source.metrics()
    assert sorted(map(stream_of, received.values())) == sorted(s for s in streams if s)
    assert {row["close_reason"] for row in connections} == {"eof"}
    assert sum(row["bytes"] for row in connections) == metrics.bytes == sum(map(len, streams))
    assert metrics.lease_faults == 0


DELIMITERS = [b"\n", b"\r\n", b"abcdefgh", b"aa", b"\x00"]


def check_messages(wire, send, delimiter, area):
    chance = random.Random(repr(delimiter))
    alphabet = b"abc\r\n\x00 xyz"
    data = bytes(chance.choices(alphabet, k=200_000)) + chance.randbytes(100_000)
    expected, position = [], 0
    for message in data.split(delimiter):
        expected.append((position, message))
        position += len(message) + len(delimiter)
    if not expected[-1][1]:
        expected.pop()
    framing = zc.framing.Delimited(delimiter, max_message="4 MiB")
    with wire.listen(framing=framing, accept=1, area=area) as source:
        send(source.address, *pieces_of(data, chance))
        received = by_connection(source)
    assert received[1] == expected


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_messages(wire, send, delimiter):
    check_messages(wire, send, delimiter, "64 MiB")


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_messages_in_plain_buffers(send, delimiter, monkeypatch):
    """As on kernels before 6.12, whose buffers are given back after each use."""
    make = _core.Options.to_core

    def plain(*args):
        config = make(*args)
        config.no_incremental = True
        return config

    monkeypatch.setattr(_core.Options, "to_core", plain)
    check_messages(Wire("copy"), send, delimiter, "2 MiB")


def test_unterminated_message_can_be_left_out(wire, send):
    framing = zc.framing.Delimited(b"\n", emit_unterminated=False)
    with wire.listen(framing=framing, accept=1) as source:
        send(source.address, b"whole\npartial")
        rows = [row for batch in source for row in payloads(batch)]
        (connection,) = source.connections().to_pylist()
    assert rows == [b"whole"]
    assert connection["partial_bytes"] == len(b"partial")
    assert connection["close_reason"] == "eof"


def test_ipv6_and_tuple_address(wire, send):
    with wire.listen(family=6, accept=1) as source:
        assert source.address[0] == wire.here6
        send(source.address, b"hello")
        assert stream_of(by_connection(source)[1]) == b"hello"
        (connection,) = source.connections().to_pylist()
    assert connection["peer"].startswith(f"[{wire.far6}]:")


def test_connect_greets(wire):
    with wire.serve() as server:
        heard = []

        def serve():
            peer, _ = server.accept()
            with peer:
                heard.append(peer.recv(100))
                peer.sendall(b"a\nb\n")

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        framing = zc.framing.Delimited()
        with wire.connect(port, greeting=b"SUBSCRIBE\n", framing=framing) as source:
            rows = [row for batch in source for row in payloads(batch)]
        thread.join()
    assert heard == [b"SUBSCRIBE\n"]
    assert rows == [b"a", b"b"]


def test_columns_and_metadata(wire, send):
    with wire.listen(accept=1) as source:
        send(source.address, b"x" * 100)
        batches = list(source)
        assert source.schema.metadata[b"zcrx_arrow.framing"] == b"raw"
        assert source.schema.metadata[b"zcrx_arrow.transport"] == source.transport.encode()
    for batch in batches:
        assert batch.schema.equals(source.schema, check_metadata=True)
        batch.validate(full=True)
    assert source.schema.names == [
        "payload",
        "connection",
        "position",
        "received_at",
        "area_offset",
    ]


def test_area_offset_is_where_the_bytes_are(wire, send):
    with wire.listen(accept=1, area="1 MiB") as source:
        send(source.address, bytes(range(256)) * 40)
        bases = set()
        for batch in source:
            (span, *others) = payload_buffers(batch)
            first = batch.column("area_offset")[0].as_py()
            assert 0 <= first < 1 << 20
            bases.add(span.address - first)
            del span, others
        assert len(bases) == 1
        del batch


def test_batch_exposes_only_its_own_bytes(wire, send):
    secret = b"SECRET-OF-ANOTHER-CONNECTION"
    with wire.listen(framing=zc.framing.Delimited(), accept=2) as source:
        hold = threading.Event()
        send(source.address, secret, hold=hold)  # never becomes a row while it is held
        eventually(lambda: source.metrics().bytes == len(secret))
        send(source.address, b"a line that is longer than a view\n" * 10)
        batch = source.next_batch(20)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch.slice(0, 1))
        written = sink.getvalue().to_pybytes()
        assert secret not in written
        assert len(written) < 4096
        assert batch.nbytes < 2000
        hold.set()
        rest = [row for b in source for row in payloads(b)]
        assert rest[-1] == secret
        del batch


@pytest.mark.parametrize("kind", ["string_view", "large_binary", "large_string"])
def test_payload_types(wire, send, kind):
    lines = ["", "short", "zwölf Boxkämpfer jagen Viktor", "𝄞" * 30]
    with wire.listen(
        framing=zc.framing.Delimited(),
        payload_type=kind,
        accept=1,
    ) as source:
        assert str(source.schema.field("payload").type) == kind
        send(source.address, "\n".join(lines).encode())
        table = pa.Table.from_batches(source, source.schema)
        metrics = source.metrics()
    table.validate(full=True)
    expected = lines if "string" in kind else [line.encode() for line in lines]
    assert table["payload"].to_pylist() == expected
    assert (metrics.copied_out_batches > 0) == kind.startswith("large")


def test_bad_utf8_closes_its_connection_only(wire, send):
    hold = threading.Event()
    with wire.listen(
        framing=zc.framing.Delimited(),
        payload_type="string_view",
        accept=2,
    ) as source:
        send(source.address, b"good\nbad \xff\xfe\nnever seen\n")
        eventually(lambda: source.metrics().framing_errors == 1)
        send(source.address, b"fine\n", hold=hold)
        eventually(lambda: source.metrics().rows == 2)
        hold.set()
        rows = by_connection(source)
        bad, fine = source.connections().to_pylist()
    assert rows == {1: [(0, "good")], 2: [(0, "fine")]}
    assert bad["close_reason"] == "framing"
    assert "position 5" in bad["error"]
    assert "payload_type" in bad["error"]
    assert bad["partial_bytes"] == len(b"bad \xff\xfe\nnever seen\n")
    assert fine["close_reason"] == "eof"


def test_max_rows_and_bytes(wire, send):
    batching = zc.Batching(max_rows=7)
    with wire.listen(
        framing=zc.framing.Delimited(),
        batching=batching,
        accept=1,
    ) as source:
        send(source.address, b"".join(b"%d\n" % i for i in range(1000)))
        batches = list(source)
    assert max(batch.num_rows for batch in batches) == 7
    assert [int(row) for batch in batches for row in payloads(batch)] == list(range(1000))


def test_waiting_consumer_gets_a_message_at_once(wire):
    """A lone message does not wait for max_delay when somebody waits for it."""
    batching = zc.Batching(max_delay="1 h")
    with (
        wire.listen(framing=zc.framing.Delimited(), batching=batching) as source,
        dial(source.address) as peer,
    ):
        for i in range(20):
            peer.sendall(b"message %d\n" % i)
            assert payloads(source.next_batch(20)) == [b"message %d" % i]


def test_max_delay_ends_a_batch_that_nobody_waits_for(wire):
    with wire.listen(framing=zc.framing.Delimited()) as source:
        with dial(source.address) as peer:
            peer.sendall(b"message\n")
            eventually(lambda: source.metrics().queue_batches == 1)
        assert payloads(source.next_batch(5)) == [b"message"]


def test_two_hundred_connections(wire, send):
    with wire.listen(framing=zc.framing.Delimited(), accept=200) as source:
        for i in range(200):
            send(source.address, b"%d\n" % i * 50)
        rows = by_connection(source)
    assert len(rows) == 200
    assert all(len({payload for _, payload in got}) == 1 for got in rows.values())
    assert all(len(got) == 50 for got in rows.values())


def test_connection_limit(wire, send):
    hold = threading.Event()
    with wire.listen(limits=zc.Limits(connections=2)) as source:
        for _ in range(2):
            send(source.address, b"x", hold=hold)
        eventually(lambda: source.metrics().connections == 2)
        with dial(source.address) as third:
            assert third.recv(1) == b""
        assert source.metrics().refused == 1
        hold.set()
        eventually(lambda: source.metrics().connections == 0)
        send(source.address, b"again")
        eventually(lambda: source.metrics().bytes == 7)
        source.stop()
        assert sum(map(len, (row for b in source for row in payloads(b)))) == 7
