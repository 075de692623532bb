# SPDX-License-Identifier: Apache-2.0
"""What is appended of a feed, and what was before: positions of rows, checked."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pyarrow as pa

from zcrx_arrow.config import Duration, Size, nanoseconds, one_of, parse_size, whole
from zcrx_arrow.connectors.duckdb_positions import Position
from zcrx_arrow.errors import ConfigError, ZcrxError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["AppendOptions", "Gap", "Progress", "Resume", "origins"]

Resume = Literal["refuse", "skip", "anew"]
Gap = Literal["error", "allow"]

_REMEMBERED: Final = 65536
_ORIGINS: Final = {"connection": pa.uint32(), "position": pa.uint64()}


def origins(schema: pa.Schema) -> set[str]:
    """Give the columns that say where rows come from; what others call so is not it."""
    names = _ORIGINS.keys() & set(schema.names)
    return {name for name in names if schema.field(name).type == _ORIGINS[name]}


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendOptions:
    """Of `append`, checked."""

    feed: str
    resume: Resume
    base: int
    gap: Gap
    max_rows: int
    max_bytes: Size
    interval: Duration
    create: bool
    positions: str

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.feed, str) or not self.feed:
            raise ConfigError(f"append: feed={self.feed!r} must be the feed's name")
        one_of(self.resume, "resume", ("refuse", "skip", "anew"))
        one_of(self.gap, "gap", ("error", "allow"))
        whole(self.base, "base", 0, 2**63)
        whole(self.max_rows, "max_rows", 1, 2**40)
        parse_size(self.max_bytes, "max_bytes")
        nanoseconds(self.interval, "interval")


class Progress:
    """Where each connection is, committed and pulled."""

    def __init__(self, options: AppendOptions, before: list[Position]) -> None:
        """Begin, or go on from the latest run's positions."""
        self._options = options
        _check_resume(options, before)
        going_on = before[0] if before and options.resume == "skip" else None
        self.run = going_on.run if going_on else before[0].run + 1 if before else 0
        self._key = going_on
        self._only: int | None = None
        self._met = going_on is None
        self.skipped = 0
        self.committed: dict[int, Position] = {going_on.connection: going_on} if going_on else {}
        self._forgotten = False
        self._last: dict[int, int] = {}

    def check(self, schema: pa.Schema) -> None:
        """See that rows say where they come from, where that is needed."""
        if self._key is not None and self._key.position is None:
            raise ConfigError(
                f"append: feed {self._options.feed!r} was stored without positions",
                remedy="Take resume='anew'.",
            )
        missing = _ORIGINS.keys() - origins(schema)
        if missing and self._options.resume == "skip":
            raise ConfigError(
                f"append: resume='skip' needs the columns {sorted(missing)}",
                remedy="Say keep=['connection', 'position'] to the decoder.",
            )

    def admit(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Leave out what was committed before; see that nothing is missing or out of order."""
        if origins(batch.schema) != _ORIGINS.keys():
            return batch
        connections = batch.column("connection").to_numpy()
        logical = batch.column("position").to_numpy() + np.uint64(self._options.base)
        for each in map(int, np.unique(connections)):
            self._check_order(each, logical[connections == each])
        if self._options.resume == "skip":
            self._check_alone(connections)
        return batch if self._key is None else self._behind(batch, logical)

    def _check_order(self, connection: int, logical: npt.NDArray[np.uint64]) -> None:
        last = self._last.pop(connection, 0)
        if logical[0] < last or np.any(logical[1:] < logical[:-1]):
            raise ZcrxError(
                errno.EPROTO,
                f"positions of connection {connection} go back, behind {last}",
                step="append",
                remedy="Append a feed as its source gives it.",
            )
        self._last[connection] = int(logical[-1])
        if len(self._last) > _REMEMBERED:
            del self._last[next(iter(self._last))]

    def _check_alone(self, connections: npt.NDArray[np.uint32]) -> None:
        if self._only is None:
            self._only = int(connections[0])
        if np.any(connections != self._only):
            raise ZcrxError(
                errno.EINVAL,
                f"rows of another connection than {self._only} came; which one goes on with feed "
                f"{self._options.feed!r} cannot be told",
                step="append",
                remedy="Open the source with accept=1, or take resume='anew'.",
            )

    def _behind(self, batch: pa.RecordBatch, logical: npt.NDArray[np.uint64]) -> pa.RecordBatch:
        assert self._key is not None  # noqa: S101 - see admit
        until = self._key.position or 0
        first = int(np.searchsorted(logical, np.uint64(until), side="right"))
        self._met |= bool(first and logical[first - 1] == until)
        if first < len(logical) and not self._met:
            self.missed(int(logical[first]))
        self.skipped += first
        return batch.slice(first)

    def missed(self, at: int | None) -> None:
        """Say that the last row that was committed did not come again, so that some may miss."""
        if self._met or self._options.gap == "allow":
            return
        where = "has ended" if at is None else f"goes on at {at}"
        until = self._key.position if self._key else None
        raise ZcrxError(
            errno.ENODATA,
            f"feed {self._options.feed!r} {where}, and the last committed row, at {until}, did not "
            "come again: rows may be missing",
            step="append",
            remedy=f"Have the peer send from {until} on, and say base={until}; or gap='allow'.",
        )

    def after(self, batches: list[pa.RecordBatch], peers: dict[int, str | None]) -> list[Position]:
        """Say where connections will be, and by how many rows they move."""
        counts: dict[int, int] = {}
        last: dict[int, int] = {}
        for batch in batches:
            _tally(batch, counts, last, self._options.base)
        now = datetime.now(UTC)
        return [self._moved(each, counts[each], last.get(each), peers, now) for each in counts]

    def _moved(
        self,
        connection: int,
        rows: int,
        last: int | None,
        peers: dict[int, str | None],
        now: datetime,
    ) -> Position:
        return Position(
            feed=self._options.feed,
            run=self.run,
            connection=self._key.connection if self._key else connection,
            peer=peers.get(connection),
            position=last,
            rows=rows,
            committed_at=now,
        )

    def rows_of(self, connection: int) -> int | None:
        """Say how many rows of a connection are committed; None: forgotten."""
        known = self.committed.get(connection)
        if known is not None:
            return known.rows
        return None if self._forgotten else 0

    def moved(self, positions: list[Position]) -> None:
        """Take note of what was committed."""
        for each in positions:
            self.committed.pop(each.connection, None)
            self.committed[each.connection] = each
        while len(self.committed) > _REMEMBERED:
            del self.committed[next(iter(self.committed))]
            self._forgotten = True


def _check_resume(options: AppendOptions, before: list[Position]) -> None:
    if before and options.resume == "refuse":
        raise ZcrxError(
            errno.EEXIST,
            f"feed {options.feed!r} was appended before, {before[0].rows:,} rows up to "
            f"{before[0].position}",
            step="append",
            remedy="Say resume='skip' if the peer sends again what was committed, from base= on; "
            "or resume='anew' if it begins anew, so that no row can be a repetition.",
        )
    if options.resume == "skip" and len(before) > 1:
        raise ZcrxError(
            errno.EINVAL,
            f"run {before[0].run} of feed {options.feed!r} had {len(before)} connections, and "
            "which is which cannot be told",
            step="append",
            remedy="Give each peer a source and a feed of its own, or take resume='anew'.",
        )


def _tally(batch: pa.RecordBatch, counts: dict[int, int], last: dict[int, int], base: int) -> None:
    names = origins(batch.schema)
    if "connection" not in names:
        counts[0] = counts.get(0, 0) + batch.num_rows
        if "position" in names and batch.num_rows:
            last[0] = base + batch.column("position")[-1].as_py()
        return
    connections = batch.column("connection").to_numpy()
    for each, count in zip(*np.unique(connections, return_counts=True), strict=True):
        counts[int(each)] = counts.get(int(each), 0) + int(count)
        if "position" in names:
            at = int(np.flatnonzero(connections == each)[-1])
            last[int(each)] = base + batch.column("position")[at].as_py()
