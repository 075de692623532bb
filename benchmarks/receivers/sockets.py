# SPDX-License-Identifier: Apache-2.0
"""Receivers with nothing but Python's socket module, and with pyarrow behind it."""

from __future__ import annotations

import socket

import pyarrow as pa

from benchmarks.probe import Probe, say

RECEIVE_BYTES = 64 * 1024
ARRAY_BYTES = 1024 * 1024


def recv_into() -> None:
    """Receive into one hot buffer, like the C floor."""
    buffer = bytearray(RECEIVE_BYTES)
    total = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        probe = Probe.ready(listener.getsockname()[1])
        connection, _ = listener.accept()
        with connection:
            while got := connection.recv_into(buffer):
                total += got
            sample = probe.end(total)
    say(**sample)


def recv_array() -> None:
    """Receive bytes objects and make an Arrow array of each MiB or so."""
    total = 0
    chunks: list[bytes] = []
    pending = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        probe = Probe.ready(listener.getsockname()[1])
        connection, _ = listener.accept()
        with connection:
            while chunk := connection.recv(RECEIVE_BYTES):
                chunks.append(chunk)
                pending += len(chunk)
                if pending >= ARRAY_BYTES:
                    total += _payload_bytes(pa.array(chunks, pa.binary()))
                    chunks.clear()
                    pending = 0
            total += _payload_bytes(pa.array(chunks, pa.binary()))
            sample = probe.end(total)
    say(**sample)


def _payload_bytes(array: pa.Array) -> int:
    values = array.buffers()[2]
    return values.size if values else 0
