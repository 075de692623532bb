# SPDX-License-Identifier: Apache-2.0
"""The source as an object: waiting, stopping, looking, reconnecting."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading

import pytest

import zcrx_arrow as zc
from tests.conftest import eventually
from tests.rows import by_connection, payloads
from tests.wire import dial

LINES = zc.framing.Delimited()


def test_next_batch_times_out(wire):
    with wire.listen() as source:
        with pytest.raises(TimeoutError):
            source.next_batch("20 ms")
        with pytest.raises(TimeoutError):
            source.next_batch(0)


def test_stop_leaves_what_is_queued(wire, send):
    hold = threading.Event()
    with wire.listen(framing=LINES) as source:
        send(source.address, b"a\nb\n", hold=hold)
        eventually(lambda: source.metrics().rows == 2)
        source.stop()
        assert [row for batch in source for row in payloads(batch)] == [b"a", b"b"]
        (connection,) = source.connections().to_pylist()
        assert connection["close_reason"] == "local"


def test_close_drops_and_counts(wire, send):
    hold = threading.Event()
    source = wire.listen(framing=LINES)
    send(source.address, b"a\nb\n", hold=hold)
    eventually(lambda: source.metrics().rows == 2)
    source.close()
    source.close()
    assert source.closed
    assert source.next_batch(0) is None
    assert list(source) == []
    assert source.metrics().discarded_rows == 2


def test_accept_limit_ends_the_source(wire, send):
    with wire.listen(framing=LINES, accept=2) as source:
        send(source.address, b"1\n")
        send(source.address, b"2\n")
        assert sorted(row for batch in source for row in payloads(batch)) == [b"1", b"2"]
        with pytest.raises(ConnectionRefusedError):
            dial(source.address)


def test_end_reset_and_local_are_told_apart(wire):
    with wire.listen(framing=LINES) as source:
        eof = dial(source.address)
        eventually(lambda: source.metrics().connections == 1)
        reset = dial(source.address)
        eventually(lambda: source.metrics().connections == 2)
        local = dial(source.address)
        eventually(lambda: source.metrics().connections == 3)
        eof.close()
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        reset.close()
        eventually(lambda: source.metrics().connections == 1)
        source.close()
        assert local.recv(1) == b""
        local.close()
        reasons = [row["close_reason"] for row in source.connections().to_pylist()]
    assert reasons == ["eof", "reset", "local"]


def test_open_connection_in_the_table(wire, send):
    hold = threading.Event()
    with wire.listen(framing=LINES) as source:
        send(source.address, b"abc\n", hold=hold)
        eventually(lambda: source.metrics().rows == 1)
        (row,) = source.connections().to_pylist()
        assert row["close_reason"] is None
        assert row["closed_at"] is None
        assert row["bytes"] == 4
        assert row["rows"] == 1
        assert row["local"] == f"{wire.here}:{source.address[1]}"
        assert source.metrics().connection_bytes == {1: 4}


def test_async_for(wire, send):
    async def collect(source):
        return [row async for batch in source for row in payloads(batch)]

    async def main(source):
        # Two tasks share the source; every row goes to one of them.
        found = await asyncio.gather(collect(source), collect(source))
        return sorted(found[0] + found[1])

    with wire.listen(framing=LINES, accept=3) as source:
        for i in range(3):
            send(source.address, *[b"%d-%d\n" % (i, j) for j in range(50)])
        rows = asyncio.run(main(source))
    assert rows == sorted(b"%d-%d" % (i, j) for i in range(3) for j in range(50))


def test_async_cancelled(wire):
    async def main(source):
        task = asyncio.create_task(anext(aiter(source)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with wire.listen() as source:
        asyncio.run(main(source))


class Feed:
    """A server that serves each peer one line and then goes away."""

    def __init__(self, wire) -> None:
        self.server = wire.serve()
        self.port = self.server.getsockname()[1]
        self.peers = []

    def serve_one(self, data: bytes, *, reset: bool = False) -> None:
        peer, _ = self.server.accept()
        peer.sendall(data)
        if reset:
            eventually(lambda: not self.unread(peer))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        peer.close()

    @staticmethod
    def unread(peer) -> int:
        import fcntl
        import struct

        return struct.unpack("i", fcntl.ioctl(peer, 0x5411, b"\0\0\0\0"))[0]  # SIOCOUTQ


def test_reconnect(wire, caplog):
    caplog.set_level(logging.INFO, "zcrx_arrow")
    feed = Feed(wire)
    policy = zc.Reconnect(first_delay="10 ms", attempts=3)
    serving = threading.Thread(target=lambda: [feed.serve_one(b"%d\n" % i) for i in range(3)])
    serving.start()
    with wire.connect(feed.port, framing=LINES, reconnect=policy) as source:
        rows = {}
        for batch in source:
            rows.update(by_connection([batch]))
            if len(rows) == 3:
                break
        serving.join()
        table = source.connections().to_pylist()[:3]
        metrics = source.metrics()
    feed.server.close()
    assert rows == {1: [(0, b"0")], 2: [(0, b"1")], 3: [(0, b"2")]}
    assert [row["resumes"] for row in table] == [None, 1, 2]
    assert all(row["gap"] is not None for row in table[1:])
    assert metrics.reconnects == metrics.gaps == 2
    assert "connection 2 replaces 1 after a gap of" in caplog.text


def test_reconnect_gives_up(wire):
    feed = Feed(wire)
    policy = zc.Reconnect(first_delay="1 ms", max_delay="2 ms", attempts=3)
    serving = threading.Thread(target=feed.serve_one, args=(b"last words\n",))
    serving.start()
    with wire.connect(feed.port, framing=LINES, reconnect=policy) as source:
        serving.join()
        feed.server.close()
        assert payloads(source.next_batch(20)) == [b"last words"]
        with pytest.raises(zc.ZcrxError, match="gave up after 3 attempts"):
            source.next_batch(20)


def test_without_reconnect_the_source_ends(wire):
    feed = Feed(wire)
    serving = threading.Thread(target=feed.serve_one, args=(b"a\n",))
    serving.start()
    with wire.connect(feed.port, framing=LINES) as source:
        assert [row for batch in source for row in payloads(batch)] == [b"a"]
    serving.join()
    feed.server.close()


def test_log_says_what_happens(wire, send, caplog):
    caplog.set_level(logging.INFO, "zcrx_arrow")
    with wire.listen(accept=1) as source:
        send(source.address, b"x")
        list(source)
    assert f"transport {wire.transport}" in caplog.text
    assert "connection 1 opened" in caplog.text
    assert "connection 1 closed (eof)" in caplog.text
