# SPDX-License-Identifier: Apache-2.0
"""InfluxDB's line protocol, as its client writes it."""

from __future__ import annotations

import datetime as dt
import threading

import pyarrow as pa
from influxdb_client_3 import Point

import zcrx_arrow as zc
from tests.formats.peers import ask
from tests.rows import by_connection
from zcrx_arrow import framing as fr


def points(count: int) -> list[str]:
    when = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    return [
        Point("wea ther")
        .tag("origin", ["EWR", "J F K", "L,GA", "=é"][n % 4])
        .tag("n", n)
        .field("temp", n / 3)
        .field("ok", n % 2 == 0)
        .field("count", n)
        .field("text", 'quo"ted \\ back = , ' + "x" * (n % 200))
        .time(when + dt.timedelta(seconds=n))
        .to_line_protocol()
        for n in range(count)
    ]


def test_points():
    lines = points(5000)
    # As the client joins what it writes: the last line has no end.
    streams = ["\n".join(lines[:2500]).encode(), "\n".join(lines[2500:]).encode()]
    with zc.listen(
        "127.0.0.1:0", framing=fr.Delimited(), payload_type="string_view", accept=2
    ) as source:
        peers = threading.Thread(target=ask, args=(source.address, *streams))
        peers.start()
        rows = by_connection(source)
        peers.join()
    received = [[text for _, text in part] for part in rows.values()]
    assert sorted(received) == sorted([lines[:2500], lines[2500:]])


def test_a_line_break_within_a_field_ends_the_row():
    """The protocol has no way to tell: its client sends it as it is."""
    text = Point("m").field("t", "a\nb").time(1).to_line_protocol().encode()
    table = zc.frame(text + b"\n", fr.Delimited(), payload_type="large_binary").read_all()
    assert table["payload"].to_pylist() == text.split(b"\n")
    assert table["payload"].type == pa.large_binary()
