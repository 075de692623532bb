# SPDX-License-Identifier: Apache-2.0
"""The receiver of the connections case."""

from __future__ import annotations

import time

import zcrx_arrow as zc
from benchmarks.feeds import LINE_BYTES
from benchmarks.probe import Probe, say, status_kib


def connections(*, count: int, snapshot_bytes: int, area: str) -> None:
    """Receive lines on many connections; compare them when so many bytes have come in all.

    After the snapshot the sender is told to stop, and everything it sent must still arrive.
    """
    rows = 0
    fair: dict[int, int] = {}
    snapshot_ns = 0
    framing = zc.framing.Delimited(b"\n")
    limits = zc.Limits(connections=count)
    with zc.listen(
        "127.0.0.1:0", framing=framing, area=area, accept=count, limits=limits
    ) as source:
        probe = Probe.ready(source.address[1])
        for batch in source:
            rows += batch.num_rows
            if not fair and rows * LINE_BYTES >= snapshot_bytes:
                fair = dict(source.metrics().connection_bytes)
                snapshot_ns = time.monotonic_ns()
                say(snapshot=True)
        table = source.connections()
        metrics = source.metrics()
        peers = [int(peer.rpartition(":")[2]) for peer in table.column("peer").to_pylist()]
        received = table.column("bytes").to_pylist()
        reasons = set(table.column("close_reason").to_pylist())
        say(
            **probe.end(sum(received)),
            snapshot_ns=snapshot_ns,
            fair=sorted(fair.values()),
            by_port=dict(zip(peers, received, strict=True)),
            close_reasons=sorted(map(str, reasons)),
            rows=rows,
            rows_counted=metrics.rows,
            seams=metrics.seams,
            stalls=metrics.stalls,
            rss_end_kib=status_kib("VmRSS"),
        )
