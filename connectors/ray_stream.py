# SPDX-License-Identifier: Apache-2.0
"""Micro-batches of several receivers, as they come."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa
import ray

from zcrx_arrow._closing import Closing
from zcrx_arrow.config import Duration, Size, parse_duration, parse_size
from zcrx_arrow.connectors.ray_feed import Death, Feed, Gap, Lost, LostError, MicroBatch, Settings
from zcrx_arrow.connectors.ray_receiver import Receiver, Restart
from zcrx_arrow.errors import ConfigError, UnsupportedError, ZcrxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from zcrx_arrow.connectors.ray_actor import Counts
    from zcrx_arrow.metrics import Metrics

__all__ = ["Event", "OnDeath", "Stream"]

log = logging.getLogger("zcrx_arrow")

OnDeath = Literal["fail", "restart"] | Restart
Event = Death | Gap | Lost

_STEP_S: Final = 0.1
_EVENTS: Final = 1000
_ASK_S: Final = 10.0
_LEAST_S: Final = 1.0
_SHARE: Final = 0.5  # of the latency that a block may gather; the rest is for its way


class _Told:
    """Who is told of events."""

    def __init__(self, callback: Callable[[Event], None] | None) -> None:
        self._callback = callback
        self.events: deque[Event] = deque(maxlen=_EVENTS)

    def tell(self, event: Event) -> None:
        """Remember an event, and call back."""
        self.events.append(event)
        if self._callback is not None:
            self._callback(event)


class Stream(Closing):
    """
    Micro-batches of receivers, as they come. Made by `stream`.

    Iterate over it, or call `next_batch`. What was given is taken as consumed when the next one is
    asked for; while more than the backlog waits, a receiver pulls nothing, and its peers wait.
    Failures are noticed, and receivers started again, by whoever iterates.

    Ownership
        Close it, or use it in a ``with`` statement: that closes the sources and ends the actors.
        Micro-batches stay readable.
    Thread safety
        Every method may be called from any thread. A micro-batch goes to exactly one.
    """

    def __init__(
        self,
        receivers: Iterable[Receiver],
        *,
        latency: Duration,
        target: Size,
        backlog: Size,
        on_death: OnDeath,
        on_event: Callable[[Event], None] | None,
        start_timeout: Duration,
        answer_timeout: Duration | None,
    ) -> None:
        """Not for users: see `stream`."""
        self._closed = True  # until something is open
        self._owner = os.getpid()
        self._lock = threading.RLock()
        # An object of its own, so that no feed keeps its stream alive.
        self._told = _Told(on_event)
        self.events = self._told.events
        """What has happened to receivers, the latest 1000."""
        settings = Settings(
            target=max(1, parse_size(target, "target")),
            patience=_SHARE * parse_duration(latency, "latency"),
            backlog=max(1, parse_size(backlog, "backlog")),
            restart=_policy(on_death),
            start_timeout=parse_duration(start_timeout, "start_timeout"),
            answer_timeout=_patience(answer_timeout),
            tell=self._told.tell,
        )
        self._restarts = settings.restart is not None
        chosen = _checked(receivers, settings)
        self._feeds = [Feed(each, settings) for each in chosen]
        self._taken_from: Feed | None = None
        self._closed = False
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        for feed in self._feeds:
            feed.start()
        for feed in self._feeds:
            # One after the other: they start at the same time all the same.
            patience = max(0.0, feed.deadline - time.monotonic())
            if not ray.wait([feed.awaits], timeout=patience, fetch_local=False)[0]:
                raise feed.late()
            feed.opened_now()
        for feed in self._feeds:
            opened = feed.opened
            assert opened is not None  # noqa: S101 - for mypy
            log.info(
                "receiver %r: listens at %s:%d on node %s, transport %s",
                feed.receiver.name,
                *opened.address,
                opened.node,
                opened.transport,
            )

    def lost(self, block: MicroBatch, error: LostError) -> None:
        """
        Report a block that is not there any more; for `read`.

        Raises
        ------
        LostError
            With ``on_death="fail"``.
        """
        if not self._restarts:
            raise error
        log.warning("%s", error.strerror)
        self._told.tell(
            Lost(
                receiver=block.receiver,
                node=block.node,
                generation=block.generation,
                rows=block.rows,
                ranges=block.ranges,
            )
        )

    # --- taking ------------------------------------------------------------------------------

    def next_batch(self, timeout: Duration | None = None) -> MicroBatch | None:
        """
        Wait for the next micro-batch.

        Parameters
        ----------
        timeout : float or str, optional
            Seconds, or text with a unit. Without it, as long as it takes.

        Returns
        -------
        MicroBatch or None
            None when every feed has ended, or the stream was closed.

        Raises
        ------
        TimeoutError
            If none came in time.
        FeedDiedError
            If a receiver has failed and is not to be started again. The stream goes on with the
            others if it is asked again.
        """
        limit = None if timeout is None else time.monotonic() + parse_duration(timeout, "timeout")
        while not self._closed:
            with self._lock:
                if self._taken_from is not None:
                    self._taken_from.ask()
                    self._taken_from = None
                if all(feed.ended for feed in self._feeds):
                    return None
                left = _STEP_S if limit is None else limit - time.monotonic()
                batch = self._step(max(0.0, min(left, _STEP_S)))
            if batch is not None:
                return batch
            if limit is not None and time.monotonic() >= limit:
                raise TimeoutError(errno.ETIMEDOUT, "no micro-batch came in time")
        return None

    def _step(self, patience: float) -> MicroBatch | None:
        if self._closed:
            return None
        for feed in self._feeds:
            feed.look(time.monotonic())
        waiting = [feed for feed in self._feeds if feed.awaits is not None and not feed.ended]
        if not waiting:
            time.sleep(min(patience, _STEP_S / 10))
            return None
        ready, _ = ray.wait(
            [feed.awaits for feed in waiting],
            num_returns=1,
            timeout=patience,
            fetch_local=False,  # where the rows are is where they stay
        )
        for feed in waiting:
            if any(feed.awaits is each for each in ready):
                # The others first, next time.
                self._feeds.remove(feed)
                self._feeds.append(feed)
                return self._advance(feed)
        return None

    def _advance(self, feed: Feed) -> MicroBatch | None:
        batch = feed.advance()
        if batch is not None:
            self._taken_from = feed
        return batch

    def __iter__(self) -> Iterator[MicroBatch]:
        """Iterate until every feed has ended; raises what `next_batch` raises."""
        return self

    def __next__(self) -> MicroBatch:
        """Give the next micro-batch; see `next_batch`."""
        batch = self.next_batch()
        if batch is None:
            raise StopIteration
        return batch

    # --- looking -----------------------------------------------------------------------------

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where each receiver is bound, by name."""
        return {feed.receiver.name: feed.opened.address for feed in self._feeds if feed.opened}

    @property
    def nodes(self) -> dict[str, str]:
        """Id of the node that each receiver is on, by name."""
        return {feed.receiver.name: feed.opened.node for feed in self._feeds if feed.opened}

    @property
    def pids(self) -> dict[str, int]:
        """Process of each receiver, by name; of its own node."""
        return {feed.receiver.name: feed.opened.pid for feed in self._feeds if feed.opened}

    @property
    def schemas(self) -> dict[str, pa.Schema | None]:
        """Schema of each receiver's source, by name; None: it takes the first rows to know."""
        return {feed.receiver.name: feed.opened.schema for feed in self._feeds if feed.opened}

    def _ask(self, method: str) -> dict[str, tuple[int, Any]]:
        """Ask every actor that is alive; gives generations and answers."""
        with self._lock:
            asked = {
                feed.receiver.name: (feed.generation, getattr(feed.actor, method).remote())
                for feed in self._feeds
                if feed.actor is not None and not feed.opening
            }
        answers = {}
        for name, (generation, ref) in asked.items():
            try:
                answers[name] = (generation, ray.get(ref, timeout=_ASK_S))
            except ray.exceptions.RayError as error:
                log.warning("receiver %r does not answer: %s", name, type(error).__name__)
        return answers

    def reports(self) -> dict[str, tuple[Counts, Metrics]]:
        """Give counts of each receiver that is alive and its source's metrics, by name."""
        return {name: answer for name, (_, answer) in self._ask("report").items()}

    def connections(self) -> pa.Table | None:
        """
        Give the connections of receivers that are alive; None without any.

        Returns
        -------
        pyarrow.Table or None
            Columns of `Source.connections`, behind ``receiver`` string and ``generation`` int64.
        """
        tables = []
        for name, (generation, table) in self._ask("connections").items():
            size = table.num_rows
            named = table.add_column(0, "generation", pa.array([generation] * size, pa.int64()))
            tables.append(named.add_column(0, "receiver", pa.array([name] * size, pa.string())))
        return pa.concat_tables(tables) if tables else None

    def rejected(self) -> dict[str, pa.Table]:
        """
        Take the rows that could not be decoded, by receiver; see `Source.rejected`.

        With ``on_error="reject"`` take them now and then: a receiver fails when it is full.
        """
        answers = self._ask("rejected").items()
        return {name: table for name, (_, table) in answers if table is not None}

    # --- ending ------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """
        Close the sources and end the actors. Idempotent; micro-batches stay readable.

        What was received and not handed over is dropped with the connections.
        """
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        with self._lock:
            self._taken_from = None
            if not ray.is_initialized():
                return  # they are gone with it
            for feed in self._feeds:
                feed.stop()
            deadline = time.monotonic() + _ASK_S
            for feed in self._feeds:
                feed.join(deadline)

    def __del__(self) -> None:
        """Warn about a stream that was never closed, and close it."""
        if not getattr(self, "_closed", True) and os.getpid() == self._owner:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __repr__(self) -> str:
        """Name the receivers."""
        names = ", ".join(sorted(feed.receiver.name for feed in self._feeds))
        return f"<zcrx_arrow ray stream of {names}{' closed' if self._closed else ''}>"


def _policy(on_death: OnDeath) -> Restart | None:
    if isinstance(on_death, Restart):
        return on_death
    if on_death not in ("fail", "restart"):
        raise ConfigError(f"on_death={on_death!r} must be 'fail', 'restart' or a Restart")
    return Restart() if on_death == "restart" else None


def _patience(answer_timeout: Duration | None) -> float | None:
    if answer_timeout is None:
        return None
    seconds = parse_duration(answer_timeout, "answer_timeout")
    if seconds < _LEAST_S:
        raise ConfigError(
            f"answer_timeout={answer_timeout!r} must be a second or more",
            remedy="None never takes a receiver for one that hangs.",
        )
    return seconds


def _checked(receivers: Iterable[Receiver], settings: Settings) -> list[Receiver]:
    """Check all that can be checked before anything is started."""
    chosen = list(receivers)
    for each in chosen:
        if not isinstance(each, Receiver):
            raise ConfigError(f"receivers must be Receivers, not {each!r}")
        _check_pickles(each)
    if not chosen:
        raise ConfigError("receivers: there are none")
    _check_names(chosen)
    _check_ray()
    _check_stores(chosen, settings)
    return chosen


def _check_names(receivers: list[Receiver]) -> None:
    names = [each.name for each in receivers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"several receivers are called {', '.join(map(repr, twice))}",
            remedy="Give them name=, such as that of their node.",
        )


def _check_pickles(receiver: Receiver) -> None:
    try:
        ray.cloudpickle.dumps(receiver)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise ConfigError(
            f"receiver {receiver.name!r} cannot be sent to a node: {type(error).__name__}: {error}",
            remedy="Its framing and decoder must pickle.",
        ) from error


def _check_ray() -> None:
    if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        raise UnsupportedError(
            errno.ENOTSUP,
            "Ray Client (ray://) would bring every block through its proxy",
            step="ray",
            remedy="Run the driver on a node of the cluster, for example with 'ray job submit'.",
        )
    if not ray.is_initialized():
        raise ZcrxError(
            errno.ENOTCONN,
            "Ray is not initialised in this process",
            step="ray",
            remedy="Call ray.init(address='auto') on a node of the cluster, or ray.init().",
        )


def _check_stores(receivers: list[Receiver], settings: Settings) -> None:
    """See that what may wait unconsumed fits into the smallest store it may be in."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    stores = {
        each["NodeID"]: each["Resources"].get("object_store_memory", 0.0)
        for each in nodes
        if each["Alive"]
    }
    wanted: dict[str, int] = {}
    for each in receivers:
        strategy = each.placement().get("scheduling_strategy")
        node = strategy.node_id if strategy is not None else min(stores, key=stores.__getitem__)
        wanted[node] = wanted.get(node, 0) + settings.backlog
    for node, size in wanted.items():
        if size > stores[node]:
            raise ConfigError(
                f"the backlog of its receivers, {size:,} bytes, is more than the object store of "
                f"node {node}, {int(stores[node]):,} bytes",
                remedy="Give a smaller backlog=, or the node more object_store_memory.",
            )
