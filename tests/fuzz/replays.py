# SPDX-License-Identifier: Apache-2.0
"""What a decoder makes of a stream, in a form that can be compared."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import zcrx_arrow as zc
from zcrx_arrow.errors import FramingError

# Small, so that chunks are used again; mapped anew for each input.
AREA = zc.Area(size="256 KiB", chunk="4 KiB", window="16 KiB")
_MANY = 10_000  # rows that take no bytes are no work to send
_FAILURE = re.compile(r"at position (\d+)")


@dataclass(slots=True)
class Outcome:
    """What came of a stream."""

    rows: list[dict[str, Any]]
    rejected: list[tuple[int, str, bytes]]
    failure: str | None

    @property
    def limit(self) -> float:
        """Where decoding failed; infinity if it did not."""
        if self.failure is None or not self.failure.startswith("decode: "):
            return float("inf")
        found = _FAILURE.search(self.failure)
        assert found, self.failure
        return int(found.group(1))

    @property
    def positions(self) -> list[int]:
        """Where the rows lay that came out in one way or the other, sorted."""
        delivered = [row["position"] for row in self.rows]
        assert delivered == sorted(delivered), "rows come out of order"
        return sorted(delivered + [position for position, _, _ in self.rejected])

    def __eq__(self, other: object) -> bool:
        """Whether it came to the same; NaN is itself."""
        assert isinstance(other, Outcome)
        return (repr(self.rows), self.rejected, self.failure) == (
            repr(other.rows),
            other.rejected,
            other.failure,
        )

    def __hash__(self) -> int:
        raise TypeError


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows by column name; columns may share one."""
    if batch.num_rows > _MANY:
        return [{"rows": batch.num_rows}]
    columns = {
        f"{name}#{at}" if name in batch.schema.names[:at] else name: batch.column(at)
        for at, name in enumerate(batch.schema.names)
    }
    if not columns:
        return [{}] * batch.num_rows
    try:
        values = [column.to_pylist() for column in columns.values()]
    except (pa.ArrowInvalid, ValueError, OverflowError):
        # Good values that Python has no objects for: time zones, years.
        return [{"bytes": batch.serialize().to_pybytes()}]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def run(data: bytes, decoder, *, framing=None, fragment=None, max_rows=65536) -> Outcome:
    """Decode it; no other error than one of the stream's may come."""
    options = {"batching": zc.Batching(max_rows=max_rows), "area": AREA, "fragment": fragment}
    rows: list[dict[str, Any]] = []
    failure = None
    with zc.decode(data, decoder, framing, **options) as replay:
        try:
            for batch in replay:
                batch.validate(full=True)
                assert batch.num_rows, "an empty batch"
                rows += _rows(batch)
        except FramingError as error:
            failure = str(error)
        rejected = [
            (row["position"], row["reason"], row["payload"])
            for row in replay.rejected.take().to_pylist()
        ]
    return Outcome(rows, rejected, failure)


def alike(one: Outcome, other: Outcome, what: str) -> None:
    """Check that two ways lead to the same; say where they part."""
    if one == other:
        return
    for name in ("rows", "rejected"):
        pairs = itertools.zip_longest(getattr(one, name), getattr(other, name))
        for at, (mine, theirs) in enumerate(pairs):
            assert repr(mine) == repr(theirs), f"{what}: {name} {at}: {mine} and {theirs}"
    raise AssertionError(f"{what}: {one.failure} and {other.failure}")
