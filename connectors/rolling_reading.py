# SPDX-License-Identifier: Apache-2.0
"""What rolling files say of themselves: which bytes they have, and where to go on."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from zcrx_arrow.connectors.rolling_folder import files_of
from zcrx_arrow.connectors.rolling_positions import Position, Range, Stamp
from zcrx_arrow.errors import ConfigError, UnsupportedError, ZcrxError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["positions", "resume"]

_SCHEMA: Final = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("sequence", pa.uint64(), nullable=False),
        pa.field("run", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("began", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("ended", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("file_rows", pa.uint64(), nullable=False),
        pa.field("connection", pa.uint32()),
        pa.field("peer", pa.string()),
        pa.field("resumes", pa.uint32()),
        pa.field("base", pa.uint64()),
        pa.field("first", pa.uint64()),
        pa.field("last", pa.uint64()),
        pa.field("next", pa.uint64()),
        pa.field("rows", pa.uint64()),
    ]
)


def positions(directory: str | os.PathLike[str]) -> pa.Table:
    """
    Give what each whole file of a folder has, in order.

    Parameters
    ----------
    directory : path
        Also while it is being written to.

    Returns
    -------
    pyarrow.Table
        A row for each file and connection: ``file``, ``sequence``, ``run`` (one `write`),
        ``source``, ``began`` and ``ended`` (timestamp[us, UTC]: its first row was taken, it was
        finished), ``file_rows``; ``connection``, ``peer``, ``resumes``, ``base``, ``first``,
        ``last``, ``next`` (positions in bytes), ``rows``. What follows ``file_rows`` is null, in
        one row, for a file whose batches did not have the column ``connection``.

    Raises
    ------
    OSError
        If the folder or a file cannot be read.
    ZcrxError
        EBADMSG, if a file is not what its name says.
    """
    rows = [row for path, stamp in _stamps(directory) for row in _rows(path, stamp)]
    return pa.Table.from_pylist(rows[::-1], _SCHEMA)


def _rows(path: Path, stamp: Stamp) -> list[dict[str, Any]]:
    head = {
        "file": path.name,
        "sequence": stamp.sequence,
        "run": stamp.run,
        "source": stamp.source,
        "began": _time(stamp.began),
        "ended": _time(stamp.ended),
        "file_rows": stamp.rows,
    }
    if stamp.connections is None:
        return [head]
    names = [name for name in _SCHEMA.names if name not in head]
    return [head | {name: getattr(each, name) for name in names} for each in stamp.connections][
        ::-1
    ]


def _time(text: str) -> pa.Scalar:
    return pa.scalar(text).cast(pa.timestamp("us", "UTC"))


def resume(directory: str | os.PathLike[str], connection: int | None = None) -> Position:
    """
    Say where a sender is to go on, so that the files get its rows without a gap or a repeat.

    Looks at the files of the last run that has any.

    Parameters
    ----------
    directory : path
        If it is not there, or has no file yet, the position is 0.
    connection : int, optional
        Of that run; needed if it had several.

    Returns
    -------
    Position
        Ask the sender for its stream from ``offset`` on, and give the position to `write`.

    Raises
    ------
    ConfigError
        If the run had several connections and none was named, or not that one.
    UnsupportedError
        If the files do not say it: there was no column ``position``, or the framing does not tell
        from a row where a message begins or ends.
    OSError, ZcrxError
        As for `positions`.
    """
    found = _last_run(directory) if Path(directory).exists() else {}
    if not found:
        return Position()
    if connection is None:
        if len(found) > 1:
            listed = ", ".join(map(str, sorted(found)))
            raise ConfigError(f"connection= must say which: the last run had {listed}")
        connection = next(iter(found))
    if connection not in found:
        raise ConfigError(f"connection={connection!r} is not among those of the last run")
    last = found[connection]
    if last.resume is None or last.last is None:
        raise _unknown(directory, "the rows do not tell where a message begins")
    return Position(offset=last.resume, last=last.last, connection=last.connection, peer=last.peer)


def _last_run(directory: str | os.PathLike[str]) -> dict[int, Range]:
    """Give the last range of each connection of the last run."""
    found: dict[int, Range] = {}
    run = None
    for _, stamp in _stamps(directory):
        if run is not None and stamp.run != run:
            break
        run = stamp.run
        if stamp.connections is None:
            raise _unknown(directory, "rows have no column connection")
        for each in stamp.connections:
            found.setdefault(each.connection, each)
    return found


def _unknown(directory: str | os.PathLike[str], why: str) -> UnsupportedError:
    return UnsupportedError(
        errno.ENODATA,
        f"the files in {directory} do not say where to go on: {why}",
        step="resume",
        remedy="With a decoder keep=['connection', 'position'], over lines or records of fixed "
        "size; or write payloads, without a decoder.",
    )


def _stamps(directory: str | os.PathLike[str]) -> Iterator[tuple[Path, Stamp]]:
    """Give what files say of themselves, the last first; files of others are left out."""
    for _, path in sorted(files_of(directory), reverse=True):
        try:
            stamp = Stamp.load(_metadata(path))
        except FileNotFoundError:
            continue  # somebody has moved it meanwhile
        except (pa.ArrowException, ValueError) as error:
            raise ZcrxError(
                errno.EBADMSG,
                f"{path} is not what its name says: {error}",
                step="positions",
                remedy="Move it out of the folder, and see how it came to be.",
            ) from error
        if stamp is not None:
            yield path, stamp


def _metadata(path: Path) -> dict[bytes, bytes]:
    if path.suffix == ".parquet":
        return pq.read_metadata(path).metadata or {}
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        if not reader.num_record_batches:
            return {}
        found = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
        return dict(found.custom_metadata or {})
