# SPDX-License-Identifier: Apache-2.0
"""
One feed for many readers, from one bounded memory.

Batches are numbered and kept once, however many readers there are; a reader is a place in that
row of batches. What all have passed, and nobody asked to be kept, is let go. A reader that falls
behind by more than the bound is dropped, moved forward, or waited for. Small batches that come
while every reader is busy become one: a message costs more than its bytes. Nothing here knows of
Flight.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from zcrx_arrow.config import parse_duration, parse_size
from zcrx_arrow.connectors.flight_pieces import Pieces
from zcrx_arrow.connectors.flight_policy import (
    NOWHERE,
    Counts,
    Piece,
    Policy,
    Reader,
    ReaderEndedError,
    Sent,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

__all__ = ["Fanout"]


class Fanout:
    """
    One writer, many readers.

    Thread safety: `publish` and `finish` belong to one thread; everything else may be called from
    any. What is written without the lock are only a reader's own place and counts, by its thread.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._queue = parse_size(policy.queue)
        self._patience = parse_duration(policy.patience)
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._taken = threading.Condition(self._lock)
        self.counts = Counts()
        self._pieces = Pieces(policy, self.counts)
        self._near_bytes = self._near_batches = 0  # where readers have to be looked at again
        self._hungry = 0  # readers that wait, since the last piece at least
        self._readers: set[Reader] = set()
        self._lost: set[Reader] = set()  # dropped, and not yet gone
        self._leaving: deque[Reader] = deque()  # gone, and not yet forgotten
        self._left = Sent()  # by readers that are gone
        self._finished = False
        self._end: ReaderEndedError | None = None

    # --- writing -----------------------------------------------------------------------------

    def publish(self, batch: pa.RecordBatch, size: int) -> None:
        """
        Append a batch of so many bytes.

        With ``slow="wait"`` this may wait up to the patience of the policy.
        """
        with self._lock:
            more = self._pieces.pending_bytes + size
            if self.counts.bytes + more > self._near_bytes or (
                self.counts.batches >= self._near_batches
            ):
                self._look_at_readers(more)
            if self._end is None:
                now = time.monotonic()
                # Whoever waits gets it at once; whoever is busy takes it by itself, see _wait().
                if self._pieces.append(batch, size, now, wanted=self._hungry > 0):
                    self._tell_readers()
                self._expire(now)

    def _look_at_readers(self, size: int) -> None:
        """See to it that one more batch puts no reader too far behind."""
        for reader in list(self._readers):
            # While one is waited for, others may leave, and all of it may end.
            if self._end is None and reader in self._readers:
                self._make_room(reader, size)
        if self._end is not None or any(reader.slack_batches for reader in self._readers):
            return
        # They only go on: until the feed is there, nobody can be too far behind.
        place = min((reader.place for reader in self._readers), default=self.counts.batches)
        self._near_bytes = self._pieces.start_of(place) + self._queue
        self._near_batches = place + self._policy.queue_batches

    def _seal(self) -> bool:
        """Let readers have what is pending; False if nothing is."""
        sealed = self._pieces.seal()
        if sealed:
            self._tell_readers()
        return sealed

    def _tell_readers(self) -> None:
        self._hungry = 0
        self._arrived.notify_all()

    def finish(self, failure: str | None = None) -> None:
        """End the feed: readers get what they have before them, then its end or the failure."""
        with self._lock:
            self._seal()
            if failure is not None and self._end is None:
                self._end = ReaderEndedError("failed", failure)
            self._finished = True
            self._arrived.notify_all()

    def abort(self, why: str) -> None:
        """End every reader at once, with an error."""
        with self._lock:
            self._end = ReaderEndedError("closing", why)
            self._finished = True
            self._pieces.clear()
            self._arrived.notify_all()
            self._taken.notify_all()

    def _make_room(self, reader: Reader, size: int) -> None:
        """See to it that one more batch does not put the reader too far behind."""
        batches, behind = self._behind(reader)
        reader.slack_bytes = min(reader.slack_bytes, behind)
        reader.slack_batches = min(reader.slack_batches, batches)
        if not self._is_slow(reader, size):
            return
        if self._policy.slow == "skip":
            self._skip(reader, size)
        elif self._policy.slow == "drop" or not self._wait_for(reader, size):
            self._drop(reader, size)

    def _behind(self, reader: Reader) -> tuple[int, int]:
        place = reader.place  # once: its thread may move it on meanwhile
        return self.counts.batches - place, self.counts.bytes - self._pieces.start_of(place)

    def _is_slow(self, reader: Reader, size: int, share: int = 1) -> bool:
        """Say whether one more batch is too much; for the whole bound, or for a share of it."""
        return self._is_far(reader, reader.place, size, share)

    def _is_far(self, reader: Reader, place: int, size: int, share: int) -> bool:
        batches = self.counts.batches - place
        if not batches:
            return False
        behind = self.counts.bytes - self._pieces.start_of(place)
        return (
            behind + size > (self._queue + reader.slack_bytes) // share
            or batches >= (self._policy.queue_batches + reader.slack_batches) / share
        )

    def _skip(self, reader: Reader, size: int) -> None:
        """Have it go on where half of the bound is free, so that gaps are few."""
        left = (self._queue - size) // 2
        at = reader.place
        while at < self.counts.batches and (
            self.counts.bytes - self._pieces.start_of(at) > left
            or self.counts.batches - at > self._policy.queue_batches // 2
        ):
            at += 1
        reader.skip_to = at
        reader.slack_bytes = reader.slack_batches = 0

    def _wait_for(self, reader: Reader, size: int) -> bool:
        """Wait until half of what the reader may be behind is free; False if it is not in time."""
        begin = time.monotonic()
        while not self._need_not_wait(reader, size, 2):
            # The writer says where it waits and then looks where the reader is; the reader goes on
            # and then looks whether it is waited for there.
            reader.awaited_at = self._place_to_wait_for(reader, size, 2)
            left = begin + self._patience - time.monotonic()
            if left <= 0:
                break
            if not self._need_not_wait(reader, size, 2):
                self._taken.wait(left)
        reader.awaited_at = NOWHERE
        self.counts.waits += 1
        self.counts.waited_s += time.monotonic() - begin
        return self._need_not_wait(reader, size, 1)

    def _place_to_wait_for(self, reader: Reader, size: int, share: int) -> int:
        places = range(reader.place, self.counts.batches)
        return places.start + bisect.bisect(
            places, x=False, key=lambda place: not self._is_far(reader, place, size, share)
        )

    def _need_not_wait(self, reader: Reader, size: int, share: int) -> bool:
        gone = self._end is not None or reader not in self._readers
        return gone or not self._is_slow(reader, size, share)

    def _drop(self, reader: Reader, size: int) -> None:
        batches, behind = self._behind(reader)
        reader.dropped = ReaderEndedError(
            "slow",
            f"dropped: this client is {batches} batches, {behind} bytes behind the feed, and "
            f"{size} more would be above the bound of {self._queue} bytes or "
            f"{self._policy.queue_batches} batches",
        )
        reader.dropped_at = time.monotonic()
        self._readers.discard(reader)
        self._lost.add(reader)
        self.counts.dropped += 1
        self._arrived.notify_all()

    # --- letting go --------------------------------------------------------------------------

    def expire(self) -> None:
        """Let go of batches that are too old; to be called now and then while the feed is quiet."""
        with self._lock:
            self._seal()
            self._expire(time.monotonic())

    def _expire(self, now: float) -> None:
        self._forget()
        needed = min((reader.place for reader in self._readers), default=self.counts.batches)
        self._pieces.let_go(needed, now)

    def lost(self, before: float) -> list[Reader]:
        """Give readers that were dropped before this time and have not left since."""
        with self._lock:
            return [reader for reader in self._lost if reader.dropped_at <= before]

    # --- reading -----------------------------------------------------------------------------

    def join(self, peer: str, last: float | None = None) -> Reader | None:
        """
        Add a reader; None if there are too many.

        Parameters
        ----------
        peer : str
            Whoever that is.
        last : float or None
            Begin with what has come in so many seconds; None: with what comes from now on.

        Raises
        ------
        ReaderEndedError
            If the feed has failed, or is being closed.
        """
        with self._lock:
            if self._end is not None and self._is_closing():
                raise ReaderEndedError(self._end.code, str(self._end))
            self._forget()
            if len(self._readers) + len(self._lost) >= self._policy.readers:
                return None
            self._seal()  # what came before is not for a reader of what comes from now on
            now = time.monotonic()
            first, truncated = self._pieces.first_since(last, now)
            reader = Reader(peer, first, self._pieces.row_of(first), now, truncated)
            reader.slack_batches, reader.slack_bytes = self._behind(reader)
            self._readers.add(reader)
            self._near_bytes = self._near_batches = 0
            self.counts.joined += 1
            self._taken.notify_all()
            return reader

    def follow(self, reader: Reader, step: float) -> Iterator[tuple[Piece, int, int] | None]:
        """
        Give the reader's batches one after the other, until it has all of the feed.

        Yields
        ------
        tuple or None
            The batch, and how many batches and rows before it were skipped; None each time that
            none came in `step` seconds.

        Raises
        ------
        ReaderEndedError
            If the reader was dropped, or the feed failed or was closed.
        """
        # A batch that is there is given without the lock: it will not go before this reader has it.
        # And without calling a function: a thread of gRPC's has no place for frames, and would map
        # one for the first call of each pull, and unmap it after.
        pieces, sent = self._pieces.by_number, reader.sent
        while True:
            piece = pieces.get(reader.next)
            batches = rows = 0
            if piece is None or reader.skip_to > reader.next or reader.dropped is not None:
                try:
                    piece = self._wait(reader, step)
                except StopIteration:
                    return
                if piece is None:
                    yield None
                    continue
                batches = piece.number - reader.next
                if batches:
                    rows = piece.row - reader.row
                    sent.skipped_batches += batches
                    sent.skipped_rows += rows
            reader.next = piece.number + 1
            reader.row = piece.row + piece.rows
            sent.sent_batches += 1
            sent.sent_rows += piece.rows
            sent.sent_bytes += piece.size
            if reader.next >= reader.awaited_at:
                self._tell_writer(reader)
            yield piece, batches, rows
            del piece  # while the next one is waited for

    def _wait(self, reader: Reader, timeout: float) -> Piece | None:
        deadline = time.monotonic() + timeout
        with self._lock:
            while not self._ready(reader):
                if self._seal():
                    continue
                self._hungry += 1
                if not self._arrived.wait(deadline - time.monotonic()) and not self._ready(reader):
                    return None
            if reader.dropped is not None:
                raise ReaderEndedError(reader.dropped.code, str(reader.dropped))
            if reader.place < self.counts.batches and not self._is_closing():
                return self._pieces.by_number[reader.place]
            if self._end is not None:
                raise ReaderEndedError(self._end.code, str(self._end))
            raise StopIteration

    def _ready(self, reader: Reader) -> bool:
        there = reader.place < self.counts.batches
        return there or self._finished or reader.dropped is not None

    def _is_closing(self) -> bool:
        return self._end is not None and self._end.code == "closing"

    def _tell_writer(self, reader: Reader) -> None:
        """Wake the writer, which waits for this reader to be here: once, not after each batch."""
        with self._lock:
            reader.awaited_at = NOWHERE
            self._taken.notify_all()

    def leave(self, reader: Reader) -> None:
        """
        Forget a reader. Idempotent.

        Never waits: it may be called by a destructor, also in a thread that has the lock.
        """
        self._leaving.append(reader)
        if self._lock.acquire(blocking=False):
            try:
                self._forget()
            finally:
                self._lock.release()

    def _forget(self) -> None:
        """Do what `leave` was asked for."""
        while self._leaving:
            reader = self._leaving.popleft()
            if reader in self._readers or reader in self._lost:
                self._left.add(reader.sent)
            self._readers.discard(reader)
            self._lost.discard(reader)
            self._taken.notify_all()

    # --- looking -----------------------------------------------------------------------------

    def wait_for_readers(self, count: int, timeout: float) -> bool:
        """Wait until so many have joined so far, or the end; False if not in `timeout` seconds."""
        with self._lock:
            return self._taken.wait_for(
                lambda: self.counts.joined >= count or self._end is not None, timeout
            )

    def wait_until_left(self, timeout: float | None) -> bool:
        """Wait until the feed has ended and every reader is gone; False if not in time."""
        with self._lock:
            return self._taken.wait_for(
                lambda: self._finished and not self._readers and not self._lost, timeout
            )

    @property
    def finished(self) -> bool:
        """Whether the feed has ended, one way or another."""
        return self._finished

    def kept(self) -> tuple[int, int]:
        """Give the batches and bytes that are held."""
        with self._lock:
            return self._pieces.kept()

    def sent(self) -> Sent:
        """Give what became of batches for all readers so far."""
        total = Sent()
        with self._lock:
            for each in [self._left, *(reader.sent for reader in self._readers | self._lost)]:
                total.add(each)
        return total

    def readers(self) -> list[tuple[Reader, int, int]]:
        """Give the readers, and by how many batches and bytes each is behind."""
        with self._lock:
            if self._is_closing():
                return []
            return [(reader, *self._behind(reader)) for reader in self._readers]
