# SPDX-License-Identifier: Apache-2.0
"""Whether an interface is ready, and whether packets come by the queue that they should."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zcrx_arrow.nic.device import Device, denied
from zcrx_arrow.nic.state import Interface, Match, Placed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zcrx_arrow.config import NicQueue

__all__ = ["Check", "checks_of", "placed", "verify"]

_SO_INCOMING_NAPI_ID: Final = 56  # include/uapi/asm-generic/socket.h


@dataclass(frozen=True, slots=True)
class Check:
    """
    One thing that must be so.

    Attributes
    ----------
    name : str
        What was looked at.
    ok : bool
        Whether it is so.
    found : str
        What there is.
    remedy : str
        What to do if it is not so.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""


def placed(connection: socket.socket, interface: str) -> Placed:
    """
    Find the receive queue that a connection's packets come by.

    SO_INCOMING_NAPI_ID (socket(7)), compared with the NAPIs of the queues. Asks the kernel twice;
    works on any TCP socket that has received something.

    Parameters
    ----------
    connection : socket
        A connected TCP socket.
    interface : str
        That it comes by.

    Returns
    -------
    Placed
        ``queue`` is None if the packets came by another interface.

    Raises
    ------
    ZcrxError
        If the socket or the interface cannot be asked.
    """
    try:
        napi_id = connection.getsockopt(socket.SOL_SOCKET, _SO_INCOMING_NAPI_ID)
        queues = Device(interface).queues()
    except OSError as error:
        raise denied(error, f"looking for a socket's queue of {interface}") from error
    return Placed.of(napi_id, queues)


def verify(queue: NicQueue, *, matches: tuple[Match, ...] = ()) -> tuple[Check, ...]:
    """
    Look at everything that zero-copy receive on a queue needs; changes nothing.

    Parameters
    ----------
    queue : NicQueue
        The queue; with ``share`` all of them are looked at.
    matches : tuple of Match
        Connections that there must be rules for.

    Returns
    -------
    tuple of Check
        In the order of `zcrx_arrow.nic.plan`. Ready if all are ``ok``.

    Raises
    ------
    ZcrxError
        There is no such interface.
    """
    is_now = Device(queue.interface).inspect()
    numbers = queue.share or (queue.queue,)
    return tuple(checks_of(is_now, numbers, matches))


def checks_of(
    is_now: Interface, numbers: tuple[int, ...], matches: tuple[Match, ...]
) -> Iterator[Check]:
    """Check what has been read."""
    name = is_now.name
    yield Check("link", is_now.up, "up" if is_now.up else "down", f"'ip link set {name} up'.")
    count = is_now.receive_queues
    yield Check(
        "queues",
        count > max(numbers) and count > len(numbers),
        f"{count} receive queues",
        f"'ethtool -L {name} combined {max(numbers) + 1}'.",
    )
    yield from _split(is_now)
    yield _rss(is_now, numbers)
    for match in matches:
        yield _rule(is_now, numbers, match)
    yield Check(
        "XDP",
        is_now.xdp is None,
        "no program" if is_now.xdp is None else f"program {is_now.xdp}",
        f"'ip link set {name} xdp off', if nobody needs it.",
    )
    for queue in is_now.queues:
        if queue.number in numbers:
            yield Check(
                f"queue {queue.number}",
                queue.holder in (None, "io_uring"),
                f"bound by {queue.holder}" if queue.holder else "not bound",
                "End who holds it, or take another queue.",
            )


def _split(is_now: Interface) -> Iterator[Check]:
    name, rings = is_now.name, is_now.rings
    split = rings.tcp_data_split if rings else None
    yield Check(
        "header/data split",
        split == "on",
        split or "not set",
        f"'ethtool -G {name} tcp-data-split on'.",
    )
    if rings is not None and rings.hds_thresh is not None:
        yield Check(
            "hds-thresh",
            rings.hds_thresh == 0,
            str(rings.hds_thresh),
            f"'ethtool -G {name} hds-thresh 0'.",
        )


def _rss(is_now: Interface, numbers: tuple[int, ...]) -> Check:
    if is_now.rss is None:
        return Check("RSS", ok=False, found="no table", remedy="Take a NIC that has one.")
    strays = sorted(is_now.rss.queues & set(numbers))
    return Check(
        "RSS",
        not strays,
        f"other traffic comes by queue {', '.join(map(str, strays))} too"
        if strays
        else f"other traffic keeps to {len(is_now.rss.queues)} other queues",
        f"'ethtool -X {is_now.name} equal N' keeps it to the first N.",
    )


def _rule(is_now: Interface, numbers: tuple[int, ...], match: Match) -> Check:
    contexts = {context.context: context.queues for context in is_now.contexts}
    for rule in is_now.rules or ():
        if rule.match != match:
            continue
        if rule.context is None:
            goal: frozenset[int] = frozenset({rule.queue})
        else:
            goal = frozenset(q + rule.queue for q in contexts.get(rule.context, frozenset()))
        listed = ", ".join(map(str, sorted(goal)))
        return Check(
            f"rule {match}",
            bool(goal) and goal <= set(numbers),
            f"leads to queue {listed or '?'}",
            f"'ethtool -N {is_now.name} delete {rule.location}', and add the right one.",
        )
    return Check(
        f"rule {match}",
        ok=False,
        found="there is none",
        remedy=f"'ethtool -N {is_now.name} {match} action {numbers[0]}'.",
    )
