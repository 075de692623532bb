# SPDX-License-Identifier: Apache-2.0
"""One SQL text that is run again and again, over other rows each time."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from zcrx_arrow.connectors.duckdb_pull import check_free, check_types, duckdb
from zcrx_arrow.errors import ConfigError

__all__ = ["Query", "moment"]

_PARAMETERS: Final = {"window", "window_start", "window_end"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(nanoseconds_: int) -> datetime:
    """Give a time in UTC, in microseconds, of nanoseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=nanoseconds_ // 1000)


class Query:
    """One SQL text, on a connection, over a table that changes."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection | None,
        sql: str,
        name: str,
        schema: pa.Schema,
        *,
        by_time: bool,
    ) -> None:
        self._own = connection is None
        self._connection = duckdb.connect() if connection is None else connection
        self._sql, self._name, self._by_time = sql, name, by_time
        try:
            check_types(self._connection, schema, "windows")
            check_free(self._connection, name, "windows")
            self._used = self._parameters()
            self._check(schema)
        except BaseException:
            self.close()
            raise

    def _parameters(self) -> set[str]:
        statements = self._connection.extract_statements(self._sql)
        if len(statements) != 1:
            raise ConfigError(f"windows: sql= must be one statement, not {len(statements)}")
        used: set[str] = set(statements[0].named_parameters)
        if not used <= _PARAMETERS:
            raise ConfigError(
                f"windows: sql= has parameters {sorted(used - _PARAMETERS)}; there are "
                "$window, $window_start and $window_end"
            )
        return used

    def _check(self, schema: pa.Schema) -> None:
        """Bind the text to the feed's schema, without running it."""
        self._connection.register(self._name, schema.empty_table())
        try:
            values = self._values(0, 0, 0)
            self._connection.execute(f"explain {self._sql}", values or None).fetchall()
        finally:
            self._connection.unregister(self._name)

    def _values(self, number: int, start: int, end: int) -> dict[str, Any]:
        known = {
            "window": number,
            "window_start": moment(start) if self._by_time else start,
            "window_end": moment(end) if self._by_time else end,
        }
        return {name: known[name] for name in self._used}

    def run(self, rows: pa.Table, number: int, start: int, end: int) -> pa.Table:
        """Run it over these rows; they may be released afterwards."""
        connection = self._connection
        connection.register(self._name, rows)
        try:
            values = self._values(number, start, end)
            relation = connection.sql(self._sql, params=values or None)
            return pa.table({}) if relation is None else _arrow(relation)
        except duckdb.Error as error:
            error.add_note(f"in window {number}, from {start} to {end}, of {rows.num_rows} rows")
            raise
        finally:
            with suppress(duckdb.Error):  # what went wrong before says more
                connection.unregister(self._name)

    def close(self) -> None:
        """Close the connection, if it is our own. Idempotent."""
        if self._own:
            self._own = False
            self._connection.close()
            del self._connection


def _arrow(relation: Any) -> pa.Table:
    # DuckDB 1.4 and newer have the first, older ones the other.
    make = getattr(relation, "to_arrow_table", None) or relation.fetch_arrow_table
    return make()
