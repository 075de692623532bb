# SPDX-License-Identifier: Apache-2.0
"""Framings and decoders on every transport: what peers mean is what arrives, whoever else fails."""

from __future__ import annotations

import io
import random
import struct

import numpy as np
import pyarrow as pa
import pytest

import zcrx_arrow as zc
from tests.conftest import eventually
from tests.rows import by_connection, payloads
from zcrx_arrow import decoders, framing


def u16(message: bytes) -> bytes:
    return struct.pack(">H", len(message)) + message


def varint(message: bytes) -> bytes:
    length, head = len(message), bytearray()
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes([*head, length]) + message


class Stx(framing.Framing):
    """STX, one byte of length, payload."""

    max_message = 300

    def cut(self, data):
        bounds, at = [], 0
        while len(data) - at >= 2 and len(data) - at >= 2 + data[at + 1]:
            if data[at] != 2:
                raise ValueError("STX expected")
            bounds.append((at + 2, data[at + 1]))
            at += 2 + data[at + 1]
        return bounds, at


FRAMINGS = {
    "prefixed": (framing.LengthPrefixed("u16be"), u16, 0, 3000),
    "varint": (framing.Varint(), varint, 0, 3000),
    "fixed": (framing.FixedSize(77), bytes, 77, 77),
    "syslog": (framing.Syslog(), lambda m: b"%d " % len(m) + m, 1, 3000),
    "lines": (framing.Syslog(), lambda m: b"<" + m.hex().encode() + b"\n", 1, 3000),
    "own": (Stx(), lambda m: bytes([2, len(m)]) + m, 0, 255),
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_messages_of_several_connections(wire, send, name):
    how, encode, least, most = FRAMINGS[name]
    chance = random.Random(name)
    streams = [
        [chance.randbytes(chance.randint(least, most)) for _ in range(400)] for _ in range(3)
    ]
    with wire.listen(framing=how, accept=3, area="4 MiB") as source:
        for stream in streams:
            data = b"".join(encode(message) for message in stream)
            cuts = sorted(chance.choices(range(len(data)), k=60))
            send(
                source.address, *(data[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True))
            )
        received = by_connection(source)
        metrics = source.metrics()
    got = sorted([payload for _, payload in rows] for rows in received.values())
    if name == "lines":
        streams = [[b"<" + message.hex().encode() for message in stream] for stream in streams]
    assert got == sorted(streams)
    assert metrics.lease_faults == metrics.partial_bytes == 0


TRADE = np.dtype([("at", "<u8"), ("price", ">i8"), ("size", "<u4"), ("symbol", "S8")])


def trades(count: int, seed: int) -> np.ndarray:
    chance = np.random.default_rng(seed)
    rows = np.zeros(count, TRADE)
    rows["at"] = np.arange(count) + seed * 1_000_000
    rows["price"] = chance.integers(-(2**40), 2**40, count)
    rows["size"] = chance.integers(0, 2**32, count)
    rows["symbol"] = [b"ABC", b"ZCRX"][seed % 2]
    return rows


def test_records(wire, send):
    layout = decoders.Records(
        TRADE, types={"symbol": pa.string(), "price": pa.decimal128(20, 4)}, keep=["connection"]
    )
    sent = [trades(30_000, seed) for seed in range(3)]
    with wire.listen(decode=layout, accept=3, area="4 MiB") as source:
        for rows in sent:
            send(source.address, rows.tobytes())
        held = list(source)  # decoded batches own their columns ...
        assert source.metrics().copied_out_bytes >= 0
        eventually(lambda: source.metrics().chunks_leased == 0)  # ... and hold nothing here
        table = pa.Table.from_batches(held, source.schema)
    for rows in sent:
        mine = table.filter(
            pa.array((table["at"].to_numpy() // 1_000_000) == rows["at"][0] // 1_000_000)
        )
        assert len(mine["connection"].unique()) == 1
        assert mine["at"].to_numpy().tolist() == rows["at"].tolist()
        unscaled = [int(value.scaleb(4)) for value in mine["price"].to_pylist()]
        assert unscaled == rows["price"].tolist()
        assert mine["size"].to_numpy().tolist() == rows["size"].tolist()
        assert set(mine["symbol"].to_pylist()) == {rows["symbol"][0].decode()}


def test_text_and_a_peer_that_talks_nonsense(wire, send):
    schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
    with wire.listen(decode=decoders.Ndjson(schema), accept=3, area="4 MiB") as source:
        lines = [b'{"n": %d, "text": "%s"}\n' % (n, b"x" * (n % 90)) for n in range(20_000)]
        good = b"".join(lines)
        send(source.address, good)
        send(source.address, b'{"n": 1, "text": "a"}\n{"n": "one"}\n' + good[:5000])
        send(source.address, good)
        table = pa.table(source)
        rows = source.connections().to_pylist()
        assert source.decode_stats.failed_connections == 1
    assert table.num_rows == 40_001
    assert sorted(table["n"].to_pylist()) == sorted([1, *range(20_000), *range(20_000)])
    (bad,) = [row for row in rows if row["close_reason"] == "framing"]
    assert bad["error"].startswith("at position 22: ")
    assert [row["close_reason"] for row in rows if row is not bad] == ["eof", "eof"]


def test_csv_with_a_header_a_connection(wire, send):
    with wire.listen(decode=decoders.Csv(keep=["connection"]), accept=2, area="4 MiB") as source:
        send(source.address, b"a,b\n", b"".join(b"%d,x\n" % n for n in range(9000)))
        send(source.address, b"b,a\n", b"".join(b"y,%d\n" % n for n in range(9000)))
        table = pa.table(source)
    for letter in ("x", "y"):
        mine = table.filter(pa.array([value == letter for value in table["b"].to_pylist()]))
        assert mine["a"].to_pylist() == list(range(9000))


def ipc(table: pa.Table, rows: int) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def test_arrow_ipc(wire, send):
    tables = [
        pa.table(
            {
                "n": pa.array(np.arange(50_000) + seed),
                "s": pa.array([f"{seed}-{n % 100}" for n in range(50_000)]).dictionary_encode(),
                "l": pa.array([[n] * (n % 3) for n in range(50_000)]),
            }
        )
        for seed in range(2)
    ]
    with wire.listen(
        decode=decoders.ArrowIpc(keep=["connection"]), accept=3, area="8 MiB"
    ) as source:
        for table in tables:
            send(source.address, ipc(table, 3000))
        send(source.address, ipc(tables[0], 3000)[:200_000], b"not arrow")
        batches = list(source)
        connections = source.connections().to_pylist()
    streams = {}
    for batch in batches:
        streams.setdefault(batch["connection"][0].as_py(), []).append(
            batch.drop_columns("connection")
        )
    whole = [row["id"] for row in connections if row["close_reason"] == "eof"]
    got = [pa.Table.from_batches(streams[each]) for each in whole if each in streams]
    got.sort(key=lambda table: (table.num_rows, table["n"][0].as_py()))
    assert [table.combine_chunks() for table in got if table.num_rows == 50_000] == tables


def test_a_length_that_is_too_long_closes_one_connection(wire, send):
    how = framing.LengthPrefixed("u32be", max_message=1000)
    with wire.listen(framing=how, accept=2) as source:
        send(source.address, struct.pack(">I", 3) + b"abc" + b"\xff" * 50)
        send(source.address, *[struct.pack(">I", 5) + b"hello"] * 500)
        rows = [payload for batch in source for payload in payloads(batch)]
        ends = {row["close_reason"]: row["error"] for row in source.connections().to_pylist()}
    assert sorted(rows) == sorted([b"abc"] + [b"hello"] * 500)
    assert ends["framing"] == "message at position 7 is longer than max_message=1000 bytes"
    assert "eof" in ends


def test_a_frame_from_memory_is_a_frame_from_the_wire(wire, send):
    data = b"".join(u16(bytes([n % 256]) * (n % 400)) for n in range(3000))
    how = framing.LengthPrefixed("u16be")
    with wire.listen(framing=how, accept=1) as source:
        send(source.address, data)
        live = pa.table(source)
    replayed = zc.frame(data, how, fragment=1000).read_all()
    for name in ("payload", "connection", "position"):
        assert live[name].to_pylist() == replayed[name].to_pylist()
    assert live.schema.equals(replayed.schema, check_metadata=False)


class Lines(framing.Framing):
    """Lines, the slow way."""

    def cut(self, data):
        bounds, at = [], 0
        while (end := bytes(data).find(b"\n", at)) >= 0:
            bounds.append((at, end - at))
            at = end + 1
        return bounds, at

    def finish(self, data):
        return 0, len(data)


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"decode": decoders.Csv(pa.schema([("a", pa.int64())]))}, 3),
        ({"framing": Lines()}, 4),
    ],
)
def test_short_connections_leave_nothing_behind(wire, send, options, rows):
    count = wire.some(600)
    with wire.listen(accept=count, area="4 MiB", **options) as source:
        got = 0
        for _ in range(count):
            send(source.address, b"a\n1\n2\n3")
        for batch in source:
            got += batch.num_rows
        assert not source._pipeline.known, "everything was seen to its end"
        assert source.connections().num_rows <= count
    assert got == rows * count


def test_what_is_told_of_connections_stays_as_it_was(wire, send):
    with wire.listen(accept=40) as source:
        for _ in range(40):
            send(source.address, b"x" * 100)
        list(source)
        infos = source._infos(with_closed=True)
        churn = [bytes([255]) * 40_000 for _ in range(500)]
        assert [info.bytes for info in infos] == [100] * 40
    del churn
