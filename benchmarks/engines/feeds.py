# SPDX-License-Identifier: Apache-2.0
"""The bytes of each feed: whole rows in a file that the sender repeats."""

from __future__ import annotations

from benchmarks import binaries
from benchmarks.feeds import Feed
from benchmarks.memory import data

BODY_BYTES = 4 << 20


def feed(kind: str, total: int) -> tuple[Feed, int]:
    """Make a feed of about so many bytes (records, csv or ndjson), and count its rows."""
    made = data.records(BODY_BYTES, "<") if kind == "records" else getattr(data, kind)(BODY_BYTES)
    body, rows = made
    times = max(1, total // len(body))
    path = binaries.BUILD / f"engine-{kind}.bin"
    if not path.exists() or path.read_bytes() != body:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    size = times * len(body)
    return Feed(body=path, body_bytes=size, payload_bytes=size), times * rows
