# SPDX-License-Identifier: Apache-2.0
"""
The batches of a feed in their order, numbered, as long as somebody needs them.

Small batches that come close together become one: a message costs more than its bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from zcrx_arrow.config import parse_duration, parse_size
from zcrx_arrow.connectors.flight_policy import Piece
from zcrx_arrow.connectors.flight_wire import wire_bytes

if TYPE_CHECKING:
    from zcrx_arrow.connectors.flight_policy import Counts, Policy

__all__ = ["Pieces"]

_MERGE_S: Final = 0.05  # batches that lie further apart stay apart, so that times stay true


class Pieces:
    """
    Pieces from the oldest that is kept to the latest.

    Thread safety: whoever calls a method has the lock of the fan-out. Readers look into `by_number`
    without it.

    Parameters
    ----------
    policy : Policy
        Says what is kept for readers that ask for the past, and what is put together.
    counts : Counts
        Those of the feed are kept here.
    """

    def __init__(self, policy: Policy, counts: Counts) -> None:
        self._keep_s = parse_duration(policy.keep)
        self._keep_bytes = parse_size(policy.keep_bytes)
        self._merge = parse_size(policy.merge)
        self._counts = counts
        self.by_number: dict[int, Piece] = {}
        self._pending: list[pa.RecordBatch] = []  # that will be one piece
        self.pending_bytes = 0
        self._pending_at = 0.0
        self._oldest = 0
        self._trimmed_at = float("-inf")  # when the youngest came that the bound on bytes has cost

    # --- coming ------------------------------------------------------------------------------

    def append(self, batch: pa.RecordBatch, size: int, now: float, *, wanted: bool) -> bool:
        """Append a batch, wanted at once or when there is more; True if there are new pieces."""
        before = self._counts.batches
        together = self.pending_bytes + size
        if self._pending and (together > self._merge or now - self._pending_at > _MERGE_S):
            self.seal()
            wanted = False  # what was waited for is there
        if not self._pending:
            self._pending_at = now
        self._pending.append(batch)
        self.pending_bytes += size
        if wanted or (size > self._merge // 2 and len(self._pending) == 1):
            self.seal()
        return self._counts.batches > before

    def seal(self) -> bool:
        """Make pieces of what is pending; False if nothing is."""
        pending, self._pending = self._pending, []
        if not pending:
            return False
        if len(pending) > 1:
            try:
                pending = [pa.concat_batches(pending)]
            except pa.ArrowException:  # a type that cannot be put together
                self._merge = 0
        for batch in pending:
            self._add(batch, self.pending_bytes if len(pending) == 1 else wire_bytes(batch))
        self.pending_bytes = 0
        return True

    def _add(self, batch: pa.RecordBatch, size: int) -> None:
        counts = self._counts
        piece = Piece(
            number=counts.batches,
            row=counts.rows,
            rows=batch.num_rows,
            start=counts.bytes,
            size=size,
            at=self._pending_at,
            batch=batch,
        )
        counts.rows += piece.rows
        counts.bytes += size
        counts.batches += 1
        self.by_number[piece.number] = piece  # from here on readers may take it

    # --- going -------------------------------------------------------------------------------

    def let_go(self, needed: int, now: float) -> None:
        """Let go of what is before this number, and too old or too much."""
        while self._oldest < needed:
            piece = self.by_number[self._oldest]
            young = self._keep_s > 0 and now - piece.at <= self._keep_s
            if young and self._counts.bytes - piece.start <= self._keep_bytes:
                return
            if young:
                self._trimmed_at = piece.at
            del self.by_number[self._oldest]
            self._oldest += 1

    def clear(self) -> None:
        """Let go of all."""
        self.by_number.clear()
        self._pending.clear()
        self.pending_bytes = 0
        self._oldest = self._counts.batches

    # --- looking -----------------------------------------------------------------------------

    def start_of(self, number: int) -> int:
        """Give the bytes of the feed before a piece; that of all for the one that comes next."""
        at_end = number == self._counts.batches
        return self._counts.bytes if at_end else self.by_number[number].start

    def row_of(self, number: int) -> int:
        """Give the number of a piece's first row; also of the one that comes next."""
        return self._counts.rows if number == self._counts.batches else self.by_number[number].row

    def first_since(self, seconds: float | None, now: float) -> tuple[int, bool]:
        """
        Find the oldest piece of so many seconds; without them, the one that comes next.

        And whether the bound on bytes has left less than was asked for.
        """
        at = self._counts.batches
        if seconds is None:
            return at, False
        while at > self._oldest and self.by_number[at - 1].at >= now - seconds:
            if self._counts.bytes - self.by_number[at - 1].start > self._keep_bytes:
                return at, True
            at -= 1
        return at, self._trimmed_at >= now - seconds

    def kept(self) -> tuple[int, int]:
        """Give the pieces and bytes that are here."""
        return len(self.by_number), self._counts.bytes - self.start_of(self._oldest)
