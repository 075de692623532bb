# SPDX-License-Identifier: Apache-2.0
"""What a rolling sink tells: of a file, of all of them, and of what it could not write."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zcrx_arrow.errors import ZcrxError

if TYPE_CHECKING:
    from pathlib import Path

    from zcrx_arrow.connectors.rolling_positions import Range

__all__ = ["Finished", "Report", "WriteError", "failure_of"]

_TOLD: Final = 8
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A file that is whole, under its name, and on the disk."""

    path: Path
    sequence: int
    rows: int
    bytes: int
    connections: tuple[Range, ...] | None
    """What it has of each connection; None if rows did not say where they are from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of the rows that were taken from a source."""

    files: int = 0
    rows: int = 0
    """In files."""
    bytes: int = 0
    """Of the files."""
    repeated_rows: int = 0
    """Left out, since they are in files of an earlier run: see `Position`."""
    unwritten_rows: int = 0
    """Taken, and in no file: only after an error of the disk or of a schema."""
    unwritten: tuple[Range, ...] = ()
    """Of which connections and positions these are, as far as rows say so."""

    def __str__(self) -> str:
        """Say it in a line."""
        text = f"{self.files:,} files with {self.rows:,} rows and {self.bytes:,} bytes"
        lost = f"; {self.unwritten_rows:,} rows are in none" if self.unwritten_rows else ""
        return text + lost


class WriteError(ZcrxError):
    """
    Rows could not be written.

    Attributes
    ----------
    report : Report
        What is in files, and what is not.
    """

    report = Report()


def failure_of(error: Exception, report: Report, folder: Path) -> WriteError:
    """Make the error that says what is in no file."""
    number = getattr(error, "errno", None) or errno.EINVAL
    said = getattr(error, "strerror", None) or str(error)
    remedy = "Ask the sender to go on where resume() says, once this is mended."
    if number in _FULL:
        remedy = f"Make room. {remedy}"
    listed = "; ".join(map(str, report.unwritten[:_TOLD]))
    return WriteError(
        number,
        f"{folder}: {said}; {report.unwritten_rows:,} rows that were taken are in no file"
        + (f" ({listed})" if listed else ""),
        step="write",
        remedy=getattr(error, "remedy", "") or remedy,
    )
