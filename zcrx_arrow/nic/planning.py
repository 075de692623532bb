# SPDX-License-Identifier: Apache-2.0
"""From what is to what zero-copy receive needs: an ordered list of small reversible steps."""

from __future__ import annotations

import errno
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from zcrx_arrow.config import whole
from zcrx_arrow.errors import ConfigError, UnsupportedError, ZcrxError
from zcrx_arrow.nic.drivers import HARDWARE, quirks_of
from zcrx_arrow.nic.state import Interface, Match, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zcrx_arrow.nic.drivers import Quirks

__all__ = ["SETTINGS", "Plan", "Request", "Step", "make_plan", "spread", "table_of"]

SETTINGS = ("channels", "feature", "rings", "rss", "context", "rule")


@dataclass(frozen=True, slots=True)
class Request:
    """
    What is asked for.

    Attributes
    ----------
    matches : tuple of Match
        Which connections.
    count : int
        Over how many queues they are spread.
    queues : tuple of int
        Which ones; empty: the last free ones.
    """

    matches: tuple[Match, ...]
    count: int = 1
    queues: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        port: int | Iterable[int] = (),
        source: str | None = None,
        source_port: int | None = None,
        queues: int | Iterable[int] = 1,
    ) -> Self:
        """
        Make one from what users say.

        Parameters
        ----------
        port : int or several
            Destination ports; with `source` or `source_port` there may be none.
        source : str, optional
            The peers' address; without it, rules for IPv4 and for IPv6 are made.
        source_port : int, optional
            The peers' port: for sources that connect.
        queues : int or several
            A number of queues, or a list of which ones.

        Raises
        ------
        ConfigError
            If it says nothing, or nonsense.
        """
        try:
            ports: list[int | None] = [port] if isinstance(port, int) else list(port)
            chosen = queues if isinstance(queues, int) else tuple(queues)
        except TypeError:
            raise ConfigError(
                f"port={port!r}, queues={queues!r}: numbers, or lists of them"
            ) from None
        if source is not None and not isinstance(source, str):
            raise ConfigError(f"source={source!r} must be an address")
        if not ports and source is None and source_port is None:
            raise ConfigError(
                "say which connections the queue is for: port=, source= or source_port="
            )
        families = (4, 6) if source is None else ((6,) if ":" in source else (4,))
        matches = tuple(
            Match(family=family, port=each, source=source, source_port=source_port)
            for each in dict.fromkeys(ports or [None])
            for family in families
        )
        if isinstance(chosen, int):
            return cls(matches, count=whole(chosen, "queues", 1, 1024))
        numbers = tuple(whole(each, "queues", 0, 65534) for each in chosen)
        if not numbers or len(set(numbers)) < len(numbers):
            raise ConfigError(f"queues={list(numbers)} must name some queues, each once")
        return cls(matches, count=len(numbers), queues=numbers)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(
            matches=tuple(Match(**each) for each in values["matches"]),
            count=values["count"],
            queues=tuple(values["queues"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Give it as values that JSON has."""
        values: dict[str, Any] = plain(asdict(self))
        return values


@dataclass(frozen=True, slots=True)
class Step:
    """
    One change.

    Attributes
    ----------
    setting : str
        ``"channels"``, ``"feature"``, ``"rings"``, ``"rss"``, ``"context"`` or ``"rule"``.
    before, after : dict
        Values of the setting: what was read, what is to be read then.
    why : str
        For people.
    commands : tuple of str
        What one would type; in the same words, ``undo`` for the way back.
    """

    setting: str
    before: dict[str, Any]
    after: dict[str, Any]
    why: str
    commands: tuple[str, ...]
    undo: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give it as values that JSON has."""
        values: dict[str, Any] = plain(asdict(self))
        return values


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in their order, and the queues that are ready after them."""

    interface: str
    driver: str
    request: Request
    queues: tuple[int, ...]
    steps: tuple[Step, ...]
    notes: tuple[str, ...]

    @property
    def commands(self) -> tuple[str, ...]:
        """What one would type to the same effect."""
        return tuple(command for step in self.steps for command in step.commands)

    def to_json(self) -> dict[str, Any]:
        """Give it as values that JSON has."""
        values: dict[str, Any] = plain(asdict(self))
        return values


def table_of(size: int, values: dict[str, Any]) -> tuple[int, ...]:
    """Fill an RSS table of this size as a step says: ``table``, ``equal`` or ``weights``."""
    if "table" in values:
        return tuple(values["table"])
    if "equal" in values:
        return tuple(place % values["equal"] for place in range(size))
    return spread(size, values["weights"])


def spread(size: int, weights: list[int]) -> tuple[int, ...]:
    """Fill an RSS table by the queues' weights, as `ethtool -X DEV weight ...` does."""
    total, partial, queue = sum(weights), 0, -1
    table = []
    for place in range(size):
        while place * total >= size * partial:
            queue += 1
            partial += weights[queue]
        table.append(queue)
    return tuple(table)


def make_plan(is_now: Interface, request: Request) -> Plan:
    """
    Find the steps; changes nothing.

    Raises
    ------
    UnsupportedError
        If this interface cannot do it.
    ZcrxError
        If something else stands in the way: interface down, queue taken, rules full.
    ConfigError
        If a queue is asked for that cannot be.
    """
    name = is_now.name
    driver = is_now.driver.name if is_now.driver else ""
    quirks = quirks_of(driver)
    _check(is_now)
    count = _receive_queues(is_now, request)
    queues = _choose(is_now, request, count)
    steps = [
        *_channels(is_now, count),
        *_features(is_now, quirks),
        *_rings(is_now, quirks),
        *_rss(is_now, count, queues),
        *_steering(is_now, request, queues),
    ]
    notes = [quirks.note] if quirks.note else []
    if not quirks.known:
        notes.append(
            f"the driver {driver or '?'} is not known to have what zero-copy receive needs; "
            f"Linux 7.3 has it in {HARDWARE}"
        )
    return Plan(name, driver, request, queues, tuple(steps), tuple(notes))


# --- what must hold before anything is changed --------------------------------------------------


def _check(is_now: Interface) -> None:
    name = is_now.name
    if not is_now.up:
        raise ZcrxError(
            errno.ENETDOWN, f"{name} is down", step="nic", remedy=f"'ip link set {name} up'."
        )
    if is_now.xdp is not None:
        raise ZcrxError(
            errno.EEXIST,
            f"an XDP program (id {is_now.xdp}) is attached to {name}",
            step="nic",
            remedy=f"'ip link set {name} xdp off', if nobody needs it.",
        )
    lacks = {
        "channels": "has no channels to set, so no queue of its own",
        "rings": "has no ring settings, so no header/data split",
        "rss": "has no RSS table, so other traffic cannot be kept away from a queue",
        "rules": "has no flow rules, so connections cannot be steered to a queue",
    }
    reasons = [text for what, text in lacks.items() if getattr(is_now, what) is None]
    if is_now.rss is not None and not is_now.rss.table:
        reasons.append(lacks["rss"])
    rings = is_now.rings
    silent = rings is not None and rings.tcp_data_split is None and rings.hds_thresh is None
    if silent and not quirks_of(is_now.driver.name if is_now.driver else None).known:
        reasons.append("does not offer header/data split")
    if reasons:
        driver = f" ({is_now.driver.name})" if is_now.driver else ""
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"{name}{driver} {'; it '.join(reasons)}",
            step="nic",
            remedy=f"Drivers that can, in Linux 7.3: {HARDWARE}. "
            "transport='copy' works with every one.",
        )


def _receive_queues(is_now: Interface, request: Request) -> int:
    """How many receive queues there must be: the wanted ones, and one for all else."""
    channels = is_now.channels
    assert channels is not None  # noqa: S101 - see _check
    needed = max(request.count + 1, *(queue + 1 for queue in request.queues), channels.receive)
    if needed > channels.receive_max:
        asked = f"queue {max(request.queues)}" if request.queues else f"{request.count} of its own"
        raise UnsupportedError(
            errno.ERANGE,
            f"{is_now.name} has {channels.receive_max} receive queues at most: too few for {asked}",
            step="nic",
            remedy="One queue must remain for all other traffic.",
        )
    return needed


def _taken(is_now: Interface) -> dict[int, str]:
    """Queues that something else uses, by what."""
    taken = {queue.number: f"held by {queue.holder}" for queue in is_now.queues if queue.holder}
    for rule in is_now.rules or ():
        if rule.context is None:
            taken.setdefault(rule.queue, f"the target of rule {rule.location}")
    for context in is_now.contexts:
        for queue in context.queues:
            taken.setdefault(queue, f"in RSS context {context.context}")
    return taken


def _choose(is_now: Interface, request: Request, count: int) -> tuple[int, ...]:
    taken = _taken(is_now)
    for queue in request.queues:
        if queue in taken:
            raise ZcrxError(
                errno.EBUSY,
                f"queue {queue} of {is_now.name} is {taken[queue]}",
                step="nic",
                remedy="Take another one, or end who uses it.",
            )
    if request.queues:
        return request.queues
    free = [queue for queue in range(count - 1, 0, -1) if queue not in taken]
    if len(free) < request.count:
        words = "; ".join(f"queue {queue} is {why}" for queue, why in sorted(taken.items()))
        raise ZcrxError(
            errno.EBUSY,
            f"{is_now.name} has no spare queue: {words}",
            step="nic",
            remedy=f"'ethtool -L {is_now.name} combined N' makes more, if the NIC can.",
        )
    return tuple(sorted(free[: request.count]))


# --- steps --------------------------------------------------------------------------------------


def _channels(is_now: Interface, count: int) -> list[Step]:
    channels = is_now.channels
    assert channels is not None  # noqa: S101 - see _check
    if count == channels.receive:
        return []
    kind = channels.kind
    before = getattr(channels, kind)
    after = before + count - channels.receive
    return [
        Step(
            setting="channels",
            before={kind: before},
            after={kind: after},
            why="a queue of its own for zero-copy receive, and one for all other traffic",
            commands=(f"ethtool -L {is_now.name} {kind} {after}",),
            undo=(f"ethtool -L {is_now.name} {kind} {before}",),
        )
    ]


def _features(is_now: Interface, quirks: Quirks) -> list[Step]:
    features = is_now.features
    wanted = [(name, "the driver splits only with it") for name in quirks.features]
    wanted.append(("rx-ntuple-filter", "flow rules count only with it"))
    steps = []
    for name, why in wanted:
        if features is None or name in features.active:
            continue
        if name not in features.changeable:
            if name == "rx-ntuple-filter":  # some have rules without the switch
                continue
            raise UnsupportedError(
                errno.EOPNOTSUPP,
                f"{is_now.name} cannot switch {name} on, and {why}",
                step="nic",
                remedy="A newer firmware or driver may have it.",
            )
        steps.append(
            Step(
                setting="feature",
                before={name: False},
                after={name: True},
                why=why,
                commands=(f"ethtool -K {is_now.name} {name} on",),
                undo=(f"ethtool -K {is_now.name} {name} off",),
            )
        )
    return steps


def _rings(is_now: Interface, quirks: Quirks) -> list[Step]:
    """
    Set the split always, even if it seems to be set.

    Registering wants it to have been set by somebody, and drivers report their default alike.
    """
    rings = is_now.rings
    assert rings is not None  # noqa: S101 - see _check
    before: dict[str, Any] = {"split": rings.tcp_data_split or "auto"}
    after: dict[str, Any] = {"split": "on"}
    if before["split"] in quirks.auto_for:
        before["split"] = "auto"
    if rings.hds_thresh is not None and quirks.hds_thresh:
        before["hds_thresh"] = rings.hds_thresh
        after["hds_thresh"] = 0
    words = {
        key: " ".join(
            f"{option} {values[name]}"
            for name, option in (("split", "tcp-data-split"), ("hds_thresh", "hds-thresh"))
            if name in values
        )
        for key, values in (("before", before), ("after", after))
    }
    return [
        Step(
            setting="rings",
            before=before,
            after=after,
            why="headers and payloads go to different memory, and payloads of every size",
            commands=(f"ethtool -G {is_now.name} {words['after']}",),
            undo=(f"ethtool -G {is_now.name} {words['before']}",),
        )
    ]


def _is_default(table: tuple[int, ...], queues: int) -> bool:
    return table == tuple(place % queues for place in range(len(table)))


def _rss(is_now: Interface, count: int, queues: tuple[int, ...]) -> list[Step]:
    rss, channels = is_now.rss, is_now.channels
    assert rss is not None  # noqa: S101 - see _check
    assert channels is not None  # noqa: S101 - see _check
    default = _is_default(rss.table, channels.receive)
    # With more queues a driver may fill its table anew, and also make it longer.
    if not default and not rss.queues & set(queues) and count == channels.receive:
        return []
    keep = [queue for queue in range(count) if queue not in queues]
    if keep == list(range(len(keep))) and default:
        after: dict[str, Any] = {"equal": len(keep)}
        how = f"equal {len(keep)}"
    else:
        weights = [0] * count
        for queue in keep:
            weights[queue] = 1 if default else rss.table.count(queue)
        if not any(weights):
            weights[keep[0]] = 1
        after = {"weights": weights}
        how = "weight " + " ".join(map(str, weights))
    if default:
        undo: tuple[str, ...] = (f"ethtool -X {is_now.name} default",)
    else:
        old = [rss.table.count(queue) for queue in range(max(rss.table) + 1)]
        undo = (f"ethtool -X {is_now.name} weight {' '.join(map(str, old))}",)
    return [
        Step(
            setting="rss",
            before={"table": [] if default else list(rss.table)},
            after=after,
            why="other traffic must not come by these queues: plain sockets cannot read from them",
            commands=(f"ethtool -X {is_now.name} {how}",),
            undo=undo,
        )
    ]


def _steering(is_now: Interface, request: Request, queues: tuple[int, ...]) -> list[Step]:
    name, rules = is_now.name, is_now.rules or ()
    steps: list[Step] = []
    for match in request.matches:
        for rule in rules:
            if rule.match == match:
                raise ZcrxError(
                    errno.EEXIST,
                    f"rule {rule.location} of {name} steers the same connections ({match}) to "
                    f"queue {rule.queue}",
                    step="nic",
                    remedy=f"'ethtool -N {name} delete {rule.location}', if nobody needs it.",
                )
    if is_now.rules_max is not None and len(rules) + len(request.matches) > is_now.rules_max:
        raise ZcrxError(
            errno.ENOSPC,
            f"{name} has room for {is_now.rules_max} rules, and {len(rules)} are there",
            step="nic",
            remedy=f"'ethtool -n {name}' lists them, 'ethtool -N {name} delete N' removes one.",
        )
    shared = len(queues) > 1
    if shared:
        weights = [int(queue in queues) for queue in range(max(queues) + 1)]
        listed = " ".join(map(str, weights))
        steps.append(
            Step(
                setting="context",
                before={"contexts": [context.context for context in is_now.contexts]},
                after={"weights": weights},
                why="the connections are spread over these queues",
                commands=(f"ethtool -X {name} context new weight {listed}",),
                undo=(f"ethtool -X {name} context N delete",),
            )
        )
    action = "context N" if shared else f"action {queues[0]}"
    steps += (
        Step(
            setting="rule",
            before={},
            after={"match": asdict(match), "queue": 0 if shared else queues[0], "shared": shared},
            why="these connections come by the queue" + ("s" if shared else ""),
            commands=(f"ethtool -N {name} {match} {action}",),
            undo=(f"ethtool -N {name} delete LOCATION",),
        )
        for match in request.matches
    )
    return steps
