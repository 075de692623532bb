# SPDX-License-Identifier: Apache-2.0
"""
A feed in a live Perspective table: in a notebook, or wherever Perspective's viewer runs.

Needs ``zcrx-arrow[notebooks]``. Perspective knows fewer types than Arrow: `compat` says what
becomes of the others. Nothing that is shown holds receive memory.
"""

from __future__ import annotations

import atexit
import errno
import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, Self

import pyarrow as pa

from zcrx_arrow.config import Duration, nanoseconds
from zcrx_arrow.connectors.plain_types import plain_table
from zcrx_arrow.connectors.reading import Reading, Selected
from zcrx_arrow.errors import ConfigError, UnsupportedError

try:
    import perspective  # type: ignore[import-not-found,import-untyped,unused-ignore]
except ImportError as error:  # pragma: no cover - said to the user
    raise ImportError(
        "this connector needs Perspective: pip install 'zcrx-arrow[notebooks]'"
    ) from error

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Live", "compat", "live", "table"]

_LOG = logging.getLogger("zcrx_arrow")
_STEP_S: Final = 0.1  # a waiting thread looks this often whether it shall stop
_MOST_ROWS: Final = 65536  # of one update: what is gathered, and how long an update takes
_RESERVED: Final = "__INDEX__"

# What the tables of this module can take, by name: Perspective tells kinds, but not widths, and
# takes a number that is too wide for a column as another number.
_made: dict[str, pa.Schema] = {}


def compat(data: pa.RecordBatch | pa.Table) -> pa.Table:
    r"""
    Give rows in types that Perspective takes.

    Booleans, integers, floats, dates and timestamps stay (Perspective keeps milliseconds);
    decimals become float64; text and bytes become ``string``, bytes that are no UTF-8 and NUL
    characters as ``\xff`` escapes; a structure becomes a column for each member, ``level.price``;
    lists and maps become JSON text; times of day ``12:34:56``, durations whole numbers of their
    unit; dictionaries their values.

    Parameters
    ----------
    data : pyarrow.RecordBatch or pyarrow.Table
        Stays the caller's.

    Returns
    -------
    pyarrow.Table
        Memory of its own, so that the batch may go at once. As many rows as there were.

    Raises
    ------
    UnsupportedError
        If two columns would have the same name, or one has a name that Perspective keeps to itself.
    """
    made = plain_table(data)
    if not made.schema.names:
        raise UnsupportedError(errno.ENOTSUP, "there is no column to show", step="perspective")
    for name in made.schema.names:
        if made.schema.names.count(name) > 1 or name == _RESERVED:
            raise UnsupportedError(
                errno.ENOTSUP,
                f"Perspective cannot have a column {name!r}"
                + (" twice" if name != _RESERVED else ""),
                step="perspective",
                remedy="Rename it in the decoder's layout or schema, or leave it out by columns=.",
            )
    return made


def table(
    source: Any,
    *,
    limit: int | None = 10_000,
    index: str | None = None,
    columns: list[str] | None = None,
    client: Any = None,
) -> Any:
    """
    Make an empty Perspective table with the columns of a feed.

    Parameters
    ----------
    source : Source or Replay
        Only its schema is looked at. Where the first rows tell it, this waits for them.
    limit : int, optional
        Rows that the table keeps: the newest.
    index : str, optional
        Instead of `limit`: keep one row for each value of this column, the newest.
    columns : list of str, optional
        Of the feed. Default: all.
    client : perspective.Client, optional
        Where it is made. Default: the one of this process.

    Returns
    -------
    perspective.Table
        For `live`, and ``PerspectiveWidget``.

    Raises
    ------
    ConfigError
        If nothing bounds the table, or a column does not exist.
    UnsupportedError
        See `compat`.
    """
    if index is not None:
        limit = None
    elif limit is None or limit < 1:
        raise ConfigError("a live table needs a bound: limit=10_000 rows, or index= a column")
    schema = source.schema
    missing = [name for name in columns or () if name not in schema.names]
    if missing:
        raise ConfigError(f"the feed has no column {missing[0]!r}: {', '.join(schema.names)}")
    empty = schema.empty_table()
    empty = compat(empty if columns is None else empty.select(columns))
    if index is not None and index not in empty.schema.names:
        raise ConfigError(f"index={index!r} must be one of {', '.join(empty.schema.names)}")
    bound = {"limit": limit} if index is None else {"index": index}
    made = (client or perspective).table(empty, **bound)
    _made[made.get_name()] = empty.schema
    return made


def live(source: Any, table: Any, *, every: Duration = "100 ms") -> Live:
    """
    Feed a table from a thread, until it is stopped or the stream ends.

    Every row goes in, but for those that the table's limit would push out in the same update. A
    feed that is faster than Perspective is slowed down: its TCP window closes.

    Parameters
    ----------
    source : Source
        Stays open, and the caller's.
    table : perspective.Table
        Made by `table`, maybe with fewer columns than the feed has.
    every : float or str
        Seconds, or text with a unit: how long rows are gathered for one update.

    Returns
    -------
    Live
        It runs already. Use it in a ``with`` statement, or ``stop()`` it.

    Raises
    ------
    ConfigError
        If the table was made elsewhere, or has columns that are not the feed's.
    ZcrxError
        EBUSY, if another connector reads the source.
    """
    schema = _made.get(table.get_name())
    if schema is None:
        raise ConfigError("this table was not made by perspective_view.table(source, ...)")
    if not hasattr(source, "next_batch"):
        raise ConfigError(
            f"{source!r} is not live: give the table its rows by table.update(compat(rows))"
        )
    return Live(source, table, _needed(source.schema, schema), nanoseconds(every, "every") / 1e9)


def _needed(feed: pa.Schema, wanted: pa.Schema) -> list[str]:
    """Give the columns of a feed that a table's are made of."""
    needed = []
    left = set(wanted.names)
    for name in dict.fromkeys(feed.names):
        made = compat(pa.schema([feed.field(name)]).empty_table()).schema
        if all(field.name in left and wanted.field(field.name) == field for field in made):
            needed.append(name)
            left -= set(made.names)
    if left:
        name = min(left)
        raise ConfigError(
            f"the feed has no column {name!r} of the table's type, {wanted.field(name).type}"
        )
    return needed


class Live:
    """
    A thread that feeds a table; made by `live`.

    Thread safety
        Every method may be called from any thread.
    Ownership
        Batches are given back before their rows are shown.
    """

    def __init__(self, source: Any, table: Any, columns: list[str], every_s: float) -> None:
        """Not for users: see `live`."""
        self.table = table
        """What is fed."""
        self.rows = 0
        """Taken from the source so far."""
        self.updates = 0
        """Of the table so far."""
        self.error: BaseException | None = None
        """What ended it, if not the stream or `stop`."""
        self._source, self._columns, self._every_s = source, columns, every_s
        self._limit: int | None = table.get_limit()
        self._reading = Reading(source, step="live", what="a live table", again=True)
        self._query = self._reading.begin()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zcrx-live", daemon=True)
        _running.add(self)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it still feeds."""
        return self._thread.is_alive()

    def wait(self, timeout: Duration | None = None) -> None:
        """
        Wait until the stream has ended and all of it is in the table.

        Raises
        ------
        TimeoutError
            If that takes longer.
        ZcrxError, perspective.PerspectiveError
            What ended it instead.
        """
        self._thread.join(None if timeout is None else nanoseconds(timeout, "timeout") / 1e9)
        if self.running:
            raise TimeoutError(errno.ETIMEDOUT, "the feed has not ended yet")
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """
        Stop feeding. What was pulled is shown; the source stays open. Idempotent.

        Raises
        ------
        ZcrxError, perspective.PerspectiveError
            What ended it before.
        """
        self._stopping.set()
        if threading.current_thread() is not self._thread:
            self.wait()

    def __enter__(self) -> Self:
        """Use it in a ``with`` statement."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it; an error of the block goes before one of the thread."""
        try:
            self.stop()
        except BaseException:
            if error is None:
                raise

    def __repr__(self) -> str:
        """Say how far it is."""
        state = "running" if self.running else "failed" if self.error else "ended"
        return f"<Live {self.rows:,} rows, {self.updates:,} updates, {state}>"

    def _run(self) -> None:
        try:
            with Selected(self._source, self._columns):
                ended = False
                while not ended and not self._stopping.is_set():
                    pieces: list[pa.Table] = []
                    try:
                        ended = self._gather(pieces)
                    finally:  # what came before an error is shown too
                        self._show(pieces)
        except BaseException as error:  # noqa: BLE001 - told to whoever stops or waits
            self.error = error
            _LOG.error("the live table ends: %s: %s", type(error).__name__, error)
        finally:
            self._reading.end(self._query)

    def _gather(self, pieces: list[pa.Table]) -> bool:
        """Pull for a while after the first batch; True if the stream has ended."""
        count, due = 0, None
        while count < _MOST_ROWS and not self._stopping.is_set():
            left = _STEP_S if due is None else due - time.monotonic()
            if left <= 0:
                break
            try:
                batch = self._source.next_batch(min(left, _STEP_S))
            except TimeoutError:
                continue
            if batch is None:
                return True
            if due is None:
                due = time.monotonic() + self._every_s
            self.rows += batch.num_rows
            count += batch.num_rows
            pieces.append(compat(batch.select(self._columns)))
            del batch  # or it would be held while the next one is waited for
        return False

    def _show(self, pieces: list[pa.Table]) -> None:
        if not pieces:
            return
        rows = pa.concat_tables(pieces)
        if self._limit is not None and len(rows) > self._limit:
            rows = rows.slice(len(rows) - self._limit)
        self.table.update(rows)
        self.updates += 1


_running: weakref.WeakSet[Live] = weakref.WeakSet()


def _at_exit() -> None:
    """Stop before the interpreter goes, while Perspective and the sources still are."""
    for each in list(_running):
        each._stopping.set()  # noqa: SLF001 - of this module
        each._thread.join(5)  # noqa: SLF001


atexit.register(_at_exit)
