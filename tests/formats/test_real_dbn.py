# SPDX-License-Identifier: Apache-2.0
"""Databento's binary encoding: metadata and records that its own library writes and reads."""

from __future__ import annotations

import random
import threading

import databento_dbn as dbn
import numpy as np
import pyarrow as pa
import pytest

import zcrx_arrow as zc
from tests.formats.peers import ask
from zcrx_arrow import decoders as de
from zcrx_arrow import framing as fr

FRAMING = fr.Preamble(
    fr.LengthPrefixed("u32le", offset=4),
    fr.LengthPrefixed("u8", unit=4, header_size=16, counts_header=True, keep_header=True),
    drop=True,
)
HEADER = [
    ("length", "u1"),
    ("rtype", "u1"),
    ("publisher_id", "<u2"),
    ("instrument_id", "<u4"),
    ("ts_event", "<u8"),
]
LAYOUTS = {
    0: np.dtype(
        [*HEADER, ("price", "<i8"), ("size", "<u4"), ("action", "S1"), ("side", "S1"), ("flags", "u1"),
         ("depth", "u1"), ("ts_recv", "<u8"), ("ts_in_delta", "<i4"), ("sequence", "<u4")]
    ),
    160: np.dtype(
        [*HEADER, ("order_id", "<u8"), ("price", "<i8"), ("size", "<u4"), ("flags", "u1"), ("channel_id", "u1"),
         ("action", "S1"), ("side", "S1"), ("ts_recv", "<u8"), ("ts_in_delta", "<i4"), ("sequence", "<u4")]
    ),
}  # fmt: skip
STAMP = pa.timestamp("ns", "UTC")
OPTIONS = {
    "discriminator": 1,
    "union": None,
    "types": {"ts_event": STAMP, "ts_recv": STAMP, "price": pa.decimal128(20, 9)},
    "nulls": {
        "price": dbn.UNDEF_PRICE,
        "ts_event": dbn.UNDEF_TIMESTAMP,
        "ts_recv": dbn.UNDEF_TIMESTAMP,
        "size": dbn.UNDEF_ORDER_SIZE,
    },
}
PLAIN = (
    "publisher_id", "instrument_id", "size", "order_id", "depth", "channel_id", "ts_in_delta", "sequence",
)  # fmt: skip


def metadata(symbols: int = 3) -> bytes:
    return bytes(
        dbn.Metadata(
            dataset="GLBX.MDP3",
            start=1_700_000_000_000_000_000,
            stype_in=dbn.SType.RAW_SYMBOL,
            stype_out=dbn.SType.INSTRUMENT_ID,
            schema=None,
            symbols=[f"SYM{n}" for n in range(symbols)],
        )
    )


def records(count: int, seed: int) -> bytes:
    chance = random.Random(seed)
    made = []
    for n in range(count):
        common = {
            "publisher_id": chance.randrange(2**16),
            "instrument_id": chance.randrange(2**32),
            "ts_event": chance.choice([1_700_000_000_000_000_000 + n, dbn.UNDEF_TIMESTAMP]),
            "price": chance.choice([chance.randrange(-(2**40), 2**40), dbn.UNDEF_PRICE, -(2**63)]),
            "size": chance.choice([chance.randrange(2**31), dbn.UNDEF_ORDER_SIZE]),
            "action": chance.choice(list(dbn.Action.variants())),
            "side": chance.choice(list(dbn.Side.variants())),
            "ts_recv": chance.choice([1_700_000_000_000_000_000 + 2 * n, dbn.UNDEF_TIMESTAMP]),
            "flags": chance.randrange(256),
            "ts_in_delta": chance.randrange(-(2**31), 2**31),
            "sequence": chance.randrange(2**32),
        }
        if chance.random() < 0.5:
            made.append(bytes(dbn.TradeMsg(depth=chance.randrange(256), **common)))
        else:
            more = {"order_id": chance.randrange(2**64), "channel_id": chance.randrange(256)}
            made.append(bytes(dbn.MBOMsg(**more, **common)))
    return b"".join(made)


def read(stream: bytes) -> list:
    """What databento's own decoder reads."""
    decoder = dbn.DBNDecoder()
    decoder.write(stream)
    return [each for each in decoder.decode() if not isinstance(each, dbn.Metadata)]


def check(table: pa.Table, theirs: list) -> None:
    table.validate(full=True)
    assert table.num_rows == len(theirs)
    stamps = {name: table[name].cast(pa.int64()).to_pylist() for name in ("ts_event", "ts_recv")}
    rows = table.to_pylist()
    for at, (row, other) in enumerate(zip(rows, theirs, strict=True)):
        assert row["rtype"] == (0 if isinstance(other, dbn.TradeMsg) else 160)
        assert row["length"] * 4 == other.record_size()
        for name in PLAIN:
            value = getattr(other, name, None)
            assert row[name] == (
                None if name == "size" and value == dbn.UNDEF_ORDER_SIZE else value
            )
        for name, values in stamps.items():
            stamp = getattr(other, name)
            assert values[at] == (None if stamp == dbn.UNDEF_TIMESTAMP else stamp)
        price = None if row["price"] is None else int(row["price"].scaleb(9))
        assert price == (None if other.price == dbn.UNDEF_PRICE else other.price)
        assert row["action"].decode() == str(other.action)
        assert row["side"].decode() == str(other.side)
        assert row["flags"] == int(other.flags)


@pytest.mark.parametrize("symbols", [0, 3, 2000])
def test_trades_and_orders(symbols):
    streams = [metadata(symbols) + records(3000, seed) for seed in range(2)]
    decoder = de.Records(LAYOUTS, keep=["connection", "position"], **OPTIONS)
    with zc.listen("127.0.0.1:0", framing=FRAMING, decode=decoder, accept=2) as source:
        peers = threading.Thread(target=ask, args=(source.address, *streams))
        peers.start()
        table = pa.table(source)
        peers.join()
    for connection, stream in enumerate(streams, 1):
        mine = table.filter(
            pa.array([each == connection for each in table["connection"].to_pylist()])
        )
        check(mine, read(stream))
        assert mine["position"][0].as_py() == len(metadata(symbols))
        for row in mine.select(["position", "instrument_id"]).slice(0, 50).to_pylist():
            at = row["position"]
            assert int.from_bytes(stream[at + 4 : at + 8], "little") == row["instrument_id"]


@pytest.mark.parametrize("fragment", [1, 13, 100, None])
def test_records_in_any_fragments(fragment):
    stream = metadata() + records(100, 7)
    table = zc.decode(stream, de.Records(LAYOUTS, **OPTIONS), FRAMING, fragment=fragment).read_all()
    check(table, read(stream))


def test_only_trades():
    stream = metadata() + records(500, 3)
    decoder = de.Records({0: LAYOUTS[0], 160: LAYOUTS[160]}, only=[0], discriminator=1, union=None)
    table = zc.decode(stream, decoder, FRAMING).read_all()
    trades = [each for each in read(stream) if isinstance(each, dbn.TradeMsg)]
    assert table.schema.names == list(LAYOUTS[0].names)
    assert table["sequence"].to_pylist() == [each.sequence for each in trades]
    assert table["price"].to_pylist() == [each.price for each in trades]


def test_older_versions_of_the_metadata():
    for version in (1, 2, 3):
        head = bytes(
            dbn.Metadata(
                dataset="XNAS.ITCH",
                start=1,
                stype_in=None,
                stype_out=dbn.SType.INSTRUMENT_ID,
                schema=dbn.Schema.TRADES,
                version=version,
            )
        )
        (first, *rows) = (
            zc.frame(head + records(3, 1), fr.Preamble(FRAMING.first, FRAMING.then))
            .read_all()["payload"]
            .to_pylist()
        )
        assert first == head[8:]
        assert b"".join(rows) == records(3, 1)
