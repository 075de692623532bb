# SPDX-License-Identifier: Apache-2.0
"""What this machine can do, and what to do next: everything that `auto` would look at, in words."""

from __future__ import annotations

import os
import platform
import resource
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from zcrx_arrow import nic
from zcrx_arrow.errors import ZcrxError
from zcrx_arrow.nic.drivers import HARDWARE
from zcrx_arrow.nic.journal import Journal
from zcrx_arrow.nic.preflight import (
    CAP_IPC_LOCK,
    CAP_NET_ADMIN,
    driver_of,
    has_capability,
    huge_pages,
    in_initial_user_namespace,
)
from zcrx_arrow.probe import Features, probe

__all__ = ["Finding", "Interface", "Report", "examine"]

Verdict = Literal["ok", "no", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; ``remedy`` says what to do if it is not as one wants it."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface: whether its NIC could receive without a copy, else why not."""

    name: str
    driver: str | None
    ready: bool
    """Whether it can; what is left to be done, if anything, is in ``why``."""
    why: str
    auto: str
    """What ``transport="auto"`` would take now, with ``nic=`` of this interface."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything, and what to do next."""

    kernel: str
    machine: tuple[Finding, ...]
    interfaces: tuple[Interface, ...]
    auto: str
    """What ``transport="auto"`` takes without ``nic=``."""
    next: tuple[str, ...]

    @property
    def works(self) -> bool:
        """Whether any transport works here."""
        return self.auto != "none"

    def to_json(self) -> dict[str, Any]:
        """Give it as values that JSON has."""
        return asdict(self)


def examine() -> Report:
    """
    Look at kernel, privileges, memory and NICs; changes nothing, needs no privilege.

    Sets up a few small rings for a moment, as `probe` does.

    Returns
    -------
    Report
    """
    features = probe()
    machine = (
        _io_uring(features),
        _zcrx(features),
        *_abilities(features),
        _capability(),
        _memlock(),
        _pages(),
    )
    interfaces = tuple(_interface(name, features) for _, name in socket.if_nameindex())
    auto = "none" if features.io_uring else "copy"
    return Report(
        kernel=platform.release(),
        machine=machine,
        interfaces=interfaces,
        auto=auto,
        next=tuple(_next(machine, interfaces, auto)),
    )


# --- the machine --------------------------------------------------------------------------------


def _io_uring(features: Features) -> Finding:
    if features.io_uring is None:
        return Finding("io_uring", "ok", "works")
    return Finding(
        "io_uring",
        "no",
        f"cannot be set up ({features.io_uring})",
        "Look at 'sysctl kernel.io_uring_disabled' and, in a container, at its seccomp profile: "
        "it must allow io_uring_setup, io_uring_enter and io_uring_register.",
    )


def _zcrx(features: Features) -> Finding:
    code = features.zcrx_ring or features.zcrx
    if code is None:
        return Finding("zero-copy receive", "ok", "the kernel has it")
    if code == "EPERM":
        return Finding(
            "zero-copy receive",
            "note",
            "not found out: CAP_NET_ADMIN is missing",
            "Run doctor as root to see.",
        )
    return Finding(
        "zero-copy receive",
        "no",
        f"this kernel does not have it ({code})",
        "Linux 6.15 or newer with CONFIG_IO_URING_ZCRX has it; the copy transport works from 6.0 "
        "on.",
    )


def _abilities(features: Features) -> tuple[Finding, ...]:
    if features.zcrx not in (None, "EPERM"):
        return ()
    if not features.answers_queries:
        return (Finding("its features", "note", "the kernel does not say (before 6.18)"),)
    names = {
        "chunks larger than a page": features.chunk_sizes,
        "tells of copies and of a dry area": features.events,
        "flush": features.flush,
        "without a NIC (nodev)": features.knows_nodev,
    }
    has = ", ".join(name for name, there in names.items() if there) or "none of the later ones"
    lacks = ", ".join(name for name, there in names.items() if not there)
    return (Finding("its features", "ok", has + (f"; not: {lacks}" if lacks else "")),)


def _may_register() -> bool:
    return has_capability(CAP_NET_ADMIN) and in_initial_user_namespace()


def _capability() -> Finding:
    if _may_register():
        return Finding("CAP_NET_ADMIN", "ok", "in effect")
    found = "in effect, but in a user namespace, where it does not count"
    if not has_capability(CAP_NET_ADMIN):
        found = "missing: without it no area can be registered with a NIC"
    return Finding(
        "CAP_NET_ADMIN",
        "no",
        found,
        "Run as root, 'setcap cap_net_admin+ep' on the interpreter, or AmbientCapabilities= of a "
        "systemd unit (docs/nic.md); a container needs the machine's user namespace.",
    )


def _size(count: int) -> str:
    return f"{count >> 20:,} MiB" if count >> 20 else f"{count >> 10:,} KiB"


def _memlock() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or has_capability(CAP_IPC_LOCK):
        return Finding("locked memory", "ok", "no limit for this process")
    wanted = 256 << 20
    remedy = (
        "Raise it ('ulimit -l', LimitMEMLOCK= of a systemd unit), give the process CAP_IPC_LOCK, "
        "or ask for a smaller area."
    )
    fits = soft >= wanted
    return Finding(
        "locked memory",
        "ok" if fits else "note",
        f"{_size(soft)} at most"
        + ("" if fits else f": too little for the usual area of {_size(wanted)} with a NIC"),
        "" if fits else remedy,
    )


def _pages() -> Finding:
    free, page = huge_pages()
    if free:
        return Finding("huge pages", "ok", f"{free:,} of {_size(page)} free")
    return Finding(
        "huge pages",
        "note",
        "none reserved: chunks stay at a page, unless the kernel finds memory that lies together",
        "'sysctl vm.nr_hugepages=128' reserves 256 MiB, best soon after boot; then "
        "area=Area(huge_pages=True).",
    )


# --- interfaces ---------------------------------------------------------------------------------


def _interface(name: str, features: Features) -> Interface:
    driver = driver_of(name)
    fallback = "none" if features.io_uring else "copy"
    if name == "lo" or (driver is None and not Path(f"/sys/class/net/{name}/device").exists()):
        return Interface(name, driver, ready=False, why="no hardware", auto=fallback)
    allowed = _may_register()
    able = not features.zcrx_ring and features.zcrx in (None, "EPERM")
    try:
        record = Journal(name).read()
        if record is not None and record.interface == name:
            listed = ", ".join(map(str, record.queues))
            why = f"made ready by {record.who}: queue {listed}"
            auto = "zcrx" if able and allowed else fallback
            return Interface(name, driver, ready=able, why=why, auto=auto)
        found = nic.plan(name, port=1)
    except ZcrxError as error:
        why = (error.strerror or "").removeprefix(f"{name} ").removeprefix(f"({driver}) ")
        return Interface(name, driver, ready=False, why=why, auto=fallback)
    if not able:
        return Interface(
            name, driver, ready=False, why="it could, the kernel cannot", auto=fallback
        )
    todo = f"'zcrx-arrow nic apply {name} --port PORT' makes it ready: {len(found.steps)} steps"
    why = todo if allowed else "it could, this process may not (CAP_NET_ADMIN)"
    return Interface(name, driver, ready=True, why=why, auto=fallback)


def _next(machine: tuple[Finding, ...], interfaces: tuple[Interface, ...], auto: str) -> list[str]:
    if auto == "none":
        return [machine[0].remedy]
    ready = [each for each in interfaces if each.ready]
    if not ready:
        return [
            "transport='copy' is what works here: one copy by the kernel, the same program.",
            f"For zero copies: a NIC of one of the drivers {HARDWARE}, and Linux 6.15+.",
        ]
    steps = [each.remedy for each in machine if each.verdict == "no" and each.remedy]
    first = ready[0].name
    steps.append(f"zcrx-arrow nic plan {first} --port PORT   shows what would be changed")
    steps.append(f"zcrx-arrow nic apply {first} --port PORT  does it, 'restore' takes it back")
    if os.geteuid() != 0:
        steps.append("docs/nic.md: how to run the receiver without being root")
    return steps
