# SPDX-License-Identifier: Apache-2.0
"""
DuckDB reads a feed: as a table with `register`, window by window, or into a table of a file.

Needs ``zcrx-arrow[duckdb]``. ``duckdb.sql("from source")`` works without this module; what it adds:

============  ====================================================================================
`register`    a feed under a name: unneeded columns are not decoded, a second reader is refused
`windows`     one SQL text for each tumbling window, by rows or by time
`append`      a feed into a persistent table, in transactions that also hold the position
`position`    how far that is; what to ask a peer for after a restart
============  ====================================================================================

Source: DuckDB Python API, "Ingestion: directly accessing DataFrames and Arrow objects". For a
pyarrow Dataset DuckDB asks for the columns that a query needs, by name, once for each scan.
"""

from __future__ import annotations

import errno
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pyarrow as pa
import pyarrow.dataset as ds

from zcrx_arrow import _interrupt
from zcrx_arrow._closing import Closing
from zcrx_arrow.connectors.duckdb_append import Appended, append
from zcrx_arrow.connectors.duckdb_positions import Position, position, positions
from zcrx_arrow.connectors.duckdb_pull import (
    MAJOR,
    Came,
    Puller,
    check_free,
    check_types,
    duckdb,
)
from zcrx_arrow.connectors.duckdb_windows import Window, Windows, windows
from zcrx_arrow.connectors.reading import Reading
from zcrx_arrow.errors import UnsupportedError, ZcrxError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Appended",
    "Position",
    "Registered",
    "Window",
    "Windows",
    "append",
    "position",
    "positions",
    "register",
    "windows",
]

_STEP_NS: Final = 100_000_000  # how late a pull notices that it shall end, at most
_PATIENCE_S: Final = 5.0
_SINCE: Final = 2


class _Feed:
    """What queries share; knows nothing of the connection, which refers to it."""

    def __init__(self, source: Any, schema: pa.Schema, *, again: bool) -> None:
        self.source, self.schema = source, schema
        self.reading = Reading(source, step="register", what="a query over register()", again=again)
        self.lock = threading.RLock()  # a query may be collected, and end, during another's step
        self.running = self.latest = self.interrupted = 0
        self.ended = self.closed = False
        self._puller: Puller | None = None

    def reader(self, columns: list[str] | None) -> pa.RecordBatchReader:
        """Make the stream of one query."""
        fields = self.schema if columns is None else [self.schema.field(name) for name in columns]
        return pa.RecordBatchReader.from_batches(pa.schema(fields), self._batches(columns))

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        """Pull for one query; on DuckDB's threads, one call at a time."""
        query = self._begin()
        try:
            self._select(columns)
            needed = self.schema.names if columns is None else columns
            while (batch := self._next(query)) is not None:
                # Else an earlier query's limit has cut it off, when other columns were decoded.
                if set(needed) <= set(batch.schema.names):
                    yield batch if columns is None else batch.select(columns)
                del batch  # not held while the next one is waited for
        finally:
            with self.lock:
                self.running -= 1
                if query == self.latest:
                    self._select(None)
            self.reading.end(query)

    def _begin(self) -> int:
        if self.ended:
            raise ZcrxError(
                errno.ENODATA,
                f"{self.source!r} has ended, and an earlier query has read it to its end",
                step="register",
                remedy="Collect what you need in one scan; for a self-join, materialize the feed "
                "in a CTE first.",
            )
        with self.lock:
            if self._puller is None:
                self._puller = Puller(self.source)
        query = self.reading.begin()  # from here on an earlier query pulls no more
        with self.lock:
            self.running += 1
            self.latest = query
        return query

    def _select(self, columns: list[str] | None) -> None:
        select = getattr(self.source, "_select", None)
        if select is not None:
            select(columns)

    def _next(self, query: int) -> pa.RecordBatch | None:
        while True:
            # A later query waits here until a step of the earlier one, with its batch, is over.
            with self.lock:
                self._check(query)
                assert self._puller is not None  # noqa: S101 - see _begin
                came = self._puller.step(_STEP_NS)
            if came is Came.END:
                self.ended = True
                return None
            if came is not Came.NOTHING:
                return came

    def _check(self, query: int) -> None:
        self.reading.check(query)
        if self.closed:
            raise ZcrxError(errno.ECANCELED, "the feed was unregistered", step="register")
        if query <= self.interrupted:
            raise ZcrxError(errno.ECANCELED, "the query was interrupted", step="register")


class _Scanned:
    """
    A feed that looks like a pyarrow Dataset, the only thing that DuckDB tells its columns to.

    It is not derived from one: every method of that would work on a dataset that is not there.
    """

    def __init__(self, feed: _Feed) -> None:
        self._feed = feed

    __class__ = ds.Dataset

    @property
    def schema(self) -> pa.Schema:
        return self._feed.schema

    def scanner(self, columns: list[str] | None = None, filter: Any = None) -> _Scan:  # noqa: A002
        if filter is not None:  # DuckDB 2 filters what only looks like a Dataset itself
            raise NotImplementedError("a feed does not filter")
        return _Scan(self._feed, columns)


class _Scan:
    def __init__(self, feed: _Feed, columns: list[str] | None) -> None:
        self._feed, self._columns = feed, columns

    def to_reader(self) -> pa.RecordBatchReader:
        return self._feed.reader(self._columns)


class Registered(Closing):
    """
    A feed under a name, until `close`; see `register`.

    Thread safety: `interrupt` and `close` may be called from any thread.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str, feed: _Feed) -> None:
        """Not for users: see `register`."""
        self._connection, self._feed = connection, feed
        self.name = name
        """Of the view."""

    @property
    def ended(self) -> bool:
        """Whether the feed has ended, and its last rows were given to a query."""
        return self._feed.ended

    @property
    def running(self) -> int:
        """Queries that are reading it."""
        return self._feed.running

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._feed.closed

    def interrupt(self) -> None:
        """
        End the query that reads the feed; it gets an error. Does nothing without one.

        ``connection.interrupt()`` alone is noticed by DuckDB only when the next batch comes.
        """
        self._feed.interrupted = self._feed.latest
        if self._feed.running:
            with suppress(duckdb.Error):
                self._connection.interrupt()

    def close(self) -> None:
        """
        End a running query, and take the name back. Idempotent; the source stays open.

        Raises
        ------
        ZcrxError
            EBUSY, if the connection stays busy, such as with a result that was not read to its
            end. The feed gives no more rows even so; close that result, and call this again.
        """
        first, self._feed.closed = not self._feed.closed, True
        if not first and not self.name:
            return
        self.interrupt()
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._connection.unregister(self.name)
            except duckdb.ConnectionException:
                break  # closed already
            except duckdb.Error as error:
                if time.monotonic() > deadline:
                    self._busy(error)
                time.sleep(0.01)
            else:
                break
        self.name = ""

    def _busy(self, error: Exception) -> NoReturn:
        raise ZcrxError(
            errno.EBUSY,
            f"DuckDB does not let go of {self.name!r}: {error}",
            step="register",
            remedy="Read the open result of that connection to its end or close it, and call "
            "close() again.",
        ) from None


def register(
    connection: duckdb.DuckDBPyConnection, name: str, source: Any, *, again: bool = False
) -> Registered:
    """
    Give a feed a name that queries of a connection can read.

    A query pulls what it needs: columns that it does not need are not decoded, a ``limit`` stops an
    endless feed. An aggregation over an endless feed never ends:
    bound it by ``limit`` in a subquery, take `windows`, or end it by ``source.stop()``.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        The name is known on this connection only, not on its cursors.
    name : str
        Of the view. One that DuckDB knows already is refused.
    source : Source or Replay
        Stays open, and the caller's. Rows of a batch that a ``limit`` cuts off are gone.
    again : bool
        Whether a query may go on where an earlier one, of this or another connector, has stopped;
        one over this name that is still running then ends with an error before its next batch.
        Else it is refused, since it would see other rows than the first. A statement that names
        the feed twice has two scans, which count as two queries.

    Returns
    -------
    Registered
        Close it, or use it in a ``with`` statement, to take the name back.

    Raises
    ------
    UnsupportedError
        If DuckDB has no type for a column, or is older than 2; before anything is pulled.
    ConfigError
        If the name is taken.
    duckdb.Error
        From the query, with the text of a `ZcrxError`: if the feed was read already or is being
        read (EBUSY), has ended before (ENODATA), was closed (EBADF), or fails.

    Notes
    -----
    If the source is closed while a query reads it, the query ends with the rows before that.
    DuckDB pulls on threads of its own, without the GIL while it waits. What is no source is waited
    for as long as its iterator takes, and nothing ends that wait.
    """
    if MAJOR < _SINCE:
        raise UnsupportedError(
            errno.ENOTSUP,
            f"register() needs DuckDB {_SINCE}, this is {duckdb.__version__}, which reads what is "
            "registered once only, in all its columns",
            step="register",
            remedy="pip install 'duckdb>=2'; or query the source itself: from source.",
        )
    schema = source.schema
    check_free(connection, name, "register")
    check_types(connection, schema, "register")
    _interrupt.install()
    feed = _Feed(source, schema, again=again)
    connection.register(name, _Scanned(feed))
    return Registered(connection, name, feed)
