# SPDX-License-Identifier: Apache-2.0
"""Counters and gauges of a source."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Metrics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """
    Counters since the source was opened, and gauges of this moment.

    Each number is right by itself; two of them may be from moments a little apart.
    """

    bytes: int
    """Received from the kernel."""
    fragments: int
    """Completions that carried bytes."""
    rows: int
    batches: int
    seams: int
    """Messages that crossed fragments not adjacent in the area, and so were stitched."""
    stitched_bytes: int
    """Copied because of seams."""
    copied_out_bytes: int
    """Payload bytes copied out of the area, by policy or for a compact payload type."""
    copied_out_batches: int
    zero_copy_batches: int
    partial_bytes: int
    """Received, and not delivered because their message never became whole."""
    discarded_rows: int
    """Rows that nobody had pulled when the source was closed, or that were decoded for a query of
    some columns and not pulled by it."""
    stalls: int
    """Times that receiving paused because the queue was full."""
    stalled_ns: int
    starved: int
    """Times that no chunk of the area was free."""
    rearms: int
    """Receives submitted again after the kernel had ended them."""
    nobufs: int
    """Receives ended for want of a free chunk."""
    cancelled: int
    enters: int
    """io_uring_enter(2) calls."""
    wakes: int
    """Times that another thread woke the receiver."""
    accepted: int
    refused: int
    """Connections closed at once because of a limit."""
    accept_errors: int
    framing_errors: int
    events_lost: int
    """Events that came faster than they could be logged."""
    chunks: int
    chunks_free: int
    chunks_offered: int
    """In the kernel's hands."""
    chunks_leased: int
    """Held by batches or unfinished messages."""
    batches_held: int
    """Emitted and not yet released, queued ones included."""
    queue_batches: int
    queue_bytes: int
    connections: int
    """Open now."""
    paused: int
    """1 while receiving is paused."""
    copying_out: int
    """1 while batches are copied out because the area is nearly full."""
    flushes: int
    """Times that the kernel was told to take back what lies in the refill ring."""
    alloc_fails: int
    """Times that the kernel said that the NIC had no chunk: packets were dropped, and sent again
    by their peers."""
    copy_events: int
    """Times that the kernel said that it copies; once until that is looked at."""
    returns_pending: int
    """Chunks whose fragments wait for room in the refill ring."""
    kernel_copied_bytes: int
    """Copied into the area by the kernel, as far as it says so (Linux 7.2): with ``zcrx`` it
    should stay near 0."""
    lease_faults: int
    """Leases returned that were not out; not 0 only by a bug in this library."""
    reconnects: int
    gaps: int
    """Times that a connection was replaced by a new one, so that bytes may be missing."""
    connection_bytes: dict[int, int]
    """Bytes received, by id of the open connections."""

    @property
    def zero_copy_share(self) -> float:
        """
        Share of the received bytes that no one copied in user space, 0 to 1.

        1 if nothing has been received.
        """
        copied = min(self.copied_out_bytes + self.stitched_bytes, self.bytes)
        return 1.0 - copied / self.bytes if self.bytes else 1.0

    @classmethod
    def from_core(cls, core: Any, **own: Any) -> Metrics:
        """Make the metrics from a ``struct za_metrics`` and what Python counts itself."""
        names = (field.name for field in fields(cls) if field.name not in own)
        return cls(**{name: getattr(core, name) for name in names}, **own)
