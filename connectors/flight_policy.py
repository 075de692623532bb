# SPDX-License-Identifier: Apache-2.0
"""The bounds of a fan-out, and what it knows of batches and readers."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from zcrx_arrow.config import Duration, Size, one_of, parse_duration, parse_size, whole
from zcrx_arrow.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NOWHERE", "Counts", "Piece", "Policy", "Reader", "ReaderEndedError", "Sent", "Slow"]

Slow = Literal["drop", "skip", "wait"]
NOWHERE: Final = sys.maxsize
SLOW: Final[tuple[Slow, ...]] = ("drop", "skip", "wait")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    Bounds of a fan-out.

    Parameters
    ----------
    keep, keep_bytes
        How long batches are kept for readers that ask for the past, and how many bytes of them
        at most. A `keep` of 0 keeps nothing.
    queue, queue_batches
        By how much a reader may be behind, in bytes and in batches; one batch it always may.
    slow : {"drop", "skip", "wait"}
        What becomes of a reader that is further behind: it is dropped with an error; or it is
        moved forward, and told what it missed; or the feed waits for it, at most `patience` and
        then drops it.
    patience : float or str
        See `slow`.
    readers : int
        At a time.
    merge : int or str
        Batches that come while no reader waits are put together, copied, up to so many bytes;
        those above half of it stay as they are.
    """

    keep: Duration = "10 s"
    keep_bytes: Size = "64 MiB"
    queue: Size = "64 MiB"
    queue_batches: int = 1024
    slow: Slow = "drop"
    patience: Duration = "10 s"
    readers: int = 64
    merge: Size = 0

    def __post_init__(self) -> None:
        """Check the values."""
        parse_duration(self.keep, "keep")
        parse_size(self.keep_bytes, "keep_bytes")
        if not parse_size(self.queue, "queue"):
            raise ConfigError(f"queue={self.queue!r} must be a size above 0")
        whole(self.queue_batches, "queue_batches", 1, 2**20)
        one_of(self.slow, "slow", SLOW)
        parse_duration(self.patience, "patience")
        parse_size(self.merge, "merge")
        whole(self.readers, "clients", 1, 4096)


@dataclass(frozen=True, slots=True)
class Piece:
    """A batch in its place in the feed."""

    number: int
    row: int
    """Number of its first row in the feed."""
    rows: int
    start: int
    """Bytes of the feed before it."""
    size: int
    at: float
    """When it came, in seconds of `time.monotonic`."""
    batch: pa.RecordBatch


@dataclass(slots=True)
class Counts:
    """Counters of a fan-out; read them under no lock, each by itself."""

    batches: int = 0
    rows: int = 0
    bytes: int = 0
    joined: int = 0
    dropped: int = 0
    waits: int = 0
    waited_s: float = 0.0


@dataclass(slots=True)
class Sent:
    """What became of batches for one reader, or for several."""

    sent_batches: int = 0
    sent_rows: int = 0
    sent_bytes: int = 0
    skipped_batches: int = 0
    skipped_rows: int = 0

    def add(self, other: Sent) -> None:
        """Add another's counts."""
        self.sent_batches += other.sent_batches
        self.sent_rows += other.sent_rows
        self.sent_bytes += other.sent_bytes
        self.skipped_batches += other.skipped_batches
        self.skipped_rows += other.skipped_rows


class ReaderEndedError(Exception):
    """
    There is nothing more to read, and not because the feed has ended well.

    Attributes
    ----------
    code : {"slow", "closing", "failed"}
    """

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(slots=True, eq=False)
class Reader:
    """
    A reader's place; made by `Fanout.join`.

    Only one thread may `Fanout.follow` it; `next`, `row` and `sent` are that thread's to write.
    """

    peer: str
    next: int
    """The number of the batch that it gets next."""
    row: int
    """The number of the row that it gets next, if nothing is skipped."""
    joined_at: float
    truncated: bool
    """Whether it asked for more of the past than the bound on bytes has left."""
    skip_to: int = 0
    """Where it has to go on, if that is further than `next`."""
    slack_bytes: int = 0
    """What it was behind when it joined, as far as it has not caught up since."""
    slack_batches: int = 0
    awaited_at: int = NOWHERE
    """Where it has to come to for the feed to go on, if that waits for it."""
    sent: Sent = field(default_factory=Sent)
    dropped: ReaderEndedError | None = None
    dropped_at: float = 0.0

    @property
    def place(self) -> int:
        """The oldest batch that it may still ask for."""
        return max(self.next, self.skip_to)
