# SPDX-License-Identifier: Apache-2.0
"""A feed into a persistent table, in transactions that also hold how far it is."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from zcrx_arrow.config import Duration, Size, nanoseconds, parse_size
from zcrx_arrow.connectors.duckdb_positions import (
    POSITIONS,
    Position,
    check_table,
    opened,
    store,
    stored,
)
from zcrx_arrow.connectors.duckdb_progress import (
    AppendOptions,
    Gap,
    Progress,
    Resume,
    origins,
)
from zcrx_arrow.connectors.duckdb_pull import (
    Came,
    Puller,
    check_types,
    duckdb,
    leaving,
    quoted,
    working,
)
from zcrx_arrow.connectors.reading import Reading
from zcrx_arrow.connectors.rolling_signals import Deferral
from zcrx_arrow.errors import AreaExhaustedError, ConfigError
from zcrx_arrow.source import Source

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

__all__ = ["Appended", "append"]

_ROWS: Final = "zcrx_arrow_rows"
_STEP_NS: Final = 100_000_000  # how late an ending program is noticed, at most
_preparing: Final = threading.Lock()  # DuckDB refuses tables that two threads make at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What `append` has done."""

    rows: int
    """Committed."""
    skipped: int
    """Left out, since they were committed before: with ``resume="skip"``."""
    commits: int
    positions: tuple[Position, ...]
    """The last one of each connection, of the latest 65,536."""


class _Writer:
    """Writes batches and positions, together or not at all."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        columns: Sequence[str] | None,
        options: AppendOptions,
    ) -> None:
        self._connection, self._table, self._options = connection, quoted(table), options
        self._columns = "*" if columns is None else ", ".join(_column(name) for name in columns)
        # DuckDB changes one database in a transaction, so positions lie beside the table.
        *beside, _ = table.split(".")
        self._positions = ".".join([*beside, options.positions])
        self.commits = 0

    def prepare(self, schema: pa.Schema) -> list[Position]:
        """Make what is missing, see that rows will fit; gives where the feed was."""
        connection = self._connection
        check_types(connection, schema, "append")
        connection.register(_ROWS, schema.empty_table())
        try:
            rows = f"select {self._columns} from {_ROWS}"  # noqa: S608 - quoted
            if self._options.create:
                connection.execute(f"create table if not exists {self._table} as {rows}")
            self._insert(explain=True)
        except duckdb.Error as error:
            raise ConfigError(
                f"append: the feed does not fit table {self._table}: {error}"
            ) from error
        finally:
            connection.unregister(_ROWS)
        check_table(connection, self._positions)
        return stored(connection, self._options.feed, self._positions)

    def _insert(self, *, explain: bool = False) -> None:
        self._connection.execute(
            f"{'explain ' if explain else ''}insert into {self._table} by name "  # noqa: S608 - quoted
            f"select {self._columns} from {_ROWS}"
        )

    def commit(self, rows: pa.Table, moved: list[Position], progress: Progress) -> list[Position]:
        """Write one transaction; gives the positions as stored."""
        connection = self._connection
        connection.register(_ROWS, rows)
        try:
            connection.begin()
            self._insert()
            positions = [
                store(connection, self._positions, each, progress.rows_of(each.connection))
                for each in moved
            ]
            connection.commit()
        except BaseException:
            with suppress(duckdb.Error):  # what went wrong before says more
                connection.rollback()
            raise
        finally:
            with suppress(duckdb.Error):
                connection.unregister(_ROWS)
        self.commits += 1
        return positions


def _column(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class _Appending:
    """A feed on its way."""

    def __init__(
        self,
        source: Any,
        writer: _Writer,
        progress: Progress,
        options: AppendOptions,
        on_commit: Callable[[list[Position]], None] | None,
    ) -> None:
        self._source, self._writer, self._progress = source, writer, progress
        self._on_commit = on_commit
        self._max_rows = options.max_rows
        self._max_bytes = parse_size(options.max_bytes, "max_bytes")
        self._interval = nanoseconds(options.interval, "interval")
        self._pending: list[pa.RecordBatch] = []
        self._rows = self._bytes = self._since = self.rows = 0
        self._peers: dict[int, str | None] = {}
        self._signals = Deferral()

    def run(self) -> None:
        puller = Puller(self._source)
        # Else Ctrl-C would end a transaction, or come between taking a batch and keeping it.
        with self._signals.deferred():
            try:
                while self._take(puller):
                    if self._due() <= 0:
                        self.flush()
                    self._signals.run_pending()
            except BaseException:
                # Whatever came before is whole, and goes in.
                self.flush()
                raise
            self.flush()
        if not leaving.is_set():
            self._progress.missed(None)

    def _take(self, puller: Puller) -> bool:
        """Take what comes until the next commit is due; False at the end."""
        if leaving.is_set():
            return False
        try:
            came = self._step(puller)
        except AreaExhaustedError:
            if not self._pending:
                raise
            self.flush()  # it was us who held it
            return True
        if came is Came.END:
            return False
        if came is not Came.NOTHING and came.num_rows:
            batch = self._progress.admit(came)
            if batch.num_rows:
                self._add(batch, came.nbytes)
        return True

    def _step(self, puller: Puller) -> pa.RecordBatch | Came:
        wait = min(_STEP_NS, self._due())
        if puller.bounded:
            return puller.step(wait)
        with self._signals.allowed():  # who knows how long it takes
            return puller.step(wait)

    def _add(self, batch: pa.RecordBatch, size: int) -> None:
        if not self._pending:
            self._since = time.monotonic_ns()
        self._pending.append(batch)
        self._rows += batch.num_rows
        self._bytes += size

    def _due(self) -> int:
        """Nanoseconds until the next commit."""
        if not self._pending:
            return _STEP_NS
        if self._rows >= self._max_rows or self._bytes >= self._max_bytes:
            return 0
        return self._since + self._interval - time.monotonic_ns()

    def flush(self) -> None:
        """Commit what is pending, if anything; what cannot be is dropped, as the error says."""
        pending, self._pending = self._pending, []
        rows, self._rows, self._bytes = self._rows, 0, 0
        if not pending:
            return
        moved = self._progress.after(pending, self._known_peers(pending))
        table = pa.Table.from_batches(pending)
        del pending
        positions = self._writer.commit(table, moved, self._progress)
        del table  # not held while the next rows are waited for
        self._progress.moved(positions)
        self.rows += rows
        if self._on_commit is not None:
            with self._signals.allowed():
                self._on_commit(positions)

    def _known_peers(self, batches: list[pa.RecordBatch]) -> dict[int, str | None]:
        if not isinstance(self._source, Source) or "connection" not in origins(batches[0].schema):
            return {}
        ids = {int(each) for batch in batches for each in np.unique(batch.column("connection"))}
        if not ids <= set(self._peers):
            table = self._source.connections().select(["id", "peer"])
            known = {row["id"]: row["peer"] for row in table.to_pylist()}
            self._peers = {each: known.get(each) for each in ids}
        return self._peers


def append(
    source: Any,
    database: duckdb.DuckDBPyConnection | str | os.PathLike[str],
    table: str,
    *,
    feed: str,
    resume: Resume = "refuse",
    base: int = 0,
    gap: Gap = "error",
    columns: Sequence[str] | None = None,
    max_rows: int = 1_000_000,
    max_bytes: Size = "64 MiB",
    interval: Duration = "1 s",
    create: bool = True,
    positions: str = POSITIONS,
    on_commit: Callable[[list[Position]], None] | None = None,
) -> Appended:
    """
    Append a feed to a table, until the feed ends.

    Each transaction inserts rows and stores how far they go, so whatever happens - an error, a
    ``kill -9``, a loss of power - the table holds exactly the rows up to the stored positions.

    Parameters
    ----------
    source : Source or Replay
        Stays open, and the caller's. End an endless one by ``source.stop()``: what was received
        before is still appended.
    database : duckdb.DuckDBPyConnection or path
        A file is opened, and closed at the end; of a connection a cursor is used.
    table : str
        ``table``, ``schema.table`` or ``catalog.schema.table``. Columns are matched by name;
        the table's others get their default.
    feed : str
        Name under which the positions are stored.
    resume : {"refuse", "skip", "anew"}
        If the feed was appended before: an error; or the peer sends again, from `base` on, and
        rows up to the stored position are left out; or its rows are new ones, none is left out,
        and a new run begins. ``skip`` takes one connection, and rows with the columns
        ``connection`` and ``position``.
    base : int
        Where in the run, in bytes, the peers begin to send: added to each row's position.
    gap : {"error", "allow"}
        With ``resume="skip"``: what if the last committed row does not come again, so that rows
        between may be missing.
    columns : sequence of str, optional
        To append; without it all.
    max_rows, max_bytes, interval : int, int or str, float or str
        A transaction begins when so much has come, or when its first row has waited so long;
        of what is not a source, when a batch comes. A batch is never divided.
    create : bool
        Make the table, with the feed's columns, if there is none.
    positions : str
        Table of the positions, in the schema of `table`; made if there is none.
    on_commit : callable, optional
        Called with the new positions after each commit, such as to acknowledge them to the peer.

    Returns
    -------
    Appended

    Raises
    ------
    ConfigError, UnsupportedError
        Before anything is pulled: an option cannot work, DuckDB has no type for a column, the rows
        do not fit the table.
    ZcrxError
        EEXIST, if the feed was appended before, and `resume` does not say what to do; EBUSY, if
        another connector or query reads the source, or something else appends to the feed;
        ENODATA: a gap; EPROTO, if positions go back; and what the source raises. What came before
        is committed.
    duckdb.Error
        If a transaction fails: a value that the table's type cannot take, a constraint, a full
        disk. Its rows are not in the table, and the stored positions are before them.

    Notes
    -----
    While a transaction runs nothing is pulled, and the peers wait. Rows wait for it where they
    were received; when receive memory runs low, they are copied out. In the main thread, signals
    that Python handles wait for it, too.
    """
    options = AppendOptions(
        feed=feed,
        resume=resume,
        base=base,
        gap=gap,
        max_rows=max_rows,
        max_bytes=max_bytes,
        interval=interval,
        create=create,
        positions=positions,
    )
    reading = Reading(source, step="append", what="append()", again=True)
    turn = reading.begin()
    try:
        with working():
            return _append(source, database, table, columns, options, on_commit)
    finally:
        reading.end(turn)


def _append(
    source: Any,
    database: duckdb.DuckDBPyConnection | str | os.PathLike[str],
    table: str,
    columns: Sequence[str] | None,
    options: AppendOptions,
    on_commit: Callable[[list[Position]], None] | None,
) -> Appended:
    with opened(database) as connection:
        schema = source.schema
        writer = _Writer(connection, table, columns, options)
        with _preparing:
            before = writer.prepare(schema)
        progress = Progress(options, before)
        progress.check(schema)
        work = _Appending(source, writer, progress, options, on_commit)
        work.run()
    return Appended(
        rows=work.rows,
        skipped=progress.skipped,
        commits=writer.commits,
        positions=tuple(progress.committed.values()),
    )
