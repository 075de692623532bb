# SPDX-License-Identifier: Apache-2.0
"""What connectors share: who reads a source, and which of its columns."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, Any

from zcrx_arrow.errors import ZcrxError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

__all__ = ["Reading", "Selected"]


class Reading:
    """
    Sees to it that nobody reads a feed twice, or two at a time, without knowing.

    Parameters
    ----------
    source : Source or Replay
        What is read; named in errors.
    again : bool
        Whether a later query may go on where an earlier one has stopped.
    step : str
        The function that users know, for errors.
    """

    def __init__(self, source: Any, *, again: bool, step: str) -> None:
        self._source, self._again, self._step = source, again, step
        self._lock = threading.Lock()
        self._queries = 0

    def begin(self) -> int:
        """
        Begin a query; gives its number.

        Raises
        ------
        ZcrxError
            EBUSY, if the feed was read before and going on was not asked for.
        """
        with self._lock:
            if self._queries and not self._again:
                raise self._refusal("was read by a query before")
            self._queries += 1
            return self._queries

    def check(self, query: int) -> None:
        """
        See that no later query has taken over.

        Engines often leave a query that has found its rows as it is, neither ended nor going on.

        Raises
        ------
        ZcrxError
            EBUSY, if one has.
        """
        if query != self._queries:
            raise self._refusal("is being read by another query")

    def _refusal(self, why: str) -> ZcrxError:
        return ZcrxError(
            errno.EBUSY,
            f"{self._source!r} {why}; its rows come once",
            step=self._step,
            remedy=f"Collect what you need in one query, or say {self._step}(..., again=True) to "
            "go on where the last one stopped.",
        )


class Selected:
    """Iterates over a source; one that can is asked to decode these columns only."""

    def __init__(self, source: Any, columns: list[str] | None) -> None:
        self._source, self._columns = source, columns
        self._select = getattr(source, "_select", None)

    def __enter__(self) -> Iterator[pa.RecordBatch]:
        """Give the batches."""
        if self._select is not None and self._columns is not None:
            self._select(self._columns)
        return iter(self._source)

    def __exit__(self, *_: object) -> None:
        """Have every column decoded again."""
        if self._select is not None and self._columns is not None:
            self._select(None)
