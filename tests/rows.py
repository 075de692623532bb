# SPDX-License-Identifier: Apache-2.0
"""Reading batches."""

from __future__ import annotations

from collections import defaultdict


def payloads(batch) -> list:
    return batch.column("payload").to_pylist()


def by_connection(batches) -> dict[int, list[tuple[int, bytes]]]:
    """(position, payload) of every row, per connection, in the order of delivery."""
    rows = defaultdict(list)
    for batch in batches:
        columns = (batch.column(name).to_pylist() for name in ("connection", "position", "payload"))
        for connection, position, payload in zip(*columns, strict=True):
            rows[connection].append((position, payload))
    return dict(rows)


def stream_of(rows) -> bytes:
    """The bytes of a raw connection; positions must leave no gap and repeat nothing."""
    end = 0
    for position, payload in rows:
        assert position == end
        end += len(payload)
    return b"".join(payload for _, payload in rows)


def payload_buffers(batch) -> list:
    """Variadic buffers of the payload column: the spans of the area."""
    return [buffer for buffer in batch.column("payload").buffers()[2:] if buffer is not None]
