# SPDX-License-Identifier: Apache-2.0
"""What gRPC pulls a client's batches from, in the thread of its call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pyarrow import flight

from zcrx_arrow.connectors.flight_policy import ReaderEndedError

if TYPE_CHECKING:
    from collections.abc import Generator

    import pyarrow as pa

    from zcrx_arrow.connectors.flight_fanout import Fanout
    from zcrx_arrow.connectors.flight_policy import Piece, Reader

__all__ = ["as_flight", "batches_of"]

_STEP_S: Final = 0.25

Sent = tuple["pa.RecordBatch", bytes]


def batches_of(fanout: Fanout, reader: Reader, context: Any) -> Generator[Sent]:
    """
    Give what a reader is sent: batches, and what is said of each.

    The reader leaves when this ends, or is let go, even if nothing was ever pulled.
    """
    made = _batches(fanout, reader, context)
    next(made)  # one that was never started would not notice its end
    return made


def _batches(fanout: Fanout, reader: Reader, context: Any) -> Generator[Any]:
    truncated = reader.truncated
    try:
        yield None
        for taken in fanout.follow(reader, _STEP_S):
            if taken is None:
                if context.is_cancelled():
                    return
                continue
            piece, batches, rows = taken
            if batches or truncated:
                said = _unusual(piece, batches, rows, truncated=truncated)
                truncated = False
            else:
                said = b'{"batch": %d, "row": %d}' % (piece.number, piece.row)
            yield piece.batch, said
            del taken, piece  # while the next one is waited for
    except ReaderEndedError as error:
        raise as_flight(error) from None
    finally:
        fanout.leave(reader)


def _unusual(piece: Piece, batches: int, rows: int, *, truncated: bool) -> bytes:
    said: dict[str, Any] = {"batch": piece.number, "row": piece.row}
    if batches:
        said |= {"skipped_batches": batches, "skipped_rows": rows}
    if truncated:
        said["truncated"] = True
    return json.dumps(said).encode()


def as_flight(error: ReaderEndedError) -> flight.FlightError:
    """Make what a client is told of the end."""
    kind = flight.FlightUnavailableError if error.code == "closing" else flight.FlightServerError
    return kind(str(error), error.code.encode())
