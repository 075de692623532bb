# SPDX-License-Identifier: Apache-2.0
"""
How far feeds have got into a database: a table that changes in the same transactions as the rows.

============  =================  ==================================================================
feed          VARCHAR            name of the feed
run           UINTEGER           from 0; one more each time that its peers begin anew
connection    UINTEGER           of the source; 0 where rows do not say
peer          VARCHAR            address of the connection's other end, if known
position      UBIGINT            of the last row that is committed: its first byte, counted from
                                 the beginning of the run; null where rows do not say
rows          UBIGINT            committed of this run and connection
committed_at  TIMESTAMPTZ        when the last of them were
============  =================  ==================================================================
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zcrx_arrow.connectors.duckdb_pull import duckdb, quoted
from zcrx_arrow.errors import ConfigError, ZcrxError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = [
    "POSITIONS",
    "Position",
    "check_table",
    "opened",
    "position",
    "positions",
    "store",
    "stored",
]

POSITIONS: Final = "zcrx_arrow_positions"
_COLUMNS: Final = ("feed", "run", "connection", "peer", "position", "rows", "committed_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far one connection's rows are committed."""

    feed: str
    run: int
    connection: int
    peer: str | None
    position: int | None
    """Of the last row that is committed: where it begins, in bytes since the run began. A peer
    that sends from there on repeats that row, and leaves out none."""
    rows: int
    """Committed of this run and connection."""
    committed_at: datetime


@contextmanager
def opened(
    database: duckdb.DuckDBPyConnection | str | os.PathLike[str], *, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection of our own to a database: a cursor, or the file opened."""
    if isinstance(database, duckdb.DuckDBPyConnection):
        with database.cursor() as cursor:
            yield cursor
        return
    try:
        path = Path(database)
    except TypeError:
        raise ConfigError(
            f"{database!r} must be a DuckDB connection or the path of a database"
        ) from None
    with duckdb.connect(path, read_only=read_only) as connection:
        yield connection


def positions(
    database: duckdb.DuckDBPyConnection | str | os.PathLike[str],
    feed: str,
    *,
    table: str = POSITIONS,
) -> list[Position]:
    """
    Tell how far a feed's latest run has got into a database, by connection.

    Parameters
    ----------
    database : duckdb.DuckDBPyConnection or path
        Where `append` puts the feed; a file is only read.
    feed : str
        Its name.
    table : str
        Of the positions.

    Returns
    -------
    list of Position
        Empty if nothing of the feed was ever committed.

    Raises
    ------
    duckdb.Error
        If the file cannot be opened, for example while another process has it.
    """
    if not isinstance(database, duckdb.DuckDBPyConnection) and not Path(database).exists():
        return []
    with opened(database, read_only=True) as connection:
        try:
            return stored(connection, feed, table)
        except duckdb.CatalogException:
            return []


def position(
    database: duckdb.DuckDBPyConnection | str | os.PathLike[str],
    feed: str,
    *,
    table: str = POSITIONS,
) -> Position | None:
    """
    Tell how far a feed of one connection has got into a database; see `positions`.

    Returns
    -------
    Position or None
        None if nothing of the feed was ever committed.

    Raises
    ------
    ZcrxError
        If the latest run had several connections.
    """
    found = positions(database, feed, table=table)
    if len(found) > 1:
        raise ZcrxError(
            errno.EINVAL,
            f"run {found[0].run} of feed {feed!r} had {len(found)} connections",
            step="position",
            remedy="Ask for positions(), and decide by their peers.",
        )
    return found[0] if found else None


def stored(connection: duckdb.DuckDBPyConnection, feed: str, table: str) -> list[Position]:
    """Read the latest run of a feed."""
    # As a number: DuckDB needs pytz to hand out a TIMESTAMPTZ.
    columns = ", ".join((*_COLUMNS[:-1], "epoch_us(committed_at)"))
    rows = connection.execute(
        f"select {columns} from {quoted(table)} where feed = $feed and run = "  # noqa: S608 - quoted
        f"(select max(run) from {quoted(table)} where feed = $feed) order by connection",
        {"feed": feed},
    ).fetchall()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [
        Position(
            **dict(zip(_COLUMNS[:-1], row[:-1], strict=True)),
            committed_at=epoch + timedelta(microseconds=row[-1]),
        )
        for row in rows
    ]


def check_table(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Make the table if there is none."""
    connection.execute(
        f"create table if not exists {quoted(table)} (feed varchar, run uinteger, "
        "connection uinteger, peer varchar, position ubigint, rows ubigint not null, "
        "committed_at timestamptz not null, primary key (feed, run, connection))"
    )


def store(
    connection: duckdb.DuckDBPyConnection, table: str, moved: Position, before: int | None
) -> Position:
    """
    Move a connection's position, within a transaction.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
    table : str
    moved : Position
        Whose `rows` are those that are added.
    before : int or None
        Rows that were committed so far; None: not known.

    Returns
    -------
    Position
        As stored, with all rows.

    Raises
    ------
    ZcrxError
        EBUSY, if there are not so many: something else appends to the feed.
    """
    key = {name: getattr(moved, name) for name in ("feed", "run", "connection")}
    where = "feed = $feed and run = $run and connection = $connection"
    found = connection.execute(
        f"select rows from {quoted(table)} where {where}",  # noqa: S608 - quoted
        key,
    ).fetchone()
    rows = found[0] if found else 0
    if before is not None and rows != before:
        raise ZcrxError(
            errno.EBUSY,
            f"something else appends as feed {moved.feed!r}",
            step="append",
            remedy="Give each feed a name of its own.",
        )
    moved = replace(moved, rows=rows + moved.rows)
    sql = (
        "insert into {} values ($feed, $run, $connection, $peer, $position, $rows, now())"
        if found is None
        else "update {} set peer = coalesce($peer, peer), position = $position, rows = $rows, "  # noqa: S608
        f"committed_at = now() where {where}"
    )
    values = {name: getattr(moved, name) for name in ("peer", "position", "rows")}
    connection.execute(sql.format(quoted(table)), key | values)
    return moved
