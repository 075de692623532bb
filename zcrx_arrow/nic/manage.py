# SPDX-License-Identifier: Apache-2.0
"""A NIC made ready and set back: apply, restore, and both around a block of code."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
from typing import TYPE_CHECKING

from zcrx_arrow.config import NicQueue
from zcrx_arrow.errors import ZcrxError
from zcrx_arrow.nic.change import carry_out, is_done, undo, wait_until_unbound
from zcrx_arrow.nic.device import Device
from zcrx_arrow.nic.journal import Journal, Record
from zcrx_arrow.nic.planning import Plan, Request, make_plan

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator


__all__ = ["apply", "plan", "queue", "queues", "restore"]

log = logging.getLogger("zcrx_arrow.nic")


def plan(
    interface: str,
    *,
    port: int | Iterable[int] = (),
    source: str | None = None,
    source_port: int | None = None,
    queues: int | Iterable[int] = 1,
) -> Plan:
    """
    Find what must be changed for zero-copy receive; changes nothing, needs no privilege.

    Parameters
    ----------
    interface : str
        Its name.
    port : int or several
        Destination ports of the connections.
    source, source_port : optional
        The peers' address and port, where those tell the connections apart: for feeds that this
        side connects to. Without `source`, rules for IPv4 and IPv6 are made.
    queues : int or several
        How many queues the connections are spread over, or which ones.

    Returns
    -------
    Plan
        ``steps`` in their order, each with its reason and what one would type; ``queues``.

    Raises
    ------
    UnsupportedError
        The interface cannot do it.
    ZcrxError
        Something stands in the way: no such interface, it is down, no spare queue, no free rule.
    ConfigError
        What is asked for makes no sense.
    """
    request = Request.of(port=port, source=source, source_port=source_port, queues=queues)
    return make_plan(Device(interface).inspect(), request)


def apply(
    interface: str,
    *,
    port: int | Iterable[int] = (),
    source: str | None = None,
    source_port: int | None = None,
    queues: int | Iterable[int] = 1,
    state: str | os.PathLike[str] | None = None,
) -> tuple[NicQueue, ...]:
    """
    Make an interface ready for zero-copy receive; until `restore`, or a reboot.

    What it was like is written down first, and every change is read back. Doing it twice is
    harmless. A step that fails has the earlier ones undone. Other processes wait meanwhile.

    Parameters
    ----------
    interface, port, source, source_port, queues
        As for `plan`.
    state : path, optional
        Where to write down what it was like; by default in /run/zcrx-arrow, or
        $XDG_RUNTIME_DIR/zcrx-arrow for others than root.

    Returns
    -------
    tuple of NicQueue
        For ``nic=`` of `zcrx_arrow.listen` and `zcrx_arrow.connect`: a source for each.

    Raises
    ------
    UnsupportedError
        The interface cannot do it, or CAP_NET_ADMIN is missing.
    ZcrxError
        Something stands in the way, or a step failed: which one, and the kernel's words. EBUSY: it
        has been made ready for something else already.
    """
    request = Request.of(port=port, source=source, source_port=source_port, queues=queues)
    record, _ = prepare(Device(interface), Journal(interface, state), request, owned=False)
    return handles(record)


def restore(interface: str, *, state: str | os.PathLike[str] | None = None) -> bool:
    """
    Set an interface back to what it was before `apply`, also after a crash.

    Waits up to 5 s for the kernel to let go of the queues; sources must have been closed.

    Parameters
    ----------
    interface : str
        Its name.
    state : path, optional
        As given to `apply`.

    Returns
    -------
    bool
        False: nothing had been changed.

    Raises
    ------
    ZcrxError
        EBUSY: a queue is in use. Else what the kernel refused: all other settings are back then,
        and what it was like stays written down.
    """
    device, journal = Device(interface), Journal(interface, state)
    with journal.locked():
        record = journal.read()
        if record is None:
            return False
        take_back(device, journal, record)
        return True


@contextlib.contextmanager
def queues(
    interface: str,
    *,
    port: int | Iterable[int] = (),
    source: str | None = None,
    source_port: int | None = None,
    queues: int | Iterable[int] = 1,
    state: str | os.PathLike[str] | None = None,
) -> Iterator[tuple[NicQueue, ...]]:
    """
    Make an interface ready for the time of a block, and set it back then.

    What a process that was killed has left behind is set back first. If the interface was made
    ready for the same by `apply`, it is used as it is and left so.

    Parameters
    ----------
    interface, port, source, source_port, queues, state
        As for `apply`.

    Yields
    ------
    tuple of NicQueue
        One for each queue; their sources listen on the same address.

    Raises
    ------
    UnsupportedError, ZcrxError, ConfigError
        As for `apply` and `restore`.
    """
    request = Request.of(port=port, source=source, source_port=source_port, queues=queues)
    device, journal = Device(interface), Journal(interface, state)
    record, fresh = prepare(device, journal, request, owned=True)
    try:
        yield handles(record)
    finally:
        if fresh:
            with journal.locked():
                current = journal.read()
                if current is not None and current.mine:
                    take_back(device, journal, current)


@contextlib.contextmanager
def queue(
    interface: str,
    *,
    port: int | Iterable[int] = (),
    source: str | None = None,
    source_port: int | None = None,
    number: int | None = None,
    state: str | os.PathLike[str] | None = None,
) -> Iterator[NicQueue]:
    """
    Make one queue of an interface ready for the time of a block: `queues` with one.

    Parameters
    ----------
    number : int, optional
        Which queue; the last free one if not given.
    interface, port, source, source_port, state
        As for `apply`.

    Yields
    ------
    NicQueue
        For ``nic=``.

    Examples
    --------
    >>> with zcrx_arrow.nic.queue("eth0", port=9000) as q:  # doctest: +SKIP
    ...     with zcrx_arrow.listen("0.0.0.0:9000", nic=q) as source:
    ...         for batch in source: ...
    """
    wanted = 1 if number is None else [number]
    with queues(
        interface, port=port, source=source, source_port=source_port, queues=wanted, state=state
    ) as (only,):
        yield only


def handles(record: Record) -> tuple[NicQueue, ...]:
    """Give what ``nic=`` takes."""
    share = record.queues if len(record.queues) > 1 else ()
    return tuple(NicQueue(record.interface, number, share) for number in record.queues)


def prepare(
    device: Device, journal: Journal, request: Request, *, owned: bool
) -> tuple[Record, bool]:
    """
    Do what a request takes.

    Returns
    -------
    Record, bool
        And whether it has been done now: False if it was so already.
    """
    with journal.locked():
        before = journal.read()
        if before is not None:
            before = _leftover(device, journal, before)
        if before is not None:
            return _again(device, before, request, owned=owned)
        is_now = device.inspect()
        found = make_plan(is_now, request)
        record = Record.of(found, is_now.index, owned=owned)
        journal.write(record)
        _carry_out_all(device, journal, record)
        log.info(
            "%s: queue %s ready for %s",
            device.name,
            ", ".join(map(str, record.queues)),
            "; ".join(map(str, request.matches)),
        )
        return record, True


def _leftover(device: Device, journal: Journal, before: Record) -> Record | None:
    """Clear away what nobody will: of an interface that is gone, of a process that is dead."""
    if before.index != device.link().index:
        journal.remove()  # the settings went with the device
        return None
    if before.owner is None or before.owner_lives:
        return before
    log.warning("%s: set back after process %s, which is gone", device.name, before.owner)
    take_back(device, journal, before)
    return None


def _again(device: Device, before: Record, request: Request, *, owned: bool) -> tuple[Record, bool]:
    same = before.request.matches == request.matches and (
        before.queues == request.queues if request.queues else before.request.count == request.count
    )
    if not same or (before.owner is not None and not (owned and before.mine)):
        who = f"process {before.owner.split()[0]}" if before.owner else "'zcrx-arrow nic apply'"
        raise ZcrxError(
            errno.EBUSY,
            f"{device.name} is ready already, by {who}: queue "
            f"{', '.join(map(str, before.queues))} for "
            f"{'; '.join(map(str, before.request.matches))}",
            step="nic",
            remedy="Ask for all ports and queues at once, or end that first "
            f"('zcrx-arrow nic restore {device.name}').",
        )
    for step in before.steps:
        if not is_done(device, step, before.steps):
            carry_out(device, step, before.steps)
    return before, False


def _carry_out_all(device: Device, journal: Journal, record: Record) -> None:
    for number, step in enumerate(record.steps):
        try:
            carry_out(device, step, record.steps)
        except BaseException as error:
            begun = dataclasses.replace(record, steps=record.steps[: number + 1])
            try:
                take_back(device, journal, begun, whole=record)
            except ZcrxError as again:
                error.add_note(f"And not all could be set back: {again}")
            raise


def take_back(
    device: Device, journal: Journal, record: Record, *, whole: Record | None = None
) -> None:
    """Undo all steps, the last first; what fails does not keep the others from being undone."""
    steps = (whole or record).steps
    try:
        gone = device.link().index != record.index
    except OSError:
        gone = True
    if gone:
        journal.remove()
        return
    wait_until_unbound(device, record.queues)
    failures: list[ZcrxError] = []
    for step in reversed(record.steps):
        try:
            undo(device, step, steps)
        except ZcrxError as error:
            failures.append(error)
    if failures:
        first, *rest = failures
        for other in rest:
            first.add_note(str(other))
        first.remedy = f"{first.remedy}\nWhat it was like is in {journal.path}.".strip()
        raise first
    journal.remove()
    log.info("%s: set back", device.name)
