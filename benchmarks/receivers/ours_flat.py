# SPDX-License-Identifier: Apache-2.0
"""The receiver of the flatness case."""

from __future__ import annotations

import gc

import zcrx_arrow as zc
from benchmarks.feeds import LINE_BYTES
from benchmarks.probe import Probe, say, status_kib


def flatness(*, every_bytes: int) -> None:
    """Receive lines; look at objects, memory and leases each so many bytes."""
    samples: list[dict[str, int]] = []
    rows = next_look = 0
    framing = zc.framing.Delimited(b"\n")
    with zc.listen("127.0.0.1:0", framing=framing, accept=1) as source:
        probe = Probe.ready(source.address[1])
        for batch in source:
            rows += batch.num_rows
            if rows * LINE_BYTES >= next_look:
                next_look += every_bytes
                metrics = source.metrics()
                gc.collect()
                samples.append(
                    {
                        "gc_objects": len(gc.get_objects()),
                        "rss_kib": status_kib("VmRSS"),
                        "chunks_leased": metrics.chunks_leased,
                        "chunks_free": metrics.chunks_free,
                    }
                )
        del batch
        metrics = source.metrics()
        say(
            **probe.end(metrics.bytes),
            rows=rows,
            samples=samples,
            chunks_leased_at_end=metrics.chunks_leased,
            lease_faults=metrics.lease_faults,
        )
