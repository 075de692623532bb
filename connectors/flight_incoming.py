# SPDX-License-Identifier: Apache-2.0
"""A stream that a Flight client puts: what is known of it, and how its end is named."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import flight

from zcrx_arrow.connectors.flight_request import refusal

__all__ = [
    "ORIGIN",
    "BrokenStreamError",
    "Connection",
    "acknowledged",
    "difference",
    "reason_of",
    "with_origin",
    "without_details",
]

_TEXT: Final = 200

ORIGIN: Final = (
    pa.field("connection", pa.uint32(), nullable=False),
    pa.field("position", pa.uint64(), nullable=False),
    pa.field("received_at", pa.timestamp("ns", "UTC"), nullable=False),
)


@dataclass(slots=True, eq=False)
class Connection:
    """A stream of a client; written by the thread of its call."""

    id: int
    peer: str
    opened_ns: int
    closed_ns: int = 0
    reason: str | None = None
    error: str | None = None
    batches: int = 0
    rows: int = 0
    bytes: int = 0
    dictionaries: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Of the latest batch: where they lie, and their bytes."""

    def row(self, local: str) -> dict[str, Any]:
        """Give its row of the table of connections."""
        return {
            "id": self.id,
            "peer": self.peer,
            "local": local.partition("://")[2],
            "opened_at": self.opened_ns,
            "closed_at": self.closed_ns or None,
            "close_reason": self.reason,
            "error": self.error,
            "bytes": self.bytes,
            "rows": self.rows,
            "partial_bytes": 0,
        }


class BrokenStreamError(flight.FlightUnavailableError):  # type: ignore[misc] # pyarrow has no types
    """A stream that has ended without its client saying so."""


def without_details(error: Any) -> BaseException:
    """Give what a client may be told: pyarrow would send the traceback of anything else."""
    told = isinstance(error, flight.FlightError) or not isinstance(error, Exception)
    made: BaseException = error if told else refusal(f"{type(error).__name__}: {error}", "failed")
    return made


def reason_of(error: BaseException | None, *, closing: bool) -> str:
    """Name the end of a stream as sources do."""
    if error is None:
        return "eof"
    if closing:
        return "local"
    if isinstance(error, BrokenStreamError):
        return "reset"
    return "framing" if isinstance(error, flight.FlightServerError) else "error"


def acknowledged(connection: Connection) -> bytes:
    """Give what its client is told of what is queued."""
    return json.dumps({"batches": connection.batches, "rows": connection.rows}).encode()


def difference(wanted: pa.Schema, given: pa.Schema) -> str:
    """Say where a schema differs."""
    for a, b in itertools.zip_longest(wanted, given):
        if a is None or b is None or not a.equals(b):
            return f"this feed's schema has {_named(a)} where the stream's has {_named(b)}"
    return "the schemas differ"


def _named(field: pa.Field | None) -> str:
    if field is None:
        return "no column"
    text = f"{field.name}: {field.type}{'' if field.nullable else ' not null'}"
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}..."  # as long as a client likes


def with_origin(
    batch: pa.RecordBatch, connection: Connection, schema: pa.Schema | None
) -> pa.RecordBatch:
    """Add the columns that tell where rows came from."""
    rows = batch.num_rows
    positions = np.arange(connection.rows, connection.rows + rows, dtype=np.uint64)
    now = np.full(rows, time.time_ns(), np.int64)
    columns = [
        *batch.columns,
        pa.array(np.full(rows, connection.id, np.uint32)),
        pa.array(positions),
        pa.array(now).cast(ORIGIN[2].type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
