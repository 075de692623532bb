# SPDX-License-Identifier: Apache-2.0
"""A feed over the software NIC's wire whose every byte is known, and sources to receive it."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import textwrap

import zcrx_arrow as zc
from tests.conftest import eventually
from tests.kernel.guest import nic

# What the peer sends: byte p of connection c is PATTERN[(p + c * 7919) % len].
PATTERN = random.Random(3).randbytes(1_000_003)
TWICE = PATTERN + PATTERN
SEND = """
    import random, socket, sys, threading
    host, port, connections, total = sys.argv[1], *map(int, sys.argv[2:5])
    pattern = random.Random(3).randbytes(1_000_003)
    twice = pattern + pattern
    def send(number):
        with socket.create_connection((host, port)) as peer:
            peer.sendall(bytes([number]))
            sent = 0
            while sent < total:
                begin = (sent + number * 7919) % len(pattern)
                piece = memoryview(twice)[begin : begin + min(len(pattern), total - sent)]
                peer.sendall(piece)
                sent += len(piece)
            peer.shutdown(socket.SHUT_WR)
            peer.recv(1)
    threads = [threading.Thread(target=send, args=(n,)) for n in range(connections)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


def start_sender(
    port: int, *, connections: int = 1, total: int, family: int = 4, stderr: int | None = None
) -> subprocess.Popen[bytes]:
    """Send from the far side of the wire."""
    command = ["ip", "netns", "exec", nic.FAR, sys.executable, "-c", textwrap.dedent(SEND)]
    arguments = [nic.HERE[family], str(port), str(connections), str(total)]
    return subprocess.Popen([*command, *arguments], stderr=stderr)


def open_source(port: int, queue: int, **options) -> zc.Source:
    options.setdefault("area", "8 MiB")
    options.setdefault("nic", f"zc0:{queue}")
    host = options.pop("host", nic.HERE[4])
    source = zc.listen((host, port), transport="zcrx", **options)
    assert source.transport == "zcrx"
    return source


class Checker:
    """Compares what arrives with what was sent, byte for byte, by position."""

    def __init__(self) -> None:
        self.positions: dict[int, int] = {}
        self.numbers: dict[int, int] = {}

    def take(self, batch) -> None:
        columns = (batch["connection"], batch["position"], batch["payload"])
        for connection, position, payload in zip(*columns, strict=True):
            data = memoryview(payload.as_buffer()).cast("B")
            which, at = connection.as_py(), position.as_py()
            assert self.positions.get(which, 0) == at, "gap or repeat"
            self.positions[which] = at + len(data)
            if at == 0:
                self.numbers[which] = data[0]
                data, at = data[1:], 1
            begin = (at - 1 + self.numbers[which] * 7919) % len(PATTERN)
            assert data == memoryview(TWICE)[begin : begin + len(data)], "bytes differ"

    def check(self, connections: int, total: int) -> None:
        assert sorted(self.positions.values()) == [total + 1] * connections


def all_home(source: zc.Source) -> zc.metrics.Metrics:
    gc.collect()
    eventually(lambda: source.metrics().chunks_leased == 0)
    metrics = source.metrics()
    assert metrics.lease_faults == 0
    assert metrics.chunks_offered == metrics.chunks
    return metrics


def receive_all(source: zc.Source, connections: int, total: int) -> zc.metrics.Metrics:
    checker = Checker()
    for batch in source:
        checker.take(batch)
        del batch
    checker.check(connections, total)
    return all_home(source)
