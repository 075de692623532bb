# SPDX-License-Identifier: Apache-2.0
"""
Ctrl-C while an engine pulls.

Python runs its signal handlers between byte codes of the main thread. An engine that pulls a
stream may be deep in its own code, on any thread, with or without the GIL: no handler runs. But
the C half of Python's handler runs at once and writes the signal's number to a descriptor that can
be set (``signal.set_wakeup_fd``). The core reads it while it waits and ends the wait.
"""

from __future__ import annotations

import os
import signal
import threading

from zcrx_arrow._native import lib

__all__ = ["forget", "install"]

_pipe: tuple[int, int] | None = None


def install() -> None:
    """
    Let the core see signals, if this is the main thread and nobody else uses the descriptor.

    An event loop that needs it (asyncio's ``add_signal_handler``) takes it, and keeps it.
    """
    global _pipe  # noqa: PLW0603 - the process has one such descriptor
    if threading.current_thread() is not threading.main_thread():
        return
    if _pipe is None:
        _pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        lib.za_interrupt_fd(_pipe[0])
    try:
        before = signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)
    except ValueError:  # a subinterpreter
        return
    if before not in (-1, _pipe[1]):
        signal.set_wakeup_fd(before)


def forget() -> None:
    """In a forked child: its signals must not be read by the parent."""
    global _pipe  # noqa: PLW0603
    if _pipe is None:
        return
    lib.za_interrupt_fd(-1)
    if signal.set_wakeup_fd(-1) not in (-1, _pipe[1]):
        # It was somebody else's; nothing can be read of it, so it cannot be given back.
        pass
    for fd in _pipe:
        os.close(fd)
    _pipe = None
