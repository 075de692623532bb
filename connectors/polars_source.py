# SPDX-License-Identifier: Apache-2.0
"""
Polars reads a feed: lazily with `scan`, or frame by frame with `iter_frames`.

Needs ``zcrx-arrow[polars]``. Payloads are not copied on the way: the frames' views point into the
receive memory, and give it back when Polars lets go of them.

Source: Polars user guide, "IO plugins": a source is told which columns, which predicate and how
many rows are wanted, and must honour all of them, since Polars does not look again.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from zcrx_arrow.connectors.reading import Reading, Selected
from zcrx_arrow.errors import UnsupportedError

try:
    import polars as pl
    from polars.io.plugins import register_io_source
except ImportError as error:  # pragma: no cover - said to the user
    raise ImportError("this connector needs Polars: pip install 'zcrx-arrow[polars]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["iter_frames", "scan"]


def iter_frames(source: Any) -> Iterator[pl.DataFrame]:
    """
    Give each batch of a feed as a frame, as it comes.

    Parameters
    ----------
    source : Source or Replay
        Anything that iterates over record batches.

    Yields
    ------
    polars.DataFrame
        Its payloads lie where they were received, until it and what was made of it are gone.
    """
    for batch in source:
        yield _frame(batch)


def scan(source: Any, *, again: bool = False) -> pl.LazyFrame:
    """
    Make a LazyFrame of a feed.

    A query pulls what it needs: unneeded columns are not decoded where the decoder can leave them
    out, ``head(n)`` and ``limit`` stop an endless feed after n rows, and with
    ``collect(engine="streaming")``, ``sink_parquet`` and ``collect_batches`` memory stays bounded.
    An aggregation over an endless feed never ends: bound it by ``head``, or close the source; and
    take the streaming engine for a ``head`` behind a filter, since the other one wants all that
    passes the filter first.

    Parameters
    ----------
    source : Source or Replay
        Stays open, and the caller's. Rows of a batch that a ``head`` cuts off are gone.
    again : bool
        Whether a query may go on where an earlier one, of this or another connector, has stopped.
        Else it is refused, since it would see other rows than the first.

    Returns
    -------
    polars.LazyFrame

    Raises
    ------
    UnsupportedError
        If Polars has no type for a column; before anything is pulled.
    ZcrxError
        From the query: if the source was read already, is being read by another connector (EBUSY)
        or was closed (EBADF), or fails.
    """
    schema = _schema_of(source.schema)
    reading = Reading(source, step="scan", what="a query over scan()", again=again)

    def pull(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        query = reading.begin()
        try:
            mine = partial(reading.is_latest, query)
            for frame in _pull(source, columns, predicate, n_rows, mine):
                reading.pause(query)  # what was pulled before a later query began is in order
                yield frame
                reading.check(query)
        finally:
            reading.end(query)

    return register_io_source(pull, schema=schema, explain_name="zcrx-arrow")


def _schema_of(schema: pa.Schema) -> pl.Schema:
    columns = {}
    for field in schema:
        try:
            columns[field.name] = _frame(pa.schema([field]).empty_table()).schema[field.name]
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise UnsupportedError(
                errno.ENOTSUP,
                f"Polars has no type for column {field.name!r} of type {field.type}: {error}",
                step="scan",
                remedy="Decode it to another type, or leave it out with source columns or keep=.",
            ) from None
    return pl.Schema(columns)


def _frame(data: Any) -> pl.DataFrame:
    frame = pl.from_arrow(data)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - batches and tables become frames
    return frame


def _only(frame: pl.DataFrame, columns: list[str] | None) -> pl.DataFrame:
    # Not by select(), which is a query with all that belongs to one.
    return frame if columns is None or frame.columns == columns else frame[columns]


def _pull(
    source: Any,
    columns: list[str] | None,
    predicate: pl.Expr | None,
    n_rows: int | None,
    mine: Callable[[], bool],
) -> Iterator[pl.DataFrame]:
    needed = columns
    if columns is not None and predicate is not None:
        needed = columns + [name for name in predicate.meta.root_names() if name not in columns]
    left = n_rows
    with Selected(source, needed, mine) as batches:
        while left is None or left > 0:
            batch = next(batches, None)
            if batch is None:
                return
            frame = _only(_frame(batch), needed)
            del batch
            if predicate is not None:
                frame = frame.filter(predicate)
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            yield _only(frame, columns)
