# SPDX-License-Identifier: Apache-2.0
"""Single keys, while something else goes on."""

import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Any, Self

__all__ = ["Keys"]


class Keys:
    """
    What is typed at the terminal, a key at a time and not echoed; nothing if there is none.

    A context: at its end the terminal is as it was.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        """Take over the terminal, if there is one."""
        if sys.stdin is not None and sys.stdin.isatty():
            self._fd = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back."""
        if self._before:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)

    def pressed(self) -> str:
        """Give the keys since the last call, without waiting."""
        if self._fd < 0 or not select.select([self._fd], [], [], 0)[0]:
            return ""
        typed = os.read(self._fd, 1024)
        if not typed:  # the terminal has gone
            self._fd = -1
        return typed.decode(errors="replace")
