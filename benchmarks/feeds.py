# SPDX-License-Identifier: Apache-2.0
"""The bytes that senders send, prepared once as files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from benchmarks import binaries

if TYPE_CHECKING:
    from pathlib import Path

LINE_BYTES = 100
IPC_ROW_BYTES = 64
IPC_ROWS = 16_384
IPC_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
IPC_BATCH_BYTES = IPC_ROW_BYTES * IPC_ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A prefix, a body to be repeated, and a suffix.

    Attributes
    ----------
    body_bytes
        Bytes that the sender sends of the body in all; a multiple of the body's length.
    payload_bytes
        What the receiver must have counted at the end.
    """

    body: Path
    body_bytes: int
    payload_bytes: int
    prefix: Path | None = None
    suffix: Path | None = None

    def sender_arguments(self) -> list[str]:
        """Give the arguments of the C sender, after CPU and port."""
        parts = [str(part) if part else "-" for part in (self.body, self.prefix, self.suffix)]
        return [str(self.body_bytes), *parts]


def _file(name: str, content: bytes) -> Path:
    path = binaries.BUILD / name
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


def lines(total: int) -> Feed:
    """Lines of 100 bytes, the newline included."""
    count = max(1, total // LINE_BYTES)
    body = b"x" * (LINE_BYTES - 1) + b"\n"
    size = count * LINE_BYTES
    return Feed(body=_file("lines.bin", body), body_bytes=size, payload_bytes=size)


def ipc_batch() -> pa.RecordBatch:
    """Make the batch of 1 MiB that the Arrow cases are fed with: columns of numbers."""
    numbers = pa.array(range(IPC_ROWS), pa.int64())
    kinds = {
        "time": pa.timestamp("ns"),
        "id": pa.int64(),
        "account": pa.int32(),
        "venue": pa.int32(),
        "price": pa.float64(),
        "size": pa.float64(),
        "bid": pa.float64(),
        "ask": pa.float64(),
        "flags": pa.uint32(),
        "count": pa.uint32(),
    }
    return pa.record_batch([numbers.cast(kind) for kind in kinds.values()], names=list(kinds))


def ipc_batches(total: int) -> int:
    """Say how many of those batches make up so many bytes."""
    return max(1, total // IPC_BATCH_BYTES)


def ipc(total: int) -> Feed:
    """Make an Arrow IPC stream: its schema, batches of 1 MiB, its end marker."""
    batch = ipc_batch()
    body = batch.serialize().to_pybytes()
    count = ipc_batches(total)
    return Feed(
        prefix=_file("ipc-schema.bin", batch.schema.serialize().to_pybytes()),
        body=_file("ipc-batch.bin", body),
        suffix=_file("ipc-end.bin", IPC_END),
        body_bytes=count * len(body),
        payload_bytes=count * IPC_BATCH_BYTES,
    )
