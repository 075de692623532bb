# SPDX-License-Identifier: Apache-2.0
"""Nasdaq's TotalView-ITCH 5.0 over SoupBinTCP, by the messages of itchfeed."""

from __future__ import annotations

import random
import struct
import threading

import numpy as np
import pyarrow as pa
import pytest
from itch.messages import create_message, messages

import zcrx_arrow as zc
from tests.formats.peers import ask
from zcrx_arrow import decoders as de
from zcrx_arrow import framing as fr

# SoupBinTCP's packet type comes first, then ITCH's message type.
HEAD = [
    ("packet", "S1"),
    ("type", "S1"),
    ("stock_locate", ">u2"),
    ("tracking_number", ">u2"),
    ("timestamp", "V6"),
]
ORDER = [
    *HEAD,
    ("order_reference_number", ">u8"),
    ("buy_sell_indicator", "S1"),
    ("shares", ">u4"),
    ("stock", "S8"),
    ("price", ">u4"),
]
LAYOUTS = {
    b"S": [*HEAD, ("event_code", "S1")],
    b"A": ORDER,
    b"F": [*ORDER, ("attribution", "S4")],
    b"E": [*HEAD, ("order_reference_number", ">u8"), ("executed_shares", ">u4"), ("match_number", ">u8")],
    b"X": [*HEAD, ("order_reference_number", ">u8"), ("cancelled_shares", ">u4")],
    b"D": [*HEAD, ("order_reference_number", ">u8")],
    b"P": [*ORDER, ("match_number", ">u8")],
    b"V": [*HEAD, ("level1_price", ">u8"), ("level2_price", ">u8"), ("level3_price", ">u8")],
}  # fmt: skip
TYPES = {
    "timestamp": pa.time64("ns"),
    "price": pa.decimal128(20, 4),
    **{f"level{n}_price": pa.decimal128(20, 8) for n in (1, 2, 3)},
    "stock": pa.string(),
    "attribution": pa.string(),
}
DAY = 86_400 * 10**9


def soup(kind: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">H", 1 + len(payload)) + kind + payload


def a_message(chance: random.Random):
    kind = chance.choice(list(LAYOUTS))
    values = {
        "stock_locate": chance.randrange(2**16),
        "tracking_number": chance.randrange(2**16),
        "timestamp": chance.choice([0, DAY - 1, chance.randrange(DAY)]),
        "event_code": chance.choice([b"O", b"S", b"C"]),
        "order_reference_number": chance.randrange(2**64),
        "buy_sell_indicator": chance.choice([b"B", b"S"]),
        "shares": chance.randrange(2**32),
        "stock": chance.choice([b"AAPL    ", b"BRK.B   ", b"ZVZZTABC"]),
        "price": chance.randrange(2**32),
        "attribution": b"NSDQ",
        "executed_shares": chance.randrange(2**32),
        "cancelled_shares": chance.randrange(2**32),
        "match_number": chance.randrange(2**64),
        **{f"level{n}_price": chance.randrange(2**63) for n in (1, 2, 3)},
    }
    wanted = [name for name, *_ in LAYOUTS[kind] if name in values]
    return create_message(kind, **{name: values[name] for name in wanted})


def feed(count: int, seed: int):
    chance = random.Random(seed)
    made = [a_message(chance) for _ in range(count)]
    return made, b"".join(soup(b"S", message.to_bytes()) for message in made)


def decoder(**more) -> de.Records:
    return de.Records(
        {key: np.dtype(layout) for key, layout in LAYOUTS.items()},
        discriminator=1,
        types=TYPES,
        byteorder="big",
        **more,
    )


def check(table: pa.Table, sent: list) -> None:
    table.validate(full=True)
    assert table.num_rows == len(sent)
    assert table["message_type"].to_pylist() == [each.message_type.decode() for each in sent]
    stamps = table["timestamp"].cast(pa.int64()).to_pylist()
    rows = table.drop_columns("timestamp").to_pylist()
    for row, stamp, message in zip(rows, stamps, sent, strict=True):
        # As itchfeed itself reads the bytes.
        theirs = messages[message.message_type](message.to_bytes())
        decoded = theirs.decode()
        names = {name for name, *_ in LAYOUTS[message.message_type]}
        assert stamp == theirs.timestamp
        for name in set(row) - {"packet", "type", "message_type"}:
            if name not in names:
                assert row[name] is None
            elif "price" in name:
                assert float(row[name]) == pytest.approx(getattr(decoded, name), rel=1e-15)
                assert int(row[name].scaleb(theirs.price_precision)) == getattr(theirs, name)
            elif isinstance(row[name], str | bytes):
                text = row[name] if isinstance(row[name], str) else row[name].decode()
                assert text == getattr(decoded, name)
            else:
                assert row[name] == getattr(theirs, name)


def test_several_sessions():
    feeds = [feed(3000, seed) for seed in range(2)]
    with zc.listen(
        "127.0.0.1:0",
        framing=fr.LengthPrefixed("u16be"),
        decode=decoder(keep=["connection"]),
        accept=2,
    ) as source:
        peers = threading.Thread(
            target=ask, args=(source.address, *(stream for _, stream in feeds))
        )
        peers.start()
        table = pa.table(source)
        peers.join()
    for connection, (sent, _) in enumerate(feeds, 1):
        mine = table.filter(
            pa.array([each == connection for each in table["connection"].to_pylist()])
        )
        check(mine.drop_columns("connection"), sent)


@pytest.mark.parametrize("fragment", [None, 1, 40])
def test_packets_that_are_not_sequenced_data(fragment):
    """A login's answer, heartbeats, and the end of the session; they are put aside."""
    sent, stream = feed(50, 9)
    login = soup(b"A", b"SESSION-01" + b"1".rjust(20))
    heartbeat, end = soup(b"H"), soup(b"Z")
    replay = zc.decode(
        login + heartbeat + stream + heartbeat + end,
        decoder(on_error="reject", only=list(LAYOUTS)),
        fr.LengthPrefixed("u16be"),
        fragment=fragment,
    )
    table = replay.read_all()
    check(table, sent)
    rejected = replay.rejected.take()
    assert [row[:1] for row in rejected["payload"].to_pylist()] == [b"A", b"H", b"H", b"Z"]
    assert rejected["position"].to_pylist()[0] == 2
    assert rejected["position"].to_pylist()[-1] == len(login + heartbeat + stream + heartbeat) + 2


def test_only_some_types():
    sent, stream = feed(500, 4)
    table = zc.decode(stream, decoder(only=["A", "F"]), fr.LengthPrefixed("u16be")).read_all()
    check(table, [each for each in sent if each.message_type in (b"A", b"F")])
