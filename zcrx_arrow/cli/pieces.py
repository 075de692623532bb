# SPDX-License-Identifier: Apache-2.0
"""What `send` sends, piece by piece, each when it is due."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import IO

import pyarrow as pa

from zcrx_arrow.cli.formats import Format
from zcrx_arrow.cli.tables import read_rows

__all__ = ["Pace", "Piece", "raw_pieces", "row_pieces"]

_PIECE = 1 << 20
_TICK_S = 0.01


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes, or a file to be sent as it is; and how many rows that is, if it has rows."""

    data: bytes | IO[bytes]
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how fast."""

    loop: int
    """0: for ever."""
    batch_rows: int
    bytes_per_second: int | None
    rows_per_second: float | None

    def rounds(self) -> Iterator[int]:
        """Count the rounds."""
        return iter(range(self.loop)) if self.loop else count()


def raw_pieces(
    source: str, loop: int, per_second: int | None, lines_per_second: float | None
) -> Iterator[Piece]:
    """Give a file's bytes as they are; ``-`` is standard input."""
    for _ in Pace(loop, 1, None, None).rounds():
        empty = True
        with sys.stdin.buffer if source == "-" else Path(source).open("rb") as file:
            if lines_per_second:
                pieces = _paced_lines(file, lines_per_second)
            elif per_second:
                pieces = _paced_bytes(file, per_second)
            elif source == "-":
                pieces = map(Piece, iter(lambda: os.read(0, _PIECE), b""))
            else:
                empty = not os.fstat(file.fileno()).st_size
                pieces = iter([Piece(file)])
            for piece in pieces:
                empty = empty and not piece.data
                yield piece
        if empty:
            return  # nothing, however often it is repeated


def _paced_lines(file: IO[bytes], per_second: float) -> Iterator[Piece]:
    started = time.monotonic()
    for done, line in enumerate(file):
        _sleep_until(started + done / per_second)
        yield Piece(line)


def _paced_bytes(file: IO[bytes], per_second: int) -> Iterator[Piece]:
    started, done = time.monotonic(), 0
    size = _at_a_time(per_second)
    while piece := file.read(size):
        _sleep_until(started + done / per_second)
        done += len(piece)
        yield Piece(piece)


def row_pieces(
    source: str, kind: str, schema: pa.Schema | None, made: Format, pace: Pace
) -> Iterator[Piece]:
    """
    Give a file's rows in a wire format: one stream, however often the file is read.

    The first is made at once, since it may tell of a mistake; time counts from the second on.

    Parameters
    ----------
    source, kind, schema
        See `zcrx_arrow.cli.tables.read_rows`.
    made : Format
        Makes bytes of rows.
    pace : Pace
        How often and how fast.
    """
    pieces = _formatted(source, kind, schema, made, pace)
    return _paced(chain([next(pieces)], pieces), pace)


def _paced(pieces: Iterator[Piece], pace: Pace) -> Iterator[Piece]:
    started, sent_rows, sent_bytes = time.monotonic(), 0, 0
    for piece in pieces:
        assert isinstance(piece.data, bytes)  # noqa: S101 - see _formatted
        if pace.rows_per_second:
            _sleep_until(started + sent_rows / pace.rows_per_second)
            sent_rows += piece.rows or 0
        if pace.bytes_per_second is None:
            yield piece
            continue
        step = _at_a_time(pace.bytes_per_second)
        for start in range(0, len(piece.data), step):
            _sleep_until(started + sent_bytes / pace.bytes_per_second)
            part = piece.data[start : start + step]
            sent_bytes += len(part)
            yield Piece(part, 0 if start else piece.rows)


def _formatted(
    source: str, kind: str, schema: pa.Schema | None, made: Format, pace: Pace
) -> Iterator[Piece]:
    rows = pace.batch_rows
    if pace.rows_per_second:
        rows = max(1, min(rows, int(pace.rows_per_second * _TICK_S)))
    for at in pace.rounds():
        found, batches = read_rows(source, kind, schema, rows)
        if at == 0:
            yield Piece(made.begin(found), 0)
        empty = True
        for batch in batches:
            if batch.num_rows:
                empty = False
                yield Piece(made.rows(batch), batch.num_rows)
        if empty:
            break  # nothing, however often it is repeated
    yield Piece(made.end(), 0)


def _at_a_time(per_second: int) -> int:
    return max(1, min(_PIECE, int(per_second * _TICK_S)))


def _sleep_until(due: float) -> None:
    left = due - time.monotonic()
    if left > 0:
        time.sleep(left)
