# SPDX-License-Identifier: Apache-2.0
"""Hostile or broken peers: a clear end for them, nothing for the others."""

from __future__ import annotations

import contextlib
import socket
import threading

import zcrx_arrow as zc
from tests.conftest import eventually
from tests.rows import by_connection
from tests.wire import dial

LINES = zc.framing.Delimited(b"\n", max_message=1000)


def test_message_over_the_limit(wire, send):
    hold = threading.Event()
    with wire.listen(framing=LINES, accept=2) as source:
        send(source.address, b"before\n", hold=hold)
        eventually(lambda: source.metrics().rows == 1)
        with dial(source.address) as bad:
            bad.sendall(b"fine\n" + b"x" * 5000)
            bad.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                assert bad.recv(1) == b""  # closed by the receiver, without a delimiter ever
        hold.set()
        rows = by_connection(source)
        good, broken = source.connections().to_pylist()
        assert source.metrics().framing_errors == 1
    assert rows == {1: [(0, b"before")], 2: [(0, b"fine")]}
    assert good["close_reason"] == "eof"
    assert broken["close_reason"] == "framing"
    assert "position 5" in broken["error"]
    assert "max_message=1000" in broken["error"]
    assert broken["partial_bytes"] > 1000


def test_message_of_exactly_the_limit(wire, send):
    with wire.listen(framing=LINES, accept=1) as source:
        send(source.address, b"x" * 1000 + b"\n", b"y" * 1000)
        assert by_connection(source)[1] == [(0, b"x" * 1000), (1001, b"y" * 1000)]


def test_reset_in_the_middle_of_a_message(wire):
    with wire.listen(framing=LINES, accept=1) as source:
        peer = dial(source.address)
        peer.sendall(b"whole\nhalf a mess")
        eventually(lambda: source.metrics().bytes == 17)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        peer.close()
        assert by_connection(source) == {1: [(0, b"whole")]}
        (row,) = source.connections().to_pylist()
        assert source.metrics().partial_bytes == len(b"half a mess")
    assert row["close_reason"] == "reset"
    assert row["partial_bytes"] == len(b"half a mess")
    assert "reset" in row["error"].lower()


def test_a_byte_at_a_time(wire):
    """A thousand fragments of one byte make a row, without quadratic work or a lost byte."""
    data = b"slow but complete\n" * 60
    with wire.listen(framing=LINES, accept=1) as source:
        with dial(source.address) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(data)):
                peer.sendall(data[i : i + 1])
        rows = by_connection(source)[1]
    assert [row for _, row in rows] == data.split(b"\n")[:-1]


def test_many_unfinished_messages_do_not_fill_the_area(wire, send):
    """Each of 60 connections leaves half a message in an area of 32 chunks."""
    hold = threading.Event()
    area = zc.Area(size="128 KiB", chunk="4 KiB", window="16 KiB")
    with wire.listen(framing=zc.framing.Delimited(), area=area, accept=60) as source:
        for i in range(60):
            send(source.address, b"%03d " % i + b"x" * 5000, hold=hold)
        eventually(lambda: source.metrics().bytes == 60 * 5004)
        hold.set()
        rows = [payload for got in by_connection(source).values() for _, payload in got]
    assert sorted(row[:3] for row in rows) == [b"%03d" % i for i in range(60)]
    assert {len(row) for row in rows} == {5004}
