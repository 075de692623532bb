# SPDX-License-Identifier: Apache-2.0
"""A NIC made ready and set back: apply, restore, and both around a block of code."""

from __future__ import annotations

import contextlib
import errno
import secrets
from typing import TYPE_CHECKING

from zcrx_arrow import _events
from zcrx_arrow.config import NicQueue
from zcrx_arrow.errors import ConfigError, ZcrxError
from zcrx_arrow.nic.change import carry_out, is_done, undo, wait_until_unbound
from zcrx_arrow.nic.checks import checks_of
from zcrx_arrow.nic.device import Device, denied
from zcrx_arrow.nic.journal import Journal, Record
from zcrx_arrow.nic.planning import Plan, Request, make_plan

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator


__all__ = ["apply", "plan", "queue", "queues", "restore"]


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
    return handles(prepare(Device(interface), Journal(interface, state), request, owned=False))


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
        _take_back(device, journal, record)
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
    token = secrets.token_hex(8)
    try:
        yield handles(prepare(device, journal, request, owned=True, token=token))
    finally:
        # Also if an interrupt came in the middle of it, but never what another has done.
        with journal.locked():
            current = journal.read()
            if current is not None and current.token == token:
                _take_back(device, journal, current)


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
    device: Device, journal: Journal, request: Request, *, owned: bool, token: str = ""
) -> Record:
    """
    Do what a request takes, unless it has been done.

    Parameters
    ----------
    owned : bool
        Whether this process undoes it when it ends.
    token : str
        Of the record, if it is written now.
    """
    with journal.locked():
        before = standing(device, journal, request)
        if before is not None:
            _mend(device, before)
            return before
        left = journal.read()
        if left is not None:
            _events.warning(
                "nic_left_behind",
                device.name,
                "set back after %s, which is gone",
                left.who,
                owner=left.who,
                queues=list(left.queues),
            )
            _take_back(device, journal, left)
        is_now = device.inspect()
        record = Record.of(make_plan(is_now, request), is_now.index, owned=owned, token=token)
        journal.write(record)
        try:
            for step in record.steps:
                carry_out(device, step, record.steps)
            _check_all(device, record)
        except BaseException as error:
            try:
                _take_back(device, journal, record)
            except ZcrxError as again:
                error.add_note(f"And not all could be set back: {again}")
            raise
        listed = ", ".join(map(str, record.queues))
        _events.info(
            "nic_ready",
            device.name,
            "queue %s ready for %s",
            listed,
            _words(request),
            queues=list(record.queues),
            request=_words(request),
        )
        return record


def standing(device: Device, journal: Journal, request: Request) -> Record | None:
    """
    Give the record of what makes this request ready already; None if nothing does.

    Raises
    ------
    ZcrxError
        EBUSY: it is ready for something else, or a process has it.
    """
    before = journal.read()
    if before is None or _gone(device, before):
        return None
    if before.owner is not None and not before.owner_lives:
        return None
    same = before.request.matches == request.matches and (
        before.queues == request.queues if request.queues else before.request.count == request.count
    )
    if before.owner is None and same:
        return before
    raise ZcrxError(
        errno.EBUSY,
        f"{device.name} is ready already, by {before.who}: queue "
        f"{', '.join(map(str, before.queues))} for {_words(before.request)}",
        step="nic",
        remedy="Ask for all ports and queues at once, or end that first "
        f"('zcrx-arrow nic restore {device.name}').",
    )


def _words(request: Request) -> str:
    return "; ".join(map(str, request.matches))


def _mend(device: Device, record: Record) -> None:
    """Do again what somebody has undone."""
    try:
        missing = [step for step in record.steps if not is_done(device, step, record.steps)]
    except OSError as error:
        raise denied(error, f"looking at {device.name}") from error
    for step in missing:
        carry_out(device, step, record.steps)


def _check_all(device: Device, record: Record) -> None:
    """See that the steps together have led to what is needed, whatever each of them has done."""
    for check in checks_of(device.inspect(), record.queues, record.request.matches):
        if not check.ok:
            raise ZcrxError(
                errno.EIO,
                f"{device.name} did not become ready: {check.name}: {check.found}",
                step="nic",
                remedy=check.remedy,
            )


def _gone(device: Device, record: Record) -> bool:
    """Whether the settings went with the device; the record is void then."""
    name, index = device.name_of(record.index), device.index()
    if record.interface != device.name and record.index != index:
        raise ConfigError(
            f"what was written down is of {record.interface}, not of {device.name}",
            remedy="Name that interface, or give the right state.",
        )
    if name is not None and record.index != index:
        raise ZcrxError(
            errno.ENODEV,
            f"{record.interface} is called {name} now",
            step="nic",
            remedy="Give it its name back, or call it by the new one, with this state.",
        )
    return name is None


def _take_back(device: Device, journal: Journal, record: Record) -> None:
    """Undo all steps, the last first; what fails does not keep the others from being undone."""
    if _gone(device, record):
        journal.remove()
        return
    wait_until_unbound(device, record.queues)
    failures: list[ZcrxError] = []
    for step in reversed(record.steps):
        try:
            undo(device, step, record.steps)
        except ZcrxError as error:
            failures.append(error)
    if failures:
        first, *rest = failures
        for other in rest:
            first.add_note(str(other))
        first.remedy = f"{first.remedy}\nWhat it was like is in {journal.path}.".strip()
        raise first
    journal.remove()
    _events.info("nic_set_back", device.name, "set back", queues=list(record.queues))
