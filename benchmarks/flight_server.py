# SPDX-License-Identifier: Apache-2.0
"""The sending process of the Flight case: a server whose batches are in memory."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from pyarrow import flight

from benchmarks.feeds import ipc_batch, ipc_batches
from benchmarks.probe import cpu_seconds, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa


class Server(flight.FlightServerBase):
    """Serves the feed's batch again and again; remembers when the last request came."""

    def __init__(self, total: int) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self._batch = ipc_batch()
        self._count = ipc_batches(total)
        self.started_ns = 0
        self.cpu = 0.0

    def do_get(
        self,
        context: flight.ServerCallContext,  # noqa: ARG002 (the interface's)
        ticket: flight.Ticket,
    ) -> flight.FlightDataStream:
        """Serve one batch for the ticket "1", the feed for any other."""
        count = 1 if ticket.ticket == b"1" else self._count
        self.cpu = cpu_seconds()
        self.started_ns = time.monotonic_ns()
        return flight.GeneratorStream(self._batch.schema, self._batches(count))

    def _batches(self, count: int) -> Iterator[pa.RecordBatch]:
        for _ in range(count):
            yield self._batch


def main() -> None:
    """Serve until standard input ends, then say when the last request came."""
    parameters = json.loads(sys.argv[1])
    if parameters["sender_cpu"] is not None:
        os.sched_setaffinity(0, {parameters["sender_cpu"]})
    server = Server(parameters["total"])
    say(port=server.port)
    serving = threading.Thread(target=server.serve)
    serving.start()
    sys.stdin.read()
    say(started_ns=server.started_ns, cpu_seconds=cpu_seconds() - server.cpu)
    server.shutdown()
    serving.join()


main()
