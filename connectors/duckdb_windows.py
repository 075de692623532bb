# SPDX-License-Identifier: Apache-2.0
"""One SQL text for each tumbling window of a feed."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import pyarrow as pa

from zcrx_arrow._closing import Closing
from zcrx_arrow.config import Duration, Size, nanoseconds, one_of, parse_size, whole
from zcrx_arrow.connectors.duckdb_pull import Came, Puller, leaving, working
from zcrx_arrow.connectors.duckdb_query import Query, moment
from zcrx_arrow.connectors.reading import Reading
from zcrx_arrow.connectors.window_rows import Budget
from zcrx_arrow.connectors.window_times import (
    ByRows,
    ByTime,
    Closed,
    ClosedBy,
    Strays,
    TimeOptions,
    Times,
)
from zcrx_arrow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import duckdb

__all__ = ["Window", "WindowStats", "Windows", "windows"]

_YEAR_NS: Final = 366 * 86_400 * 10**9
_STEP_NS: Final = 100_000_000  # how late an ending program is noticed, at most

Late = Literal["drop", "keep", "error"]
Empty = Literal["skip", "give"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The result of one window."""

    table: pa.Table
    """What the SQL text gave."""
    number: int
    """Of this window among those given, from 0."""
    start: int
    """By time: nanoseconds since the epoch of its first moment. By rows: the number of its first
    row in the feed, from 0."""
    end: int
    """The same of the moment or row behind its last one."""
    rows: int
    """That the SQL text saw."""
    partial: bool
    """Whether it was not seen in full: the feed ended before it did; by rows, it was closed by
    `idle`; by arrival, it had begun before the feed was read."""
    closed_by: ClosedBy
    """``"full"``: it had its rows; ``"time"``: the watermark or the clock reached its end;
    ``"idle"``: no rows came for so long; ``"end"``: the feed ended."""
    late: int
    """Rows that came since the window before, and whose own window was closed already."""
    untimed: int
    """The same, with a time that is null or cannot be counted."""
    ahead: int
    """The same, with a time further in front of the clock than `ahead`."""
    strays: pa.Table
    """With ``late="keep"`` those rows, in the order in which they came; else no rows."""
    by_time: bool
    """Whether `start` and `end` are times."""

    @property
    def starts_at(self) -> datetime:
        """`start` as a time in UTC, in microseconds."""
        return moment(self.start)

    @property
    def ends_at(self) -> datetime:
        """`end` as a time in UTC, in microseconds."""
        return moment(self.end)


@dataclass(slots=True, kw_only=True)
class WindowStats:
    """Counters of `Windows`."""

    rows: int = 0
    """Pulled."""
    windows: int = 0
    """Given."""
    late: int = 0
    untimed: int = 0
    ahead: int = 0
    open_rows: int = 0
    """That wait for their window to close, kept strays included."""
    open_bytes: int = 0
    watermark: int | None = None
    """By event time: nanoseconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    every: Any
    on: str | None
    lateness: Duration
    late: Late
    ahead: Duration | None
    idle: Duration | None
    empty: Empty
    offset: Duration
    max_rows: int
    max_bytes: Size

    def __post_init__(self) -> None:
        one_of(self.late, "late", ("drop", "keep", "error"))
        one_of(self.empty, "empty", ("skip", "give"))
        whole(self.max_rows, "max_rows", 1, 2**40)
        parse_size(self.max_bytes, "max_bytes")
        _span(self.lateness, "lateness", 0)
        if self.ahead is not None:
            _span(self.ahead, "ahead", 0)
        if self.idle is not None:
            _span(self.idle, "idle", 1)
        if self.by_rows:
            whole(self.every, "every", 1, self.max_rows)
            self._refuse(("on", "lateness", "ahead", "offset"), "windows of rows")
            if self.late != "drop" or self.empty != "skip":
                raise ConfigError("late= and empty= mean nothing for windows of rows")
            return
        _span(self.every, "every", 1000)
        if _span(self.offset, "offset", 0) >= _span(self.every, "every", 1):
            raise ConfigError(f"offset={self.offset!r} must be less than every={self.every!r}")
        if self.on is None:
            self._refuse(
                ("lateness", "ahead", "idle"), "windows by arrival, which the clock closes"
            )

    @property
    def by_rows(self) -> bool:
        return isinstance(self.every, int)

    def _refuse(self, names: tuple[str, ...], what: str) -> None:
        for name in names:
            if getattr(self, name) not in (None, 0):
                raise ConfigError(f"{name}={getattr(self, name)!r} means nothing for {what}")

    def shape(self, schema: pa.Schema, budget: Budget, now: int) -> ByRows | ByTime:
        idle = None if self.idle is None else nanoseconds(self.idle, "idle")
        if self.by_rows:
            return ByRows(schema, budget, self.every, idle)
        return ByTime(
            schema,
            budget,
            Times(schema, self.on),
            TimeOptions(
                every=nanoseconds(self.every, "every"),
                offset=nanoseconds(self.offset, "offset"),
                lateness=nanoseconds(self.lateness, "lateness"),
                late=self.late,
                ahead=None if self.ahead is None else nanoseconds(self.ahead, "ahead"),
                idle=idle,
                empty=self.empty == "give",
                arrival=self.on is None,
            ),
            now,
        )


def _span(value: Any, name: str, least_ns: int) -> int:
    span = nanoseconds(value, name)
    if not least_ns <= span <= _YEAR_NS or span % 1000:
        raise ConfigError(f"{name}={value!r} must be whole microseconds, and a year at most")
    return span


class _Clock:
    """The time of day, which does not jump when somebody sets it."""

    def __init__(self) -> None:
        self._ahead = time.time_ns() - time.monotonic_ns()

    def now(self) -> int:
        return time.monotonic_ns() + self._ahead


class _Work:
    """What is behind `Windows`; apart, so that dropping that one ends this one at once."""

    def __init__(self, source: Any, query: Query, shape: ByRows | ByTime, budget: Budget) -> None:
        self._source, self.query, self._shape, self._budget = source, query, shape, budget
        self.schema = source.schema
        self._reading = Reading(source, step="windows", what="windows()", again=True)
        self._clock = _Clock()
        self._counts = WindowStats()
        self.left = Strays()

    def stats(self) -> WindowStats:
        shape = self._shape
        return replace(
            self._counts,
            open_rows=self._budget.rows,
            open_bytes=self._budget.bytes,
            watermark=shape.watermark if isinstance(shape, ByTime) and shape.by_event else None,
        )

    def run(self) -> Any:
        turn = self._reading.begin()
        try:
            for closed in self._closings():
                window = self._result(closed)
                del closed  # its rows are not held while the consumer looks at the result
                yield window
                del window
            if isinstance(self._shape, ByTime):
                self.left = self._shape.left()
                self._count(self.left)
        finally:
            self._reading.end(turn)
            self.query.close()

    def _closings(self) -> Iterator[Closed]:
        puller, shape = Puller(self._source), self._shape
        shape.begin(self._clock.now())
        while not leaving.is_set() and (came := puller.step(self._patience())) is not Came.END:
            now = self._clock.now()
            if came is Came.NOTHING:
                yield from shape.tick(now)
            else:
                # Whatever the clock says: while rows lay in the queue, the feed was not silent.
                self._counts.rows += came.num_rows
                yield from shape.add(came, now)
            del came
        yield from shape.finish()

    def _patience(self) -> int:
        due = self._shape.due()
        return _STEP_NS if due is None else min(_STEP_NS, due - self._clock.now())

    def _result(self, closed: Closed) -> Window:
        strays = closed.strays
        self._count(strays)
        self._counts.windows += 1
        return Window(
            table=self.query.run(closed.rows, closed.number, closed.start, closed.end),
            number=closed.number,
            start=closed.start,
            end=closed.end,
            rows=closed.rows.num_rows,
            partial=closed.partial,
            closed_by=closed.closed_by,
            late=strays.late,
            untimed=strays.untimed,
            ahead=strays.ahead,
            strays=pa.Table.from_batches(strays.kept, self.schema),
            by_time=isinstance(self._shape, ByTime),
        )

    def _count(self, strays: Strays) -> None:
        self._counts.late += strays.late
        self._counts.untimed += strays.untimed
        self._counts.ahead += strays.ahead


class Windows(Closing):
    """
    The windows of a feed, as they close; see `windows`.

    Iterate over it. Not thread-safe, but `stats` may be read from any thread.
    """

    def __init__(self, work: _Work) -> None:
        """Not for users: see `windows`."""
        self._work = work
        self._results = work.run()

    @property
    def stats(self) -> WindowStats:
        """Counters so far; strays are counted when the next window is given, or at the end."""
        return self._work.stats()

    @property
    def strays(self) -> pa.Table:
        """With ``late="keep"``: those that came behind the last window, once the feed has ended."""
        return pa.Table.from_batches(self._work.left.kept, self._work.schema)

    def __iter__(self) -> Self:
        """Iterate over the windows."""
        return self

    def __next__(self) -> Window:
        """Wait for the next window to close, and give what the SQL text makes of it."""
        if leaving.is_set():
            raise StopIteration
        with working():
            window: Window = next(self._results)
            if leaving.is_set():
                self.close()  # later there may be no Python for it
        return window

    def close(self) -> None:
        """Read no more of the feed; rows of open windows are dropped. Idempotent."""
        self._results.close()
        self._work.query.close()  # also if there was no first window


def windows(
    source: Any,
    *,
    every: int | str,
    sql: str,
    on: str | None = None,
    lateness: Duration = 0,
    late: Late = "drop",
    ahead: Duration | None = None,
    idle: Duration | None = None,
    empty: Empty = "skip",
    offset: Duration = 0,
    name: str = "feed",
    connection: duckdb.DuckDBPyConnection | None = None,
    max_rows: int = 50_000_000,
    max_bytes: Size = "1 GiB",
) -> Windows:
    """
    Run one SQL text for each tumbling window of a feed.

    ================  ==========================================================================
    ``every=1000``    by rows: each window has 1000, in the order in which the source gives them
    ``every="1 s"``   by arrival: the clock when the source gave the batch
    and ``on="at"``   by event time: that column, of any timestamp type
    ================  ==========================================================================

    A window by time is ``[start, end)``, with ``start`` a multiple of `every` since 1970 in UTC,
    plus `offset`; a time without a zone counts as UTC. Every row is in one window, or is a stray.

    By event time a window is closed once: when the watermark, the greatest time so far less
    `lateness`, reaches its end. That is decided after every single row, so it does not matter how
    rows are batched. A row whose window is closed is late, and goes by `late`. While no row comes
    nothing closes, unless `idle` is given. By arrival no row is late, and the clock closes windows.

    Parameters
    ----------
    source : Source or Replay
        Stays open, and the caller's. Others than sources are waited for as long as they take:
        there nothing closes while no batch comes.
    every : int or str
        Rows, or a time such as ``"1 s"`` from 1 us to 366 days, in whole microseconds.
    sql : str
        One statement that reads the table `name`. ``$window_start``, ``$window_end`` (TIMESTAMPTZ;
        BIGINT row numbers with windows of rows) and ``$window`` (number, from 0) may be used.
    on : str, optional
        Column of event time. For the time of receipt take ``on="received_at"``.
    lateness : float or str
        How much older than the greatest time so far a row may be and still find its window open.
        What Kafka Streams calls grace; in Flink's words the watermark's bounded delay.
    late : {"drop", "keep", "error"}
        What becomes of strays: rows that are late, have no time, or are too far `ahead`. They are
        counted in any case. ``keep`` gives them with the next window, ``error`` raises.
    ahead : float or str, optional
        How far in front of the clock a time may be. Without it, one row with a wrong time in the
        future closes all windows before that time.
    idle : float or str, optional
        By event time: when no row came for so long, time goes on with the clock until one does,
        and closes windows. By rows: a window that waited so long is closed with what it has.
    empty : {"skip", "give"}
        Whether the SQL text runs for windows by time without rows that lie between others; more
        than 10,000 of them in a row are an error.
    offset : float or str
        Shifts all windows by time.
    name : str
        What the SQL text calls the rows.
    connection : duckdb.DuckDBPyConnection, optional
        With tables to join, for example. It is used between windows, so it must have no open
        result then: give a ``cursor()`` if yours has. Without it one in memory is made.
    max_rows, max_bytes : int, int or str
        What open windows and kept strays may hold; more is a `ZcrxError`.

    Returns
    -------
    Windows
        Iterates over `Window`. At the end of the feed what is open is given, marked partial.

    Raises
    ------
    ConfigError, UnsupportedError, duckdb.Error
        Before anything is pulled: an option cannot work, DuckDB has no type for a column, the text
        does not fit the schema.
    ZcrxError
        While iterating: EBUSY, if another connector or query reads the source; ENOBUFS,
        beyond `max_rows` or `max_bytes`; ERANGE, a stray with ``late="error"``, or too many empty
        windows; what the source raises. The rows of open windows are gone then.
    duckdb.Error
        While iterating: what the text raises, with a note that names the window.

    Notes
    -----
    Ownership: rows wait where they were received, until their window closes; when receive memory
    runs low, further batches are copied out. Results are DuckDB's own memory.

    Examples
    --------
    >>> for window in windows(source, every="1 s", on="at", sql="select count(*) from feed"):
    ...     print(window.starts_at, window.table)
    """
    if not isinstance(sql, str):
        raise ConfigError(f"windows: sql= must be text, not {type(sql).__name__}")
    options = _Options(
        every=every,
        on=on,
        lateness=lateness,
        late=late,
        ahead=ahead,
        idle=idle,
        empty=empty,
        offset=offset,
        max_rows=max_rows,
        max_bytes=max_bytes,
    )
    budget = Budget(max_rows, parse_size(max_bytes, "max_bytes"))
    schema = source.schema
    shape = options.shape(schema, budget, _Clock().now())
    query = Query(connection, sql, name, schema, by_time=not options.by_rows)
    return Windows(_Work(source, query, shape, budget))
