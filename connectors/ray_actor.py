# SPDX-License-Identifier: Apache-2.0
"""
The actor that receives a feed on a node, and puts its batches into the object store.

Each call of `ReceiverActor.take` gives one block and the `Note` that says what it holds. What a
call returns becomes objects of the node's store that the *caller* owns, so they outlive the actor.
(Not so with a streaming generator: when its task fails, Ray 2.60 overwrites all that it had yielded
with the error.) The caller has some calls under way; while it has none, nothing is pulled.

Source: Ray documentation, "Object Ownership", "Limiting Concurrency Per-Method with Concurrency
Groups".
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ray

from zcrx_arrow.connectors.ray_block import Block, Range, Ranges, read_as
from zcrx_arrow.decoded import DecodedSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from zcrx_arrow.connectors.ray_receiver import Receiver
    from zcrx_arrow.source import Source

__all__ = ["GROUP", "Counts", "Note", "Opened", "ReceiverActor", "Resumed"]

GROUP: Final = "feed"
"""Concurrency group of `take`: of one thread, so that calls come in order."""

_STEP_S: Final = 0.1  # how often a receiver that has nothing looks whether it shall stop
_COMPACTED: Final = (None, "large_binary", "large_string")
_SMALL: Final = 64 << 10
_PAUSE_S: Final = 0.005


class Opened(NamedTuple):
    """What an actor tells when it is ready to receive."""

    address: tuple[str, int]
    node: str
    pid: int
    transport: str
    schema: pa.Schema | None
    """As readers see it; None: it takes the first rows to know."""


class Resumed(NamedTuple):
    """A connection that replaces another of the same source."""

    connection: int
    resumes: int
    seconds: float


class Note(NamedTuple):
    """What a block holds."""

    number: int
    """Of the block: from 0, for each actor."""
    rows: int
    """0: the feed has ended; there is no block."""
    bytes: int
    ranges: tuple[Range, ...]
    resumed: tuple[Resumed, ...]
    sealed_at: float
    """Seconds since the epoch."""


@dataclass(slots=True)
class Counts:
    """What an actor has done, and at what cost; seconds are of its thread that runs the feed."""

    blocks: int = 0
    rows: int = 0
    bytes: int = 0
    joined_bytes: int = 0
    """Copied once more, because a block would have had too many small pieces."""
    discarded_rows: int = 0
    """Pulled, and in no block when the stream was closed."""
    pull_seconds: float = 0.0
    """Waiting for batches included."""
    pull_cpu_seconds: float = 0.0
    """Pulling and decoding."""
    between_seconds: float = 0.0
    """From handing over a block until the next one is asked for: putting it into the store, and
    waiting, if the reader has too much before it."""
    put_cpu_seconds: float = 0.0
    """Of it, at work."""
    cpu_seconds: float = 0.0
    """Of the whole process, when asked."""
    receiver_cpu_seconds: float = 0.0
    """Of the core's receiver thread, when asked."""


class _Gathered:
    """Batches that wait to become a block."""

    def __init__(self, target: int, patience: float) -> None:
        self._target, self._patience = target, patience
        self.ranges = Ranges()
        self.empty()

    def empty(self) -> None:
        """Begin anew."""
        self.batches: list[pa.RecordBatch] = []
        self.rows = self.bytes = 0
        self._since = 0.0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch, and a share of its memory."""
        if not self.batches:
            self._since = time.monotonic()
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.nbytes

    def left(self) -> float:
        """Seconds that the next batch may take."""
        if not self.batches:
            return _STEP_S
        return min(_STEP_S, max(0.0, self._since + self._patience - time.monotonic()))

    def due(self) -> bool:
        """Whether it is a block."""
        if not self.rows:
            return False
        return self.bytes >= self._target or time.monotonic() >= self._since + self._patience


class _Puller:
    """Pulls from a source, and writes down what the rows were made of."""

    def __init__(self, source: Source, ranges: Ranges) -> None:
        self._source, self._ranges = source, ranges
        self._decoded = source if isinstance(source, DecodedSource) else None
        if self._decoded is not None:
            self._decoded.watch(ranges.add_raw)  # decoded rows may not say where they are from

    def pull(self, timeout: float) -> list[pa.RecordBatch] | None:
        """Give what comes in time; None: the feed has ended."""
        try:
            batch = self._source.next_batch(timeout)
        except TimeoutError:
            return []
        if batch is None:
            return None
        if self._decoded is not None:
            # All that was decoded with it, so that ranges stay with rows.
            return [batch, *self._decoded.take_decoded()]
        self._ranges.add_batch(batch)
        return [batch]


class ReceiverActor:
    """
    Receives a feed.

    Parameters
    ----------
    receiver : Receiver
        The feed.
    target : int
        Bytes at which gathered batches become a block.
    patience : float
        Seconds after which they do anyway.
    """

    def __init__(self, receiver: Receiver, target: int, patience: float) -> None:
        self._receiver = receiver
        # What a decoder makes is of the types that its schema says.
        self._compact = receiver.decode is None and receiver.payload_type in _COMPACTED
        self._gathered = _Gathered(target, patience)
        self._pause = min(_PAUSE_S, patience / 10)
        self._source: Source | None = None
        self._feed: Iterator[Block] = iter(())
        self._stopping = False
        # of the thread that runs
        self.counts = Counts()
        self._left: tuple[float, float] | None = None
        self._failure: BaseException | None = None
        self._newest = 0

    # --- for the stream ----------------------------------------------------------------------

    def open(self) -> Opened:
        """Open the source."""
        source = self._source = self._receiver.open()
        self._feed = self._blocks(source)
        schema = source.known_schema if isinstance(source, DecodedSource) else source.schema
        return Opened(
            source.address,
            ray.get_runtime_context().get_node_id(),
            os.getpid(),
            source.transport,
            None if schema is None else read_as(schema, compact=self._compact),
        )

    def take(self) -> tuple[Block | None, Note]:
        """
        Give the next block, and what it holds; None, and a note without rows, at the end.

        Nothing here keeps the block: when Ray has copied it, its receive memory is free.

        Raises
        ------
        Exception
            What the source, its framing or its decoder raises, behind the rows before it.
        """
        self._entered()
        if self._failure is not None:  # calls may be executed in another order than they are read
            raise self._failure
        try:
            block = next(self._feed, None)
        except BaseException as error:
            self._failure = error
            raise
        gathered, counts = self._gathered, self.counts
        if block is None:
            return None, self._note(rows=0, bytes_=0)
        note = self._note(gathered.rows, gathered.bytes)
        gathered.empty()
        counts.blocks += 1
        counts.rows += note.rows
        counts.bytes += note.bytes
        counts.joined_bytes += block.joined_bytes
        self._left = time.perf_counter(), time.thread_time()
        return block, note

    def _entered(self) -> None:
        if self._left is not None:
            self.counts.between_seconds += time.perf_counter() - self._left[0]
            self.counts.put_cpu_seconds += time.thread_time() - self._left[1]

    def stop(self) -> None:
        """Close the source; whoever waits in `take` gets the end."""
        self._stopping = True
        if self._source is not None:
            self._source.close()

    def beat(self) -> None:
        """Answer."""

    def report(self) -> tuple[Counts, Any]:
        """Give counts, and the source's metrics."""
        made = Counts(**{each.name: getattr(self.counts, each.name) for each in fields(Counts)})
        made.cpu_seconds = time.process_time()
        made.receiver_cpu_seconds = _thread_seconds("zcrx-receiver")
        return made, self._opened().metrics()

    def connections(self) -> pa.Table:
        """Give the source's connections."""
        return self._opened().connections()

    def rejected(self) -> pa.Table | None:
        """Take the rows that could not be decoded; None: the feed is not decoded."""
        source = self._opened()
        return source.rejected.take() if isinstance(source, DecodedSource) else None

    def _opened(self) -> Source:
        assert self._source is not None  # noqa: S101 - the stream calls open() first
        return self._source

    # --- the feed ----------------------------------------------------------------------------

    def _blocks(self, source: Source) -> Iterator[Block]:
        with source:
            yield from self._pulled(_Puller(source, self._gathered.ranges))

    def _pulled(self, puller: _Puller) -> Iterator[Block]:
        gathered = self._gathered
        failed: Exception | None = None
        while not self._stopping:
            try:
                pulled = self._gather(puller)
            except Exception as error:  # noqa: BLE001 - raised behind the rows before it
                failed = error
                break
            if pulled is None:
                break
            if gathered.due():
                yield self._block()
            elif 0 < pulled < _SMALL:
                time.sleep(min(self._pause, gathered.left()))  # the core gathers meanwhile
        if self._stopping:
            self.counts.discarded_rows += gathered.rows
        elif gathered.rows:
            yield self._block()
        if failed is not None and not self._stopping:
            raise failed

    def _gather(self, puller: _Puller) -> int | None:
        """Pull once; gives how many bytes came. No name may keep a batch until the next pull."""
        began, cpu = time.perf_counter(), time.thread_time()
        before = self._gathered.bytes
        try:
            batches = puller.pull(self._gathered.left())
        finally:
            self.counts.pull_seconds += time.perf_counter() - began
            self.counts.pull_cpu_seconds += time.thread_time() - cpu
        if batches is None:
            return None
        for batch in batches:
            self._gathered.add(batch)
        return self._gathered.bytes - before

    def _block(self) -> Block:
        return Block(self._gathered.batches, compact=self._compact)

    def _note(self, rows: int, bytes_: int) -> Note:
        ranges = self._gathered.ranges.take()
        return Note(self.counts.blocks, rows, bytes_, ranges, self._resumed(ranges), time.time())

    def _resumed(self, ranges: tuple[Range, ...]) -> tuple[Resumed, ...]:
        """Look up what new connections replace; only a source that dials again has any."""
        newest = max((each.connection for each in ranges), default=0)
        if self._receiver.reconnect is None or newest <= self._newest:
            return ()
        rows = self._opened().connections().select(["id", "resumes", "gap"])
        found = tuple(
            Resumed(row["id"], row["resumes"], row["gap"].value / 1e9)
            for row in _python_rows(rows)
            if self._newest < row["id"] <= newest and row["resumes"] is not None
        )
        self._newest = newest
        return found


def _python_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Give rows with Arrow scalars, whose nanoseconds need no pandas."""
    columns = {name: table.column(name) for name in table.column_names}
    return [
        {
            name: column[at] if name == "gap" else column[at].as_py()
            for name, column in columns.items()
        }
        for at in range(table.num_rows)
    ]


def _thread_seconds(name: str) -> float:
    """CPU time of the threads that have a name: proc(5), /proc/pid/task/tid/stat."""
    ticks = 0
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - names are enough
        with contextlib.suppress(OSError):
            with open(f"/proc/self/task/{thread}/stat", encoding="ascii") as file:  # noqa: PTH123
                head, _, rest = file.read().rpartition(")")
            if head.partition("(")[2] == name:
                ticks += sum(map(int, rest.split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")
