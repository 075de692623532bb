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

import threading
import time
from collections import deque
from typing import Final

import pyarrow as pa

from zcrx_arrow.config import parse_duration, parse_size
from zcrx_arrow.connectors.flight_policy import (
    Counts,
    Piece,
    Policy,
    Reader,
    ReaderEndedError,
    Sent,
)
from zcrx_arrow.connectors.flight_wire import wire_bytes

__all__ = ["Fanout"]

_MERGE_S: Final = 0.05  # batches that lie further apart stay apart, so that times stay true


class Fanout:
    """
    One writer, many readers.

    Thread safety: `publish` and `finish` belong to one thread; everything else may be called from
    any. What is written without the lock are only a reader's own place and counts, by its thread.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._keep_s = parse_duration(policy.keep)
        self._keep_bytes = parse_size(policy.keep_bytes)
        self._queue = parse_size(policy.queue)
        self._patience = parse_duration(policy.patience)
        self._merge = parse_size(policy.merge)
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._taken = threading.Condition(self._lock)
        self._pieces: dict[int, Piece] = {}
        self._pending: list[pa.RecordBatch] = []  # that will be one piece
        self._pending_size = 0
        self._pending_at = 0.0
        self._hungry = 0  # readers that wait, since the last piece at least
        self._base = 0  # the oldest batch that is still here
        self._trimmed_at = float("-inf")  # when the youngest came that the bound on bytes has cost
        self._readers: set[Reader] = set()
        self._lost: set[Reader] = set()  # dropped, and not yet gone
        self._leaving: deque[Reader] = deque()  # gone, and not yet forgotten
        self._awaited: tuple[Reader, int] | None = None  # whom the feed waits for, with how much
        self._left = Sent()  # by readers that are gone
        self._finished = False
        self._end: ReaderEndedError | None = None
        self.counts = Counts()

    # --- writing -----------------------------------------------------------------------------

    def publish(self, batch: pa.RecordBatch, size: int) -> None:
        """
        Append a batch of so many bytes.

        With ``slow="wait"`` this may wait up to the patience of the policy.
        """
        with self._lock:
            for reader in list(self._readers):
                # While one is waited for, others may leave, and all of it may end.
                if self._end is None and reader in self._readers:
                    self._make_room(reader, self._pending_size + size)
            if self._end is None:
                self._append(batch, size)

    def _append(self, batch: pa.RecordBatch, size: int) -> None:
        now = time.monotonic()
        together = self._pending_size + size
        if self._pending and (together > self._merge or now - self._pending_at > _MERGE_S):
            self._seal()
        if not self._pending:
            self._pending_at = now
        self._pending.append(batch)
        self._pending_size += size
        # Whoever waits gets it at once; whoever is busy takes it by itself, see _wait().
        if self._hungry or (size > self._merge // 2 and len(self._pending) == 1):
            self._seal()
        self._expire(now)

    def _seal(self) -> None:
        """Make pieces of what is pending, and let readers have them."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        if len(pending) > 1:
            try:
                pending = [pa.concat_batches(pending)]
            except pa.ArrowException:  # a type that cannot be put together
                self._merge = 0
        for batch in pending:
            self._add(batch, self._pending_size if len(pending) == 1 else wire_bytes(batch))
        self._pending_size = 0
        self._hungry = 0
        self._arrived.notify_all()

    def _add(self, batch: pa.RecordBatch, size: int) -> None:
        counts = self.counts
        piece = Piece(counts.batches, counts.rows, counts.bytes, size, self._pending_at, batch)
        counts.rows += batch.num_rows
        counts.bytes += size
        counts.batches += 1
        self._pieces[piece.number] = piece  # from here on readers may take it

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
            self._pending.clear()
            self._base = self.counts.batches
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
        batches = self.counts.batches - place
        start = self._pieces[place].start if batches else self.counts.bytes
        return batches, self.counts.bytes - start

    def _is_slow(self, reader: Reader, size: int, share: int = 1) -> bool:
        """Say whether one more batch is too much; for the whole bound, or for a share of it."""
        batches, behind = self._behind(reader)
        if not batches:
            return False
        return (
            behind + size > (self._queue + reader.slack_bytes) // share
            or batches >= (self._policy.queue_batches + reader.slack_batches) / share
        )

    def _skip(self, reader: Reader, size: int) -> None:
        """Have it go on where half of the bound is free, so that gaps are few."""
        left = (self._queue - size) // 2
        at = reader.place
        while at < self.counts.batches and (
            self.counts.bytes - self._pieces[at].start > left
            or self.counts.batches - at > self._policy.queue_batches // 2
        ):
            at += 1
        reader.skip_to = at
        reader.slack_bytes = reader.slack_batches = 0

    def _wait_for(self, reader: Reader, size: int) -> bool:
        """Wait until half of what the reader may be behind is free; False if it is not in time."""
        begin = time.monotonic()
        self._awaited = reader, size
        try:
            self._taken.wait_for(lambda: self._need_not_wait(reader, size, 2), self._patience)
        finally:
            self._awaited = None
        self.counts.waits += 1
        self.counts.waited_s += time.monotonic() - begin
        return self._need_not_wait(reader, size, 1)

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
        while self._base < needed:
            piece = self._pieces[self._base]
            young = self._keep_s > 0 and now - piece.at <= self._keep_s
            if young and self.counts.bytes - piece.start <= self._keep_bytes:
                return
            if young:
                self._trimmed_at = piece.at
            del self._pieces[self._base]
            self._base += 1

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
            first, truncated = self._first(last, now)
            row = self._pieces[first].row if first < self.counts.batches else self.counts.rows
            reader = Reader(peer, first, row, now, truncated)
            reader.slack_batches, reader.slack_bytes = self._behind(reader)
            self._readers.add(reader)
            self.counts.joined += 1
            self._taken.notify_all()
            return reader

    def _first(self, last: float | None, now: float) -> tuple[int, bool]:
        """Find the oldest batch of so many seconds; and whether the bound on bytes cut it short."""
        at = self.counts.batches
        if last is None:
            return at, False
        while at > self._base and self._pieces[at - 1].at >= now - last:
            if self.counts.bytes - self._pieces[at - 1].start > self._keep_bytes:
                return at, True
            at -= 1
        return at, self._trimmed_at >= now - last

    def next(self, reader: Reader, timeout: float) -> tuple[Piece, int, int] | None:
        """
        Wait for the reader's next batch.

        Returns
        -------
        tuple or None
            The batch, and how many batches and rows before it were skipped; None if none came in
            `timeout` seconds.

        Raises
        ------
        StopIteration
            If the feed has ended, and the reader has all of it.
        ReaderEndedError
            If the reader was dropped, or the feed failed or was closed.
        """
        # Without the lock, since a batch that is there will not go before this reader has it.
        piece = self._pieces.get(reader.next)
        batches = rows = 0
        if piece is None or reader.skip_to > reader.next or reader.dropped is not None:
            before = reader.next
            piece = self._wait(reader, timeout)
            if piece is None:
                return None
            batches = piece.number - before
            if batches:
                rows = piece.row - reader.row
                reader.sent.skipped_batches += batches
                reader.sent.skipped_rows += rows
        reader.next = piece.number + 1
        reader.row = piece.row + piece.batch.num_rows
        reader.sent.sent_batches += 1
        reader.sent.sent_rows += piece.batch.num_rows
        reader.sent.sent_bytes += piece.size
        if self._awaited is not None:
            self._tell_writer(reader)
        return piece, batches, rows

    def _wait(self, reader: Reader, timeout: float) -> Piece | None:
        deadline = time.monotonic() + timeout
        with self._lock:
            while not self._ready(reader):
                if self._pending:
                    self._seal()
                    continue
                self._hungry += 1
                if not self._arrived.wait(deadline - time.monotonic()) and not self._ready(reader):
                    return None
            if reader.dropped is not None:
                raise ReaderEndedError(reader.dropped.code, str(reader.dropped))
            if reader.place < self.counts.batches and not self._is_closing():
                return self._pieces[reader.place]
            if self._end is not None:
                raise ReaderEndedError(self._end.code, str(self._end))
            raise StopIteration

    def _ready(self, reader: Reader) -> bool:
        there = reader.place < self.counts.batches
        return there or self._finished or reader.dropped is not None

    def _is_closing(self) -> bool:
        return self._end is not None and self._end.code == "closing"

    def _tell_writer(self, reader: Reader) -> None:
        """Wake the writer if it waits for this reader: once, and not after each batch."""
        with self._lock:
            if self._awaited is None or self._awaited[0] is not reader or self._is_closing():
                return
            if not self._is_slow(*self._awaited, share=2):
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
            if self._base == self.counts.batches:
                return 0, 0
            return len(self._pieces), self.counts.bytes - self._pieces[self._base].start

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
