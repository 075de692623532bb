# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C between taking a batch and writing it would lose the batch; so it waits a moment."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Deferral"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Deferral:
    """
    Lets the handlers of SIGINT and SIGTERM wait, where they are Python's.

    Only the main thread runs such handlers; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._came: list[int] = []

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Have signals wait; afterwards their handlers run, and raise what they raise."""
        if self._handlers or threading.current_thread() is not threading.main_thread():
            yield
            return
        try:
            self._take()  # within: a handler that is not taken yet may raise
            yield
        finally:
            self._give_back()

    def run_pending(self) -> None:
        """Within `deferred`: if signals wait, run their handlers, which may raise."""
        if self._came:
            with self.allowed():
                pass

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Within `deferred`: for a while, have them not wait."""
        if not self._handlers:
            yield
            return
        self._give_back()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):  # the default of SIGTERM ends the process, which loses nothing
                self._handlers[number] = handler
                signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came.append(number)

    def _give_back(self) -> None:
        handlers, self._handlers = self._handlers, {}
        for number, handler in handlers.items():
            signal.signal(number, handler)
        came, self._came = self._came, []
        for number in dict.fromkeys(came):
            handlers[number](number, None)
