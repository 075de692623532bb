# SPDX-License-Identifier: Apache-2.0
"""Receivers that Arrow itself offers: an IPC stream on a socket, and Flight."""

from __future__ import annotations

import socket

import pyarrow as pa
from pyarrow import flight

from benchmarks.feeds import IPC_ROW_BYTES
from benchmarks.probe import Probe, say


def _payload_bytes(batch: pa.RecordBatch) -> int:
    return batch.num_rows * IPC_ROW_BYTES


def ipc() -> None:
    """Read an Arrow IPC stream off a socket."""
    total = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        probe = Probe.ready(listener.getsockname()[1])
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                total += _payload_bytes(batch)
            sample = probe.end(total)
    say(**sample)


def flight_get(*, server_port: int) -> None:
    """Read the same batches from a Flight server; it counts from the request on."""
    total = 0
    with flight.FlightClient(f"grpc://127.0.0.1:{server_port}") as client:
        client.do_get(flight.Ticket(b"1")).read_all()
        probe = Probe.ready(server_port)
        reader = client.do_get(flight.Ticket(b"all"))
        for chunk in reader:
            total += _payload_bytes(chunk.data)
        sample = probe.end(total)
    say(**sample)
