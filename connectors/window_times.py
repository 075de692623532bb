# SPDX-License-Identifier: Apache-2.0
"""Which window a row belongs to, and when a window closes. Knows no engine and no clock."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np
import pyarrow as pa

from zcrx_arrow.connectors.window_rows import Budget, Rows, cut
from zcrx_arrow.errors import ConfigError, ZcrxError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["ByRows", "ByTime", "Closed", "ClosedBy", "Shape", "Strays", "Times"]

ClosedBy = Literal["full", "time", "idle", "end"]
Late = Literal["drop", "keep", "error"]

_UNITS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_MOST_EMPTY: Final = 10_000


@dataclass(slots=True)
class Strays:
    """
    Rows that belong to no window, since the window before was given out.

    `late`: their window was closed. `untimed`: their time is null, or in no year that can be
    counted. `ahead`: their time is too far in front of the clock.
    """

    late: int = 0
    untimed: int = 0
    ahead: int = 0
    kept: list[pa.RecordBatch] = field(default_factory=list)

    @property
    def count(self) -> int:
        """All of them."""
        return self.late + self.untimed + self.ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A window that gets no more rows."""

    number: int
    start: int
    end: int
    rows: pa.Table
    partial: bool
    closed_by: ClosedBy
    strays: Strays


class Shape(Protocol):
    """A way to cut a feed into windows; times are nanoseconds of one clock that never goes back."""

    def begin(self, now: int) -> None:
        """Say that the feed is looked at from now on."""

    def add(self, batch: pa.RecordBatch, now: int) -> Iterator[Closed]:
        """Take rows that came now; gives the windows that they close."""

    def tick(self, now: int) -> Iterator[Closed]:
        """Give the windows that the time closes."""

    def due(self) -> int | None:
        """When `tick` will have something to do, if no row comes; None: never."""

    def finish(self) -> Iterator[Closed]:
        """Give what is open, at the end of the feed."""


class ByRows:
    """Windows of so many rows, in the order in which they come."""

    def __init__(self, schema: pa.Schema, budget: Budget, every: int, idle: int | None) -> None:
        self._every, self._idle = every, idle
        self._rows = Rows(schema, budget)
        self._number = self._start = self._latest = 0

    def begin(self, now: int) -> None:
        """See `Shape`."""
        self._latest = now

    def add(self, batch: pa.RecordBatch, now: int) -> Iterator[Closed]:
        """See `Shape`."""
        self._latest = now
        at = 0
        while at < batch.num_rows:
            end = min(batch.num_rows, at + self._every - self._rows.count)
            self._rows.add(*cut(batch, np.arange(at, end)))
            at = end
            if self._rows.count == self._every:
                yield self._close("full")

    def _close(self, why: ClosedBy) -> Closed:
        count, start, number = self._rows.count, self._start, self._number
        self._start += count
        self._number += 1
        return Closed(
            number=number,
            start=start,
            end=start + count,
            rows=self._rows.take(),
            partial=count < self._every,
            closed_by=why,
            strays=Strays(),
        )

    def tick(self, now: int) -> Iterator[Closed]:
        """See `Shape`."""
        due = self.due()
        if due is not None and now >= due:
            yield self._close("idle")

    def due(self) -> int | None:
        """See `Shape`."""
        return self._latest + self._idle if self._idle is not None and self._rows.count else None

    def finish(self) -> Iterator[Closed]:
        """See `Shape`."""
        if self._rows.count:
            yield self._close("end")


class Times:
    """The times of a batch's rows, as integers of a column's unit."""

    def __init__(self, schema: pa.Schema, on: str | None) -> None:
        self._at = -1
        self.unit_ns = 1
        self.low, self.high = _countable("ns")
        if on is None:
            return
        found = schema.get_all_field_indices(on)
        if len(found) != 1:
            raise ConfigError(f"windows: on={on!r} must name one column of {schema.names}")
        kind = schema.field(found[0]).type
        if not pa.types.is_timestamp(kind):
            raise ConfigError(
                f"windows: on={on!r} is {kind}, not a timestamp",
                remedy="Decode it to one, such as types={'at': pa.timestamp('ns', 'UTC')}.",
            )
        self._at, self.unit_ns = found[0], _UNITS[kind.unit]
        self.low, self.high = _countable(kind.unit)

    def of(
        self, batch: pa.RecordBatch, now: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Give the times, and which of them can be counted."""
        if self._at < 0:
            return np.full(batch.num_rows, now), np.ones(batch.num_rows, np.bool_)
        column = batch.column(self._at)
        times = column.cast(pa.int64()).fill_null(self.low - 1).to_numpy()
        return times, (times >= self.low) & (times < self.high)


def _countable(unit: str) -> tuple[int, int]:
    """Give times between which sums with a year or two overflow neither here nor in dates."""
    years = (1700, 2260) if unit == "ns" else (3, 9997)
    first, last = (datetime(year, 1, 1, tzinfo=UTC) for year in years)
    per_second = 10**9 // _UNITS[unit]
    return int(first.timestamp()) * per_second, int(last.timestamp()) * per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOptions:
    """Of `ByTime`, in nanoseconds."""

    every: int
    offset: int
    lateness: int
    late: Late
    ahead: int | None
    idle: int | None
    empty: bool
    arrival: bool


class ByTime:
    """
    Windows of so much time.

    Everything is decided row by row, in order, so that it does not matter how rows are batched:
    after each row the watermark is the greatest time so far less the lateness, and a window whose
    end it has reached is closed.
    """

    def __init__(
        self, schema: pa.Schema, budget: Budget, times: Times, options: TimeOptions, now: int
    ) -> None:
        self._schema, self._budget, self._times, self._options = schema, budget, times, options
        unit = times.unit_ns
        for name in ("every", "offset", "lateness"):
            if getattr(options, name) % unit:
                raise ConfigError(
                    f"windows: {name}= must be a multiple of {unit} ns, the unit of the column"
                )
        self._every, self._offset = options.every // unit, options.offset // unit
        self._lateness = options.lateness // unit
        self._open: dict[int, Rows] = {}
        self._strays, self._kept = Strays(), Rows(schema, budget)
        self._top = times.low  # the greatest time so far
        self._closed = self._index(self._top - self._lateness)  # windows below are closed
        self._given: int | None = None  # the window after the last one given out
        self._number = 0
        self._partial_first: int | None = None
        self.begin(now)

    def begin(self, now: int) -> None:
        """See `Shape`."""
        self._latest = now
        # A window that began before the feed was looked at was not seen in full.
        self._partial_first = self._index(now) if self._options.arrival else None

    def _index(self, time: int) -> int:
        return (time - self._offset) // self._every

    def _end_of(self, window: int) -> int:
        return (window + 1) * self._every + self._offset

    @property
    def by_event(self) -> bool:
        """Whether a column tells the time."""
        return not self._options.arrival

    @property
    def watermark(self) -> int | None:
        """In nanoseconds since the epoch; None before the first row."""
        if self._top == self._times.low:
            return None
        return (self._top - self._lateness) * self._times.unit_ns

    # --- rows ----------------------------------------------------------------------------------

    def add(self, batch: pa.RecordBatch, now: int) -> Iterator[Closed]:
        """See `Shape`."""
        self._latest = now
        times, usable = self._times.of(batch, now)
        window = self._only_window(times, now)
        if window is not None:
            self._rows_of(window).add(batch, batch.nbytes)
            return
        early = self._early(times, usable, now)
        fit = usable & ~early
        tops = np.maximum.accumulate(
            np.concatenate([[self._top], np.where(fit, times, self._times.low)])
        )
        closed = np.maximum(self._closed, self._index_all(tops - self._lateness))
        windows = self._index_all(times)
        late = fit & (windows < closed[:-1])
        yield from self._segments(batch, _Marks(windows, closed[1:], fit & ~late, late, early))
        self._top = int(tops[-1])

    def _only_window(self, times: npt.NDArray[np.int64], now: int) -> int | None:
        """Give the one open window that all rows belong to, if they close none: the usual case."""
        if not len(times):
            return None
        low, high = int(times.min()), int(times.max())
        if low < self._times.low or high >= self._times.high or high > self._furthest(now):
            return None
        window, top = self._index(low), max(self._top, high)
        if window != self._index(high) or window < self._closed:
            return None
        if self._index(top - self._lateness) > self._closed:
            return None
        self._top = top
        return window

    def _rows_of(self, window: int) -> Rows:
        if window not in self._open:
            self._open[window] = Rows(self._schema, self._budget)
        return self._open[window]

    def _furthest(self, now: int) -> int:
        """Give the greatest time that is not too far ahead."""
        if self._options.ahead is None:
            return self._times.high
        return (now + self._options.ahead) // self._times.unit_ns

    def _early(
        self, times: npt.NDArray[np.int64], usable: npt.NDArray[np.bool_], now: int
    ) -> npt.NDArray[np.bool_]:
        return usable & (times > self._furthest(now))

    def _index_all(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        usable = np.clip(times, self._times.low - self._lateness, self._times.high)
        return np.floor_divide(usable - self._offset, self._every)

    def _segments(self, batch: pa.RecordBatch, marks: _Marks) -> Iterator[Closed]:
        """Between two closings, all rows see the same open windows."""
        steps = np.flatnonzero(np.diff(marks.closed, prepend=self._closed) > 0) + 1
        at = 0
        for end in [*map(int, steps), batch.num_rows]:
            if end > at:
                self._segment(batch, marks, at, end)
                yield from self._close_below(int(marks.closed[end - 1]), "time")
            at = end

    def _segment(self, batch: pa.RecordBatch, marks: _Marks, at: int, end: int) -> None:
        rows = np.flatnonzero(marks.kept[at:end]) + at
        for window, mine in _groups(marks.windows[rows], rows):
            self._rows_of(window).add(*cut(batch, mine))
        astray = np.flatnonzero(~marks.kept[at:end]) + at
        if len(astray):
            late, ahead = (
                np.count_nonzero(marks.late[astray]),
                np.count_nonzero(marks.ahead[astray]),
            )
            self._strays.late += int(late)
            self._strays.ahead += int(ahead)
            self._strays.untimed += int(len(astray) - late - ahead)
            self._stray(batch, astray)

    def _stray(self, batch: pa.RecordBatch, rows: npt.NDArray[np.intp]) -> None:
        if self._options.late == "error":
            strays = self._strays
            raise ZcrxError(
                errno.ERANGE,
                f"{len(rows)} rows fit no open window: {strays.late} late, {strays.untimed} "
                f"without a usable time, {strays.ahead} too far ahead",
                step="windows",
                remedy="Raise lateness=, or take late='drop' or 'keep'.",
            )
        if self._options.late == "keep":
            self._kept.add(*cut(batch, rows))

    # --- closing -------------------------------------------------------------------------------

    def tick(self, now: int) -> Iterator[Closed]:
        """See `Shape`."""
        options = self._options
        if options.arrival:
            yield from self._close_below(self._index(now), "time")
        elif self._top > self._times.low and self._silent_for(now):
            yield from self._close_below(self._silent_index(now), "idle")

    def _silent_for(self, now: int) -> bool:
        idle = self._options.idle
        return idle is not None and now - self._latest >= idle

    def _silent_index(self, now: int) -> int:
        """While nothing comes, time is taken to go on as the clock does."""
        passed = (now - self._latest) // self._times.unit_ns
        return self._index(min(self._top + passed, self._times.high) - self._lateness)

    def due(self) -> int | None:
        """See `Shape`."""
        options = self._options
        first = self._next_to_close()
        if first is None:
            return None
        end = self._end_of(first)
        if options.arrival:
            return end
        if options.idle is None or end + self._lateness > self._times.high:
            return None
        silence = (end + self._lateness - self._top) * self._times.unit_ns
        return self._latest + max(options.idle, silence)

    def _next_to_close(self) -> int | None:
        if self._options.empty and self._given is not None:
            return max(self._given, self._closed)
        return min(self._open, default=None)

    def finish(self) -> Iterator[Closed]:
        """See `Shape`."""
        if self._open:
            yield from self._close_below(max(self._open) + 1, "end")

    def _close_below(self, window: int, why: ClosedBy) -> Iterator[Closed]:
        if window <= self._closed:
            return
        self._closed = window
        ready = sorted(each for each in self._open if each < window)
        if not self._options.empty:
            for each in ready:
                yield self._close(each, why)
            return
        first = self._given if self._given is not None else (ready[0] if ready else window)
        # Those that rows ask for: the clock's come one by one anyway.
        most = max((b - a - 1 for a, b in pairwise([first - 1, *ready, window])), default=0)
        if why != "idle" and self.by_event and most > _MOST_EMPTY:
            raise ZcrxError(
                errno.ERANGE,
                f"{most:,} windows without rows lie between two rows",
                step="windows",
                remedy="Take empty='skip', or ahead= to leave out rows whose time cannot be.",
            )
        for each in range(first, window):
            yield self._close(each, why)

    def _close(self, window: int, why: ClosedBy) -> Closed:
        rows = self._open.pop(window, None) or Rows(self._schema, self._budget)
        if self._given is not None or rows.count:
            self._given = window + 1
        unit, number = self._times.unit_ns, self._number
        self._number += 1
        return Closed(
            number=number,
            start=(self._end_of(window) - self._every) * unit,
            end=self._end_of(window) * unit,
            rows=rows.take(),
            partial=why == "end" or window == self._partial_first,
            closed_by=why,
            strays=self.left(),
        )

    def left(self) -> Strays:
        """Give the strays since the last window."""
        strays, self._strays = self._strays, Strays()
        if self._kept.count:
            strays.kept = self._kept.take().to_batches()
        return strays


@dataclass(frozen=True, slots=True)
class _Marks:
    """What is known of each row of a batch."""

    windows: npt.NDArray[np.int64]
    closed: npt.NDArray[np.int64]
    kept: npt.NDArray[np.bool_]
    late: npt.NDArray[np.bool_]
    ahead: npt.NDArray[np.bool_]


def _groups(windows: npt.NDArray[np.int64], rows: npt.NDArray[np.intp]) -> Iterator[Any]:
    """Give each window with its rows, in their order."""
    if not len(rows):
        return
    order = np.argsort(windows, kind="stable")
    bounds = np.flatnonzero(np.diff(windows[order])) + 1
    for mine in np.split(order, bounds):
        yield int(windows[mine[0]]), rows[mine]
