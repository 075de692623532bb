# SPDX-License-Identifier: Apache-2.0
"""Reads of sources for who watches them: one that raises keeps nobody from seeing the others."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, TypeVar

from zcrx_arrow import _events

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ERRORS", "OTEL_ERRORS", "TEXT_ERRORS", "Scrapes"]

ERRORS: Final = "zcrx_arrow_scrape_errors"
OTEL_ERRORS: Final = "zcrx_arrow.scrape.errors"
TEXT_ERRORS: Final = "Times that a source could not be read, and was left out."

T = TypeVar("T")


class Scrapes:
    """
    Counts reads that fail, by the name of the source, and logs the first of those in a row.

    Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors: dict[str, int] = {}
        self._failing: set[str] = set()

    def attempt(self, name: str, read: Callable[[], T]) -> T | None:
        """Give what `read` gives; None if it raises."""
        try:
            found = read()
        except Exception as error:  # noqa: BLE001 - of whatever kind: the others shall be seen
            self._failed(name, f"{type(error).__name__}: {error}")
            return None
        with self._lock:
            self._failing.discard(name)
        return found

    def _failed(self, name: str, error: str) -> None:
        with self._lock:
            self._errors[name] = self._errors.get(name, 0) + 1
            known = name in self._failing
            self._failing.add(name)
        if not known:
            _events.warning(
                "scrape_failed", name, "cannot be read, and is left out: %s", error, error=error
            )

    def errors(self, name: str) -> int:
        """Give how many reads of a source have failed."""
        with self._lock:
            return self._errors.get(name, 0)

    def forget(self, name: str) -> None:
        """Begin anew with a source of that name."""
        with self._lock:
            self._errors.pop(name, None)
            self._failing.discard(name)
