# SPDX-License-Identifier: Apache-2.0
"""When a rolling sink begins a new file, and what its files are called."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, Self

from zcrx_arrow.config import Duration, Size, one_of, parse_duration, parse_size, whole
from zcrx_arrow.errors import ConfigError

__all__ = ["SUFFIXES", "Format", "Roll", "RollBy"]

Format = Literal["parquet", "ipc"]
RollBy = Size | Duration | tuple[Size | Duration, ...] | None

SUFFIXES: Final = {"parquet": "parquet", "ipc": "arrow"}
_PREFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LONG_S: Final = 86_400.0
_MOST: Final = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """
    Options of a rolling sink; a file ends at whichever limit comes first.

    Parameters
    ----------
    size : int or str, optional
        Bytes of a file. It may be larger by one row group, which is an eighth of this, 16 MiB at
        most, and a batch.
    seconds : float or str, optional
        From a file's first row to its end.
    rows : int, optional
        Rows of a file, exactly.
    format : {"parquet", "ipc"}
        Parquet with zstd, ``.parquet``; or the Arrow IPC file format, ``.arrow``.
    prefix : str
        What names begin with: letters, digits, ``.``, ``_``, ``-``.

    Raises
    ------
    ConfigError
        If a value cannot work, or there is no limit at all.
    """

    size: Size | None = None
    seconds: Duration | None = None
    rows: int | None = None
    format: Format = "parquet"
    prefix: str = "feed"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.size is None and self.seconds is None and self.rows is None:
            raise ConfigError("roll= or rows= must say when a file ends, such as '64 MiB'")
        if self.size is not None and not parse_size(self.size, "roll"):
            raise ConfigError("roll= of no bytes would end a file before its first row")
        if self.seconds is not None and not parse_duration(self.seconds, "roll"):
            raise ConfigError("roll= of no seconds would end a file before its first row")
        if self.rows is not None:
            whole(self.rows, "rows", 1, _MOST)
        one_of(self.format, "format", ("parquet", "ipc"))
        if not isinstance(self.prefix, str) or not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(
                f"prefix={self.prefix!r} must be letters, digits, '.', '_' or '-', and begin "
                "with a letter or a digit"
            )

    @classmethod
    def of(cls, roll: RollBy, rows: int | None, kind: Format, prefix: str) -> Self:
        """Make it of what `write` takes; text is a size or a duration by its unit."""
        size, seconds = None, None
        for each in roll if isinstance(roll, tuple) else (roll,):
            if each is None:
                continue
            if _is_size(each):
                if size is not None:
                    raise ConfigError(f"roll={roll!r} has two sizes")
                size = each
            else:
                if seconds is not None:
                    raise ConfigError(f"roll={roll!r} has two durations")
                seconds = each
        if isinstance(size, float):  # _is_size is only true of text
            raise ConfigError(f"roll={roll!r} must be a size or a duration")
        return cls(size=size, seconds=seconds, rows=rows, format=kind, prefix=prefix)

    @property
    def size_limit(self) -> int | None:
        """Bytes."""
        return None if self.size is None else parse_size(self.size)

    @property
    def age_limit(self) -> float:
        """Seconds; infinite without a limit."""
        return math.inf if self.seconds is None else parse_duration(self.seconds)


def _is_size(value: Size | Duration) -> bool:
    if isinstance(value, str) and re.search(r"[A-Za-z]", value):
        try:
            parse_size(value)
        except ConfigError:
            parse_duration(value, "roll")
            return False
        return True
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ConfigError(f"roll={value!r} must be a size such as '64 MiB' or a time in seconds")
    if parse_duration(value, "roll") > _LONG_S:
        raise ConfigError(f"roll={value!r} is more than a day in seconds: give it a unit")
    return False
