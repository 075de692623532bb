# SPDX-License-Identifier: Apache-2.0
"""
What happens, told to Python's logging: a text for people, fields for programs.

Fields are attributes of the log record, with the prefix ``zcrx_`` so that they are in nobody's
way. `zcrx_arrow.logs` lists events and fields.
"""

from __future__ import annotations

import logging
from typing import Any, Final

__all__ = ["PREFIX", "address_in", "enabled", "error", "info", "log", "warning"]

PREFIX: Final = "zcrx_"

_log = logging.getLogger("zcrx_arrow")


def address_in(name: str) -> str:
    """Give the address of what is called ``listen ADDRESS`` or ``connect ADDRESS`` in texts."""
    return name.removeprefix("listen ").removeprefix("connect ")


def enabled(level: int) -> bool:
    """Whether anybody listens; to leave out what is costly to find out."""
    return _log.isEnabledFor(level)


def log(
    level: int, event: str, source: str, text: str, *values: object, depth: int = 1, **fields: Any
) -> None:
    """
    Tell of an event.

    Parameters
    ----------
    level : int
        Of `logging`.
    event : str
        Its name, see `zcrx_arrow.logs`.
    source : str
        Whom it is of, such as an address; begins the text.
    text, *values
        For people, in the way of `logging`.
    depth : int
        How many calls above this one the code is that tells.
    **fields
        For programs; those that are None are left out.
    """
    extra = {f"{PREFIX}{name}": value for name, value in fields.items() if value is not None}
    extra |= {f"{PREFIX}event": event, f"{PREFIX}source": address_in(source)}
    _log.log(level, f"%s: {text}", source, *values, extra=extra, stacklevel=depth + 1)


def info(event: str, source: str, text: str, *values: object, **fields: Any) -> None:
    """Tell of what is in order."""
    log(logging.INFO, event, source, text, *values, depth=2, **fields)


def warning(event: str, source: str, text: str, *values: object, **fields: Any) -> None:
    """Tell of what somebody should look at."""
    log(logging.WARNING, event, source, text, *values, depth=2, **fields)


def error(event: str, source: str, text: str, *values: object, **fields: Any) -> None:
    """Tell of what ends a feed."""
    log(logging.ERROR, event, source, text, *values, depth=2, **fields)
