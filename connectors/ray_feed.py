# SPDX-License-Identifier: Apache-2.0
"""One receiver as the driver sees it: starts its actor, takes its blocks, starts it again."""

from __future__ import annotations

import errno
import logging
import time
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.exceptions import RayError, RayTaskError

from zcrx_arrow.address import parse_address
from zcrx_arrow.config import parse_duration
from zcrx_arrow.connectors.ray_actor import GROUP, Note, Opened, ReceiverActor, Resumed
from zcrx_arrow.connectors.ray_pulse import ENDS_S, Pulse
from zcrx_arrow.errors import ZcrxError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from zcrx_arrow.connectors.ray_block import Range
    from zcrx_arrow.connectors.ray_receiver import Receiver, Restart

__all__ = ["Death", "Feed", "FeedDiedError", "Gap", "Lost", "LostError", "MicroBatch", "Settings"]

log = logging.getLogger("zcrx_arrow")

_REMEMBERED: Final = 4096
_WORDS: Final = 600
_KILL_AFTER_S: Final = 5.0
_ANSWERS: Final = 2  # calls beside those for blocks that an actor answers at a time
_SHALLOW: Final = 2  # blocks under way at least: one is received while another is consumed
_DEEP: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A receiver that has failed."""

    receiver: str
    node: str
    """Id of the node that it was on; ``""`` if it never began."""
    generation: int
    reason: str
    last: dict[int, int]
    """Connections that blocks came of, the latest 4096: position behind the last byte that was
    delivered. What came behind it is lost."""
    last_generation: int
    """Whose connections these are: not this one, if it delivered nothing."""

    def __str__(self) -> str:
        """Say it in a line."""
        where = f" on node {self.node}" if self.node else ""
        return f"receiver {self.receiver!r}{where} has failed: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """
    A place in a feed where bytes may be missing.

    Either a receiver was started again, or one whose source dials did so.
    """

    receiver: str
    generation: int
    """Of what comes behind it: 0, and one more for each restart."""
    connection: int | None
    """The first one behind it; None after a restart: whoever comes first."""
    seconds: float
    reason: str
    last: dict[int, int]
    """Connections before it: position behind the last byte that was delivered."""
    last_generation: int
    """Whose connections these are: not that before it, if that one delivered nothing."""

    def __str__(self) -> str:
        """Say it in a line."""
        return f"receiver {self.receiver!r}: gap of {self.seconds:.3f} s, {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A block that was taken, and went with its node before it was read."""

    receiver: str
    node: str
    generation: int
    rows: int
    ranges: tuple[Range, ...]


class FeedDiedError(ZcrxError):
    """
    A receiver has failed, and is not started again.

    Attributes
    ----------
    death : Death
        Which, where, why, and what was the last that it delivered.
    """

    def __init__(self, death: Death, why: str) -> None:
        super().__init__(errno.ECONNABORTED, f"{death}; {why}", step="ray", remedy=_AGAIN)
        self.death, self._why = death, why

    def __reduce__(self) -> Any:
        """Say how to copy it."""
        return FeedDiedError, (self.death, self._why)


_AGAIN: Final = "on_death='restart' starts receivers again and tells of gaps."


class LostError(ZcrxError):
    """A block is not in the object store any more: the node that held it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """
    Rows of one receiver in the object store.

    Ownership: the object lives as long as `ref` or a copy of it does, also after its actor.
    """

    ref: Any
    """`ray.ObjectRef` of a `pyarrow.Table`; as an argument of a task it needs no driver."""
    receiver: str
    node: str
    """Id of the node whose store it is in. Blocks below 100 KiB are in the driver's memory."""
    generation: int
    """0, and one more for each restart of the receiver."""
    index: int
    """From 0 in each generation, without holes."""
    rows: int
    bytes: int
    ranges: tuple[Range, ...]
    """Which bytes of which connections."""
    sealed_at: float
    """When it was handed over: seconds since the epoch, by the node's clock."""
    gap: Gap | None
    """What may be missing before its rows, or between those of two of its connections."""

    def table(self) -> pa.Table:
        """
        Get the rows.

        Returns
        -------
        pyarrow.Table
            Over the object store's memory. Chunked as the batches were.

        Raises
        ------
        LostError
            If the node that held them is gone, with what Ray says as its cause.
        """
        try:
            made: pa.Table = ray.get(self.ref)
        except RayError as error:
            # Of a node that is gone Ray may also say what ended the actor.
            ends = ", ".join(f"{one}: {first} to {end}" for one, first, end in self.ranges)
            raise LostError(
                errno.EHOSTDOWN,
                f"{self.rows} rows of receiver {self.receiver!r} (generation {self.generation}, "
                f"positions of connections {ends}) are lost with node {self.node}: "
                f"{_reason(error)}",
                step="ray",
                remedy="Consume blocks as they come, or keep what matters elsewhere.",
            ) from error
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the feeds of a stream have in common."""

    target: int
    patience: float
    backlog: int
    restart: Restart | None
    start_timeout: float
    answer_timeout: float | None
    tell: Callable[[Death | Gap | Lost], None]


@dataclass(slots=True)
class _Behind:
    """What was delivered last, by connection; the latest ones."""

    ends: OrderedDict[int, int] = field(default_factory=OrderedDict)

    def add(self, ranges: tuple[Range, ...]) -> None:
        for each in ranges:
            self.ends[each.connection] = each.end
            self.ends.move_to_end(each.connection)
        while len(self.ends) > _REMEMBERED:
            self.ends.popitem(last=False)


class Feed:
    """
    A receiver and its actor. Not thread-safe: the stream holds a lock.

    It is *opening*, *running*, waiting to be started again, or has *ended*.
    """

    def __init__(self, receiver: Receiver, settings: Settings) -> None:
        self.receiver = receiver
        self._settings = settings
        self.generation = 0
        self.ended = False
        self.opened: Opened | None = None
        self._stopped: Any = None
        self.awaits: Any = None
        """What `ray.wait` shall wait for; None while there is no actor."""
        self.actor: Any = None
        self._pulse: Pulse | None = None
        self._target = min(settings.target, receiver.area_bytes // 4)
        self._depth = min(max(_SHALLOW, settings.backlog // self._target), _DEEP)
        self.deadline = self._due = 0.0
        self._failures: deque[float] = deque()
        self._death: Death | None = None
        self._died_at = 0.0
        self._gap: Gap | None = None
        self._kept: MicroBatch | None = None  # received, and not handed out yet
        self._clear()

    def _clear(self) -> None:
        """Forget what belongs to an actor."""
        self._asked: deque[tuple[Any, Any]] = deque()  # references of a block and its note
        # Ray may execute calls in another order than they were made in: what came before its turn.
        self._early: dict[int, tuple[Any, Any, Note]] = {}
        self._expected = 0
        self._behind = _Behind()

    # --- starting ----------------------------------------------------------------------------

    def start(self) -> None:
        """
        Start the actor and have it open the source; does not wait.

        Raises
        ------
        ZcrxError
            If there is no node for it.
        """
        options = self.receiver.placement()
        settings = self._settings
        make: Any = ray.remote  # its types know fewer options than it takes
        remote = make(concurrency_groups={GROUP: 1})(ReceiverActor)
        self.actor = remote.options(
            **options,
            max_concurrency=_ANSWERS,
            max_restarts=0,
            max_task_retries=0,
        ).remote(self.receiver, self._target, settings.patience)
        self.deadline = time.monotonic() + settings.start_timeout
        self.awaits = self.actor.open.remote()

    def opened_now(self) -> Opened:
        """
        Take what `open` has given, and begin to run.

        Raises
        ------
        ZcrxError
            Why the source could not be opened.
        """
        try:
            self.opened = ray.get(self.awaits)
        except RayError as error:
            raise _why_not(self.receiver.name, error) from None
        assert self.opened is not None  # noqa: S101 - for mypy
        self.receiver = self.receiver.at_port(parse_address(self.opened.address)[1])
        self._clear()
        if self._settings.answer_timeout is not None:
            self._pulse = Pulse(self.actor, self._settings.answer_timeout)
        for _ in range(self._depth):
            self.ask()
        self._aim()
        return self.opened

    @property
    def opening(self) -> bool:
        """Whether the source is still being opened."""
        return self.awaits is not None and not self._running

    @property
    def _running(self) -> bool:
        return bool(self._asked or self._early)

    def look(self, now: float) -> None:
        """Start it again if that is due; give up what takes too long to start, or hangs."""
        if self.ended:
            return
        if self._pulse is not None and self._pulse.hangs(now) and not self._left():
            timeout = self._settings.answer_timeout
            self._died(f"it has not answered for {timeout:g} s", ends=ENDS_S)
            return
        try:
            if self.awaits is None and now >= self._due:
                self.start()
            elif self.opening and now >= self.deadline:
                raise self.late()
        except ZcrxError as error:
            self._died(str(error))

    def _left(self) -> bool:
        """Whether there are blocks to be taken that it has handed over before it began to hang."""
        if self._asked:
            notes = [note for _, note in self._asked]
            ready, _ = ray.wait(notes, num_returns=len(notes), timeout=0, fetch_local=False)
            for each in list(self._asked):
                if each[1] in ready:
                    with suppress(RayError):
                        self._sort_in(each)
        self._aim()
        return self._expected in self._early

    def late(self) -> ZcrxError:
        """Make the error for an actor that does not start."""
        return ZcrxError(
            errno.ETIMEDOUT,
            f"receiver {self.receiver.name!r} did not start within "
            f"{self._settings.start_timeout:g} s",
            step="ray",
            remedy="'ray status' tells what is asked for and not there; see node=, resources=, "
            "num_cpus= and start_timeout=.",
        )

    # --- taking ------------------------------------------------------------------------------

    def advance(self) -> MicroBatch | None:
        """
        Go on with what `awaits` has become ready with.

        Raises
        ------
        FeedDiedError
            If the receiver has failed, and is not to be started again.
        """
        if self._kept is not None:
            kept, self._kept = self._kept, None
            return kept
        try:
            if self.opening:
                self._resumed()
                return None
            return self._take()
        except (RayError, ZcrxError) as error:
            self._died(_reason(error))
            return None

    def _resumed(self) -> None:
        opened = self.opened_now()
        assert self._death is not None  # noqa: S101 - the first opening is waited for elsewhere
        self._gap = Gap(
            receiver=self.receiver.name,
            generation=self.generation,
            connection=None,
            seconds=time.monotonic() - self._died_at,
            reason=f"started again at {opened.address[0]}:{opened.address[1]} "
            f"on node {opened.node}, since: {self._death.reason}",
            last=self._death.last,
            last_generation=self._death.last_generation,
        )
        self._tell(self._gap)

    def _take(self) -> MicroBatch | None:
        if self._expected not in self._early:
            self._receive()
        found = self._early.pop(self._expected, None)
        try:
            return self._micro_batch(found[0], found[2]) if found else None
        finally:
            self._aim()

    def _receive(self) -> None:
        """Take what has come, whichever turn it has."""
        try:
            self._sort_in(self._asked[0])
        except RayError:
            # Calls that were executed before the one that failed have blocks, which come first.
            for each in list(self._asked)[1:]:
                with suppress(RayError):
                    self._sort_in(each)
            if self._expected not in self._early:
                raise

    def _sort_in(self, asked: tuple[Any, Any]) -> None:
        note: Note = ray.get(asked[1])
        self._asked.remove(asked)
        if note.number < self._expected:
            raise ZcrxError(errno.EPROTO, f"block {note.number} came twice", step="ray")
        self._early[note.number] = (*asked, note)

    def _aim(self) -> None:
        """
        Wait for the next block.

        There is one under way: that which was taken before has been asked for again, and those
        under way have the next numbers, in some order.
        """
        early = self._early.get(self._expected)
        if early is not None:
            self.awaits = early[1]
        elif self._asked:
            self.awaits = self._asked[0][1]

    def _micro_batch(self, block: Any, note: Note) -> MicroBatch | None:
        self._behind.add(note.ranges)  # first: they may be of the connection before a gap too
        gaps = [self._redialled(each) for each in note.resumed]
        if note.rows:
            self._kept = self._made(block, note)
        else:
            self.ended = True
        # Behind that: what is told may raise, and the block is handed out then by the next call.
        for gap in gaps:
            self._tell(gap)
        made, self._kept = self._kept, None
        return made

    def _made(self, block: Any, note: Note) -> MicroBatch:
        self._expected += 1
        assert self.opened is not None  # noqa: S101 - it runs
        gap, self._gap = self._gap, None
        return MicroBatch(
            ref=block,
            receiver=self.receiver.name,
            node=self.opened.node,
            generation=self.generation,
            index=note.number,
            rows=note.rows,
            bytes=note.bytes,
            ranges=note.ranges,
            sealed_at=note.sealed_at,
            gap=gap,
        )

    def _redialled(self, new: Resumed) -> Gap:
        end = self._behind.ends.get(new.resumes)
        self._gap = Gap(
            receiver=self.receiver.name,
            generation=self.generation,
            connection=new.connection,
            seconds=new.seconds,
            reason=f"connection {new.connection} replaces {new.resumes}",
            last={} if end is None else {new.resumes: end},
            last_generation=self.generation,
        )
        return self._gap

    def ask(self) -> None:
        """Ask the actor for one more block, unless so many are under way as the backlog allows."""
        under_way = len(self._asked) + len(self._early)
        if self.ended or self.actor is None or under_way >= self._depth:
            return
        take = self.actor.take.options(num_returns=2, concurrency_group=GROUP)
        self._asked.append(tuple(take.remote()))

    # --- ending ------------------------------------------------------------------------------

    def _died(self, reason: str, *, ends: float = 0.0) -> None:
        """Report a failure; see whether it is to be started again, in `ends` seconds at least."""
        now = time.monotonic()
        before = self._death
        if before is None or self._running:
            self._died_at = now
        last, whose = dict(self._behind.ends), self.generation
        if not last and before is not None:
            last, whose = before.last, before.last_generation
        self._death = Death(
            receiver=self.receiver.name,
            node=self.opened.node if self.opened else "",
            generation=self.generation,
            reason=reason,
            last=last,
            last_generation=whose,
        )
        self.kill()
        log.warning("%s", self._death)
        try:
            self._settings.tell(self._death)
        finally:  # whatever a callback raises, it is not started again where it must not be
            self._schedule(now, ends)

    def _schedule(self, now: float, ends: float) -> None:
        assert self._death is not None  # noqa: S101 - see _died
        restart = self._settings.restart
        if restart is None:
            self.ended = True
            raise FeedDiedError(self._death, "it is not to be started again")
        self._failures.append(now)
        while self._failures[0] < now - parse_duration(restart.window):
            self._failures.popleft()
        if len(self._failures) > restart.max_restarts:
            self.ended = True
            raise FeedDiedError(self._death, f"it was started again {restart.max_restarts} times")
        self.generation += 1
        self._due = now + max(ends, restart.delay(len(self._failures)))

    def _tell(self, gap: Gap) -> None:
        log.warning("%s", gap)
        self._settings.tell(gap)

    def stop(self) -> None:
        """Ask the actor to close its source; see `join`."""
        if self._running:
            self._stopped = self.actor.stop.remote()

    def join(self, deadline: float) -> None:
        """Wait until it has, but not long, and end the actor."""
        if self._running:
            patience = max(0.0, min(_KILL_AFTER_S, deadline - time.monotonic()))
            ray.wait([self._stopped], timeout=patience, fetch_local=False)
        self.kill()
        self.ended = True

    def kill(self) -> None:
        """End the actor's process."""
        if self.actor is not None:
            ray.kill(self.actor)
        self.actor = self.awaits = self._pulse = None
        self._clear()


def _reason(error: Exception) -> str:
    """Give an error of Ray in a line."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        text = str(cause) if isinstance(cause, ZcrxError) else f"{type(cause).__name__}: {cause}"
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:_WORDS]


def _why_not(name: str, error: RayError) -> ZcrxError:
    """Make the error of a receiver that did not start; of the kind that its source raised."""
    cause = error.cause if isinstance(error, RayTaskError) else None
    if isinstance(cause, ZcrxError):
        made = cause.again()
        made.strerror = f"receiver {name!r}: {cause.strerror}"
        return made
    return ZcrxError(
        errno.ECONNABORTED, f"receiver {name!r} did not start: {_reason(error)}", step="ray"
    )
