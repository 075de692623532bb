# SPDX-License-Identifier: Apache-2.0
"""What the parts of the DuckDB connector share: how a source is pulled, and names in SQL."""

from __future__ import annotations

import atexit
import errno
import os
import threading
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from zcrx_arrow.errors import ConfigError, UnsupportedError, ZcrxError
from zcrx_arrow.source import AGAIN, Source

try:
    import duckdb
except ImportError as error:  # pragma: no cover - said to the user
    raise ImportError("this connector needs DuckDB: pip install 'zcrx-arrow[duckdb]'") from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

__all__ = [
    "MAJOR",
    "Came",
    "Puller",
    "check_free",
    "check_names",
    "check_types",
    "duckdb",
    "leaving",
    "quoted",
    "taken",
    "working",
]

MAJOR: Final = int(duckdb.__version__.split(".", 1)[0])
_MOST_PARTS: Final = 3
_PATIENCE_S: Final = 10.0

leaving: Final = threading.Event()
"""The program ends: take no more, and come to an end."""
_idle = threading.Condition()
_workers = 0


@contextmanager
def working() -> Iterator[None]:
    """
    Keep the program from ending while a thread is at work in DuckDB.

    Python ends threads that are daemons wherever they are; in DuckDB that aborts the process.
    """
    global _workers  # noqa: PLW0603 - there is one program
    with _idle:
        if leaving.is_set():
            raise ZcrxError(errno.ECANCELED, "the program is ending", step="exit")
        _workers += 1
    try:
        yield
    finally:
        with _idle:
            _workers -= 1
            _idle.notify_all()


@atexit.register
def _at_exit() -> None:
    leaving.set()
    with _idle:
        _idle.wait_for(lambda: not _workers, _PATIENCE_S)


def _in_child() -> None:
    """Begin anew in a forked child: whoever was at work, or had the lock, is not there."""
    global _idle, _workers
    _idle, _workers = threading.Condition(), 0


os.register_at_fork(after_in_child=_in_child)


class Came(Enum):
    """What came instead of a batch."""

    NOTHING = 1
    END = 2


class Puller:
    """
    Pulls batches of anything that iterates over them, with a bounded wait where that is possible.

    A `Source`, and what has its ``next_batch``, can be waited for in steps; anything else waits as
    long as its iterator does.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._step = self._iterated
        self.bounded = True
        """Whether `step` ends in time."""
        if isinstance(source, Source):
            self._step = self._pulled
        elif hasattr(source, "next_batch"):
            self._step = self._asked
        else:
            self._iterator = iter(source)
            self.bounded = False

    def step(self, wait_ns: int) -> pa.RecordBatch | Came:
        """
        Wait for a batch, a source's at most so long.

        Raises
        ------
        ZcrxError
            EINTR, if Ctrl-C was pressed and this is not the thread that handles it; and what the
            source raises.
        """
        return self._step(max(0, wait_ns))

    def _pulled(self, wait_ns: int) -> pa.RecordBatch | Came:
        code, batch = self._source._pull(wait_ns)  # noqa: SLF001 - of this package
        if code == -errno.EINTR and threading.current_thread() is not threading.main_thread():
            raise ZcrxError(errno.EINTR, "interrupted by a signal (Ctrl-C)", step="wait")
        if code in AGAIN:
            return Came.NOTHING
        return Came.END if batch is None else batch

    def _asked(self, wait_ns: int) -> pa.RecordBatch | Came:
        try:
            batch = self._source.next_batch(timeout=wait_ns / 1e9)
        except TimeoutError:
            return Came.NOTHING
        return Came.END if batch is None else batch

    def _iterated(self, wait_ns: int) -> pa.RecordBatch | Came:  # noqa: ARG002 - it cannot
        batch = next(self._iterator, None)
        return Came.END if batch is None else batch


def quoted(name: str) -> str:
    """Write a name with up to two dots (``catalog.schema.table``) so that SQL takes it as is."""
    parts = name.split(".")
    if not all(parts) or len(parts) > _MOST_PARTS:
        raise ConfigError(f"{name!r} must be table, schema.table or catalog.schema.table")
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def taken(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Say whether a table or view of that name can be seen, as DuckDB compares names."""
    sql = (
        "select 1 from duckdb_views() where lower(view_name) = lower($name) "
        "and in_search_path(database_name, schema_name) "
        "union all select 1 from duckdb_tables() where lower(table_name) = lower($name) "
        "and in_search_path(database_name, schema_name)"
    )
    return bool(connection.execute(sql, {"name": name}).fetchall())


def check_free(connection: duckdb.DuckDBPyConnection, name: str, step: str) -> None:
    """See that a name can be used."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{step}: {name!r} is no name for a view")
    if taken(connection, name):
        raise ConfigError(
            f"{step}: DuckDB has a table or view {name!r} already, which would be hidden",
            remedy="Take another name, or unregister that one.",
        )


def check_names(schema: pa.Schema, step: str) -> None:
    """See that columns can be told apart by DuckDB, which takes ``a`` and ``A`` for one."""
    seen: set[str] = set()
    for name in schema.names:
        if name.lower() in seen:
            raise UnsupportedError(
                errno.ENOTSUP,
                f"two columns are called {name!r}, as DuckDB compares names",
                step=step,
                remedy="Rename one of them in the decoder's layout or schema.",
            )
        seen.add(name.lower())


def check_types(connection: duckdb.DuckDBPyConnection, schema: pa.Schema, step: str) -> None:
    """
    See that DuckDB has a type for every column.

    Raises
    ------
    UnsupportedError
        Names the first column that it has none for.
    """
    check_names(schema, step)
    with connection.cursor() as cursor:
        if _refusal(cursor, schema.empty_table()) is None:
            return
        for field in schema:
            refusal = _refusal(cursor, schema.empty_table().select([field.name]))
            if refusal is not None:
                raise UnsupportedError(
                    errno.ENOTSUP,
                    f"DuckDB has no type for column {field.name!r} of type {field.type}: {refusal}",
                    step=step,
                    remedy="Decode it to another type, or leave it out.",
                )


def _refusal(cursor: duckdb.DuckDBPyConnection, table: pa.Table) -> str | None:
    try:
        cursor.register("zcrx_arrow_types", table)
        cursor.execute("describe zcrx_arrow_types").fetchall()
    except duckdb.Error as error:
        return str(error)
    finally:
        cursor.unregister("zcrx_arrow_types")
    return None
