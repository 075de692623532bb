# SPDX-License-Identifier: Apache-2.0
"""Receivers of the throughput cases of this project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zcrx_arrow as zc
from benchmarks.feeds import LINE_BYTES
from benchmarks.probe import Probe, say

if TYPE_CHECKING:
    import pyarrow as pa


def details(source: zc.Source) -> dict[str, object]:
    metrics = source.metrics()
    names = ("fragments", "rows", "batches", "seams", "stitched_bytes", "copied_out_bytes")
    more = ("stalls", "starved", "rearms", "nobufs", "enters", "wakes", "zero_copy_share")
    return {"transport": source.transport} | {name: getattr(metrics, name) for name in names + more}


def _end_position(batch: pa.RecordBatch | None) -> int:
    """Say how far in its stream the last batch reaches; gaps show as too large a position."""
    if batch is None:
        return 0
    payload = batch.column("payload")[-1].as_buffer()
    return int(batch.column("position")[-1].as_py() + payload.size)


def must_be(what: str, got: int, expected: int) -> None:
    if got != expected:
        message = f"{what}: {got} instead of {expected}"
        raise AssertionError(message)


def raw() -> None:
    """Loop over raw batches and let each go."""
    rows = batches = 0
    batch = None
    with zc.listen("127.0.0.1:0", accept=1) as source:
        probe = Probe.ready(source.address[1])
        for batch in source:
            rows += batch.num_rows
            batches += 1
        end = _end_position(batch)
        sample = probe.end(end)
        metrics = source.metrics()
        must_be("rows", rows, metrics.rows)
        must_be("batches", batches, metrics.batches)
        must_be("bytes of the kernel", metrics.bytes, end)
        say(**sample, details=details(source))


def lines() -> None:
    """Loop over batches of lines and let each go."""
    rows = 0
    framing = zc.framing.Delimited(b"\n")
    with zc.listen("127.0.0.1:0", framing=framing, accept=1) as source:
        probe = Probe.ready(source.address[1])
        for batch in source:
            rows += batch.num_rows
        sample = probe.end(rows * LINE_BYTES)
        must_be("rows", rows, source.metrics().rows)
        must_be("bytes of the kernel", source.metrics().bytes, rows * LINE_BYTES)
        say(**sample, details=details(source))


def keep() -> None:
    """Keep every raw batch, so that the area would run dry if batches were not copied out."""
    kept: list[pa.RecordBatch] = []
    with zc.listen("127.0.0.1:0", accept=1, copy_out="auto") as source:
        probe = Probe.ready(source.address[1])
        kept.extend(source)
        end = _end_position(kept[-1] if kept else None)
        sample = probe.end(end)
        total = sum(_payload_bytes(batch) for batch in kept)
        must_be("bytes of the batches", total, end)
        say(**sample, details=details(source))


def _payload_bytes(batch: pa.RecordBatch) -> int:
    return sum(len(value.as_buffer()) for value in batch.column("payload"))
