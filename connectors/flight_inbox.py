# SPDX-License-Identifier: Apache-2.0
"""A bounded queue of batches between threads, whose end is told to both sides."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

__all__ = ["Inbox"]


class Inbox:
    """
    Takes batches from many threads, gives each to one.

    Parameters
    ----------
    max_bytes, max_batches : int
        What it holds at most; one batch it always takes.
    """

    def __init__(self, max_bytes: int, max_batches: int) -> None:
        self._max_bytes, self._max_batches = max_bytes, max_batches
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._taken = threading.Condition(self._lock)
        self._batches: deque[tuple[pa.RecordBatch, int]] = deque()
        self._waiting: deque[object] = deque()  # those who put, in the order of their coming
        self._wakers: list[Callable[[], None]] = []
        self._ended = False
        self.bytes = 0
        self.discarded_rows = 0
        self.stalls = 0
        """Times that a batch had to wait for room."""
        self.stalled_s = 0.0

    def put(self, batch: pa.RecordBatch, size: int, gone: Callable[[], bool], step: float) -> bool:
        """
        Append a batch of so many bytes as soon as there is room.

        `gone` is asked every `step` seconds whether its sender has given up. False, and the batch
        is not taken, if it has, or if this was ended.
        """
        with self._lock:
            free = not self._waiting and self._has_room(size)
            if self._ended or not (free or self._stall(size, gone, step)):
                return False
            self._batches.append((batch, size))
            self.bytes += size
            self._arrived.notify()
            self._wake()
            return True

    def _stall(self, size: int, gone: Callable[[], bool], step: float) -> bool:
        """Wait for room; in turn, or small batches would go before a large one for ever."""
        begin = time.monotonic()
        self.stalls += 1
        turn = object()
        self._waiting.append(turn)

        def free() -> bool:
            return self._waiting[0] is turn and self._has_room(size)

        try:
            while not self._taken.wait_for(lambda: self._ended or free(), step):
                if gone():
                    break
            return not self._ended and free()
        finally:
            self._waiting.remove(turn)
            self._taken.notify_all()
            self.stalled_s += time.monotonic() - begin

    def _has_room(self, size: int) -> bool:
        room = len(self._batches) < self._max_batches and self.bytes + size <= self._max_bytes
        return room or not self._batches

    def get(self, timeout: float) -> pa.RecordBatch | None:
        """
        Take the oldest batch; None at the end.

        Raises
        ------
        TimeoutError
            If none came in so many seconds.
        """
        with self._lock:
            if not self._arrived.wait_for(lambda: self._batches or self._ended, timeout):
                raise TimeoutError
            if not self._batches:
                return None
            batch, size = self._batches.popleft()
            self.bytes -= size
            self._taken.notify_all()
            return batch

    def end(self, *, discard: bool = False) -> None:
        """Take nothing more; what is here can be taken, unless it is to be discarded."""
        with self._lock:
            self._ended = True
            if discard:
                self.discarded_rows += sum(batch.num_rows for batch, _ in self._batches)
                self._batches.clear()
                self.bytes = 0
            self._arrived.notify_all()
            self._taken.notify_all()
            self._wake()

    def tell(self, waker: Callable[[], None]) -> None:
        """Call this as soon as there may be something to get; from any thread, and once."""
        with self._lock:
            self._wakers.append(waker)
            if self._batches or self._ended:
                self._wake()

    def forget(self, waker: Callable[[], None]) -> None:
        """Do not call this any more, if it was not called yet."""
        with self._lock, contextlib.suppress(ValueError):
            self._wakers.remove(waker)

    def _wake(self) -> None:
        wakers, self._wakers = self._wakers, []
        for waker in wakers:
            waker()

    def __len__(self) -> int:
        """Give the batches that wait."""
        return len(self._batches)
