# SPDX-License-Identifier: Apache-2.0
"""What a Flight server tells of itself and its clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

__all__ = ["CLIENTS_SCHEMA", "ServerMetrics"]

CLIENTS_SCHEMA: Final = pa.schema(
    [
        pa.field("peer", pa.string(), nullable=False),
        pa.field("connected_s", pa.float64(), nullable=False),
        pa.field("sent_batches", pa.uint64(), nullable=False),
        pa.field("sent_bytes", pa.uint64(), nullable=False),
        pa.field("behind_batches", pa.uint64(), nullable=False),
        pa.field("behind_bytes", pa.uint64(), nullable=False),
        pa.field("skipped_batches", pa.uint64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetrics:
    """Counters since the server was opened, and gauges of this moment."""

    clients: int
    """Streams that are open."""
    joined: int
    refused: int
    """Streams that were refused because of the bound on clients."""
    dropped: int
    """Clients that were too slow."""
    hung_up: int
    """Connections cut because their client did not read that it was dropped."""
    batches: int
    """Of the feed, as they are sent."""
    rows: int
    bytes: int
    sent_batches: int
    """To all clients."""
    sent_rows: int
    sent_bytes: int
    skipped_batches: int
    """By all clients, with ``slow="skip"``."""
    skipped_rows: int
    waits: int
    """Times that the feed waited for a client, with ``slow="wait"``."""
    waited_s: float
    held_batches: int
    """In memory now, for clients that are behind or ask for the past."""
    held_bytes: int
