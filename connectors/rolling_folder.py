# SPDX-License-Identifier: Apache-2.0
"""A folder of rolling files: one writer at a time, names in order, nothing left of the dead."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zcrx_arrow.connectors.rolling_options import SUFFIXES
from zcrx_arrow.connectors.sink import sync_folder
from zcrx_arrow.errors import ZcrxError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Folder", "files_of"]

_LOCK: Final = ".zcrx-arrow.lock"
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*-(\d{10,})-\d{8}T\d{6}Z\.(?:parquet|arrow)"
_WHOLE: Final = re.compile(_NAME)
_PARTIAL: Final = re.compile(rf"\.{_NAME}\.\d+\.part")


class Folder:
    """
    A folder that is being written to by this object alone, until `close`.

    The lock is the kernel's (``flock`` of a hidden file), so it ends with the process that has it,
    however that ends; what is unfinished while nobody has the lock is nobody's, and is removed.

    Raises
    ------
    ZcrxError
        EBUSY, if somebody else writes there.
    OSError
        If the folder cannot be made or written to.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._make()
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take()
            for each in self.path.iterdir():
                if _PARTIAL.fullmatch(each.name):
                    each.unlink(missing_ok=True)
            self._sequence = max((number for number, _ in files_of(self.path)), default=0)
        except BaseException:
            os.close(self._lock)
            raise

    def _make(self) -> None:
        missing, at = [], self.path.absolute()
        while not at.is_dir():
            missing.append(at)
            at = at.parent
        if missing:
            self.path.mkdir(parents=True, exist_ok=True)
        for each in reversed(missing):
            sync_folder(each.parent)

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                who = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
                raise ZcrxError(
                    errno.EBUSY,
                    f"{self.path} is being written to by process {who or '?'}",
                    step="write",
                    remedy="Give each writer a folder of its own.",
                ) from None
            raise ZcrxError(
                error.errno or errno.ENOLCK,
                f"{self.path} cannot be locked, so that two writers could not tell of each other",
                step="write",
                remedy="Write to a filesystem that has flock(2), such as a local one.",
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    @property
    def closed(self) -> bool:
        """Whether others may write here."""
        return self._lock < 0

    def next_path(self, prefix: str, kind: str) -> tuple[int, Path]:
        """Give a number and a path that nothing has; both sort behind all before."""
        number = self._sequence + 1
        time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        while (path := self.path / f"{prefix}-{number:010d}-{time}.{SUFFIXES[kind]}").exists():
            number += 1
        return number, path

    def took(self, number: int) -> None:
        """Say that there is a file of that number now."""
        self._sequence = number

    def close(self) -> None:
        """Let others write here. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def files_of(folder: str | os.PathLike[str]) -> Iterator[tuple[int, Path]]:
    """Give number and path of each whole file, in no order."""
    for each in Path(folder).iterdir():
        match = _WHOLE.fullmatch(each.name)
        if match:
            yield int(match[1]), each
