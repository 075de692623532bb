# SPDX-License-Identifier: Apache-2.0
"""What connectors share: who reads a source, and which of its columns."""

from __future__ import annotations

import errno
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from zcrx_arrow.errors import ZcrxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

__all__ = ["Reading", "Selected"]

_LEFT_S: Final = 0.5  # a query that asks for nothing so long may be one that its engine has left
_PATIENCE_S: Final = 0.7
_STEP_S: Final = 0.01


class _State:
    """Who reads a source, and who did last."""

    def __init__(self) -> None:
        # Weakly, since it has the source: one that is forgotten shall not keep that for ever.
        self._reader: weakref.ref[Reading] | None = None
        self.last = ""

    @property
    def reader(self) -> Reading | None:
        """Who reads."""
        return None if self._reader is None else self._reader()

    @reader.setter
    def reader(self, reader: Reading | None) -> None:
        self._reader = None if reader is None else weakref.ref(reader)

    def forget(self) -> None:
        """Be what is kept for as long as the source is there; there is nothing else to do."""


# A query that is collected ends wherever its thread was, perhaps in here.
_lock: Final = threading.RLock()
_states: Final[weakref.WeakValueDictionary[int, _State]] = weakref.WeakValueDictionary()


def _state_of(source: Any) -> _State:
    with _lock:
        state = _states.get(id(source))
        if state is None:
            state = _states[id(source)] = _State()
            # What cannot be referred to weakly is remembered only while somebody wants to read it.
            with suppress(TypeError):
                weakref.finalize(source, state.forget).atexit = False
        return state


class Reading:
    """
    The right to read a source: at a time one connector has it.

    Sees to it that nobody reads a feed twice, or two at a time, without knowing. Of plain iteration
    over a source it knows nothing.

    Parameters
    ----------
    source : Source or Replay
        What is read; named in errors. Held.
    step : str
        The function that users know, for errors.
    what : str
        Who reads, in errors.
    again : bool
        Whether it may go on where somebody has stopped: itself, in an earlier query, which then
        gets no more, or another one.

    Ownership: each `begin` is followed by an `end`. Thread safety: every method may be called from
    any thread.
    """

    def __init__(self, source: Any, *, step: str, what: str, again: bool) -> None:
        self._source, self._step, self._again = source, step, again
        self.what = what
        self._state = _state_of(source)
        self._queries = 0
        self._paused: float | None = None

    def begin(self) -> int:
        """
        Begin a query; gives its number.

        Waits a little for another connector whose engine has left a query as it is.

        Raises
        ------
        ZcrxError
            EBUSY, if another connector reads the source, or if it was read before and going on was
            not asked for; EBADF, if it was closed.
        """
        if getattr(self._source, "closed", False) is True:
            raise ZcrxError(errno.EBADF, f"{self._source!r} is closed", step=self._step)
        deadline = time.monotonic() + _PATIENCE_S
        while isinstance(begun := self._begun(), str):
            if time.monotonic() > deadline:
                raise self._refusal(
                    f"is being read by {begun}",
                    "End that one first, or give each reader a source of its own.",
                )
            time.sleep(_STEP_S)
        return begun

    def _begun(self) -> int | str:
        """Begin a query, or say who reads."""
        with _lock:
            state, other = self._state, self._state.reader
            others = other is not None and other is not self
            if state.last and not self._again and not others:
                raise self._refusal(
                    f"was read by {state.last} before",
                    f"Collect what you need in one query, or say {self._step}(..., again=True) to "
                    "go on where the last one stopped.",
                )
            if other is not None and others and not (self._again and other.overtaken()):
                return other.what
            state.reader, state.last = self, self.what
            self._queries += 1
            self._paused = None
            number = self._queries
        if other is not None and (select := getattr(self._source, "_select", None)) is not None:
            select(None)  # which an overtaken query does no more
        return number

    def pause(self, query: int) -> None:
        """
        Say that the engine has the rows; check as `check` does.

        Engines may leave a query that has found its rows as it is, neither ended nor going on. If
        it does not come back for a while, others may go on in its place.
        """
        with _lock:
            self.check(query)
            self._paused = time.monotonic()

    def overtaken(self) -> bool:
        """Give way to another connector if the engine has left its query; says whether it has."""
        with _lock:
            left = self._paused is not None and time.monotonic() - self._paused > _LEFT_S
            self._queries += left
            return left

    def is_latest(self, query: int) -> bool:
        """Whether nobody has taken over."""
        return query == self._queries

    def check(self, query: int) -> None:
        """
        Before and after a pull: see that nobody has taken over.

        Raises
        ------
        ZcrxError
            EBUSY, if somebody has.
        """
        with _lock:
            if not self.is_latest(query):
                raise self._refusal("is being read by another query", "Let one query end first.")
            self._paused = None

    def end(self, query: int) -> None:
        """End a query; if nobody has taken over, others may read."""
        with _lock:
            if self.is_latest(query):
                self._state.reader = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Read in a ``with`` block; raises what `begin` raises."""
        query = self.begin()
        try:
            yield
        finally:
            self.end(query)

    def _refusal(self, why: str, remedy: str) -> ZcrxError:
        return ZcrxError(
            errno.EBUSY,
            f"{self._source!r} {why}; its rows come once",
            step=self._step,
            remedy=remedy,
        )


class Selected:
    """
    Iterates over a source; one that can is asked to decode these columns only.

    Parameters
    ----------
    source : Source, Replay or iterable of pyarrow.RecordBatch
        What is read.
    columns : list of str, optional
        Without it all.
    mine : callable
        Asked at the end whether the selection is still this reader's, to be taken back.
    """

    def __init__(
        self, source: Any, columns: list[str] | None, mine: Callable[[], bool] = lambda: True
    ) -> None:
        self._source, self._columns, self._mine = source, columns, mine
        self._select = getattr(source, "_select", None)

    def __enter__(self) -> Iterator[pa.RecordBatch]:
        """Give the batches."""
        if self._select is not None and self._columns is not None:
            self._select(self._columns)
        return iter(self._source)

    def __exit__(self, *_: object) -> None:
        """Have every column decoded again."""
        if self._select is not None and self._columns is not None and self._mine():
            self._select(None)
