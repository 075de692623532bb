# SPDX-License-Identifier: Apache-2.0
"""
What is missing for zero-copy receive, found out before the kernel is asked.

The registration of an area answers with a bare errno, and without the sentence that other netlink
calls give. So everything that can be known beforehand is looked at here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zcrx_arrow.config import Area, NicQueue, parse_size
from zcrx_arrow.errors import ConfigError, UnsupportedError, ZcrxError
from zcrx_arrow.nic.drivers import HARDWARE, quirks_of
from zcrx_arrow.probe import probe

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Finding", "explain", "findings", "require"]

CAP_NET_ADMIN: Final = 12
CAP_IPC_LOCK: Final = 14
_WHOLE_ID_RANGE: Final = "4294967295"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Something that stands in the way.

    Attributes
    ----------
    number : int
        The errno that the kernel would give, or gives.
    cause, remedy : str
        In words.
    certain : bool
        Whether registering is bound to fail; else it only explains a failure.
    """

    number: int
    cause: str
    remedy: str
    certain: bool = True


def findings(nic: NicQueue | None, area: Area) -> list[Finding]:
    """
    Look for everything that stands in the way.

    Parameters
    ----------
    nic : NicQueue or None
        None for ``nodev``.
    area : Area
        With its size and pages.

    Returns
    -------
    list of Finding
        The likeliest first; empty if nothing was found.
    """
    found = [*_privileges(), *_kernel(nodev=nic is None), *_memory(area)]
    if nic is not None:
        found += _interface(nic)
    return found


def require(nic: NicQueue, area: Area) -> None:
    """
    Raise if registering is bound to fail.

    Raises
    ------
    UnsupportedError
        With the first cause and its remedy; further ones follow in the remedy.
    """
    certain = [finding for finding in findings(nic, area) if finding.certain]
    if certain:
        raise _error(certain, f"zero-copy receive on {nic} is not possible: ")


def explain(error: ZcrxError, nic: NicQueue | None, area: Area) -> ZcrxError:
    """Give the error with what was found about its cause."""
    if isinstance(error, ConfigError):
        return error
    found = [finding for finding in findings(nic, area) if finding.number == error.errno]
    if error.errno == errno.EEXIST and nic is not None:
        found += _holder(nic)
    if not found:
        return error
    return _error(found, f"{error.strerror}: ", kind=type(error), step=error.step)


def _error(
    found: list[Finding],
    prefix: str,
    kind: type[ZcrxError] = UnsupportedError,
    step: str = "preflight",
) -> ZcrxError:
    first, *rest = found
    lines = [first.remedy, *(f"Also: {each.cause}. {each.remedy}" for each in rest)]
    return kind(first.number, f"{prefix}{first.cause}", step=step, remedy="\n".join(lines).strip())


def has_capability(number: int) -> bool:
    """Whether this thread has a capability in effect (CapEff of proc(5))."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def in_initial_user_namespace() -> bool:
    """Whether the ids of this process are those of the machine (user_namespaces(7))."""
    try:
        return Path("/proc/self/uid_map").read_text().split() == ["0", "0", _WHOLE_ID_RANGE]
    except OSError:
        return True


def _privileges() -> Iterator[Finding]:
    if not has_capability(CAP_NET_ADMIN):
        yield Finding(
            errno.EPERM,
            "this process lacks CAP_NET_ADMIN",
            "Run it as root, or give it the capability: 'setcap cap_net_admin+ep' on the "
            "interpreter, or AmbientCapabilities=CAP_NET_ADMIN in a systemd unit.",
        )
    if not in_initial_user_namespace():
        yield Finding(
            errno.EPERM,
            "this process runs in a user namespace, where CAP_NET_ADMIN does not count",
            "Run it outside of the rootless container, or in one that keeps the machine's user "
            "namespace (--userns=host).",
        )


def _kernel(*, nodev: bool) -> Iterator[Finding]:
    features = probe()
    code = features.zcrx_ring or (features.nodev if nodev else features.zcrx)
    if code in (None, "EPERM"):
        return
    number = getattr(errno, code or "", errno.EOPNOTSUPP)
    if features.io_uring:
        yield Finding(
            number,
            f"io_uring cannot be set up ({features.io_uring})",
            "Look at 'sysctl kernel.io_uring_disabled' and, in a container, at its seccomp "
            "profile.",
        )
    elif nodev and not features.zcrx:
        yield Finding(
            number,
            "this kernel has zero-copy receive, but not without a device",
            "Linux 7.1 or newer has it. Use transport='copy', or zcrx with a NIC.",
        )
    elif code in ("EINVAL", "EOPNOTSUPP"):
        yield Finding(
            number,
            "this kernel has no zero-copy receive",
            "Linux 6.15 or newer with CONFIG_IO_URING_ZCRX has it (7.1 for nodev). "
            "transport='copy' works from 6.0 on.",
        )


def _memory(area: Area) -> Iterator[Finding]:
    size = parse_size(area.size)
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not has_capability(CAP_IPC_LOCK) and 0 <= soft < size:
        yield Finding(
            errno.ENOMEM,
            f"the area of {size} bytes counts as locked memory, and RLIMIT_MEMLOCK is {soft}",
            f"Raise it to {size + (4 << 20)} or more ('ulimit -l', LimitMEMLOCK= of a systemd "
            "unit), give the process CAP_IPC_LOCK, or ask for a smaller area.",
        )
    if area.huge_pages:
        free, page = huge_pages()
        need = -(-size // page) if page else 0
        if not page or free < need:
            yield Finding(
                errno.ENOMEM,
                f"the area needs {need} huge pages of {page >> 20} MiB, and {free} are free",
                f"Reserve them: 'sysctl vm.nr_hugepages={need}', best soon after boot.",
            )


def huge_pages() -> tuple[int, int]:
    """Free huge pages, and bytes of one (/proc/meminfo)."""
    values = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0])
    return values.get("HugePages_Free", 0), values.get("Hugepagesize", 0) << 10


def _interface(nic: NicQueue) -> Iterator[Finding]:
    try:
        socket.if_nametoindex(nic.interface)
    except OSError:
        names = ", ".join(name for _, name in socket.if_nameindex())
        yield Finding(
            errno.ENODEV,
            f"there is no interface {nic.interface!r} in this network namespace",
            f"There are: {names}. 'ip netns identify {os.getpid()}' says which namespace this is.",
        )
        return
    yield from _driver(nic.interface)
    yield from _queues(nic)
    yield from _split(nic.interface)
    yield from _occupied(nic)


def driver_of(interface: str) -> str | None:
    """Name of an interface's driver; None for one without a device, such as ``lo``."""
    with contextlib.suppress(OSError):
        return Path(f"/sys/class/net/{interface}/device/driver").readlink().name
    return None


def _driver(interface: str) -> Iterator[Finding]:
    driver = driver_of(interface)
    if driver is None:
        yield Finding(
            errno.EOPNOTSUPP,
            f"{interface} is no hardware: nothing that could write into memory",
            "Give a NIC's interface, use transport='copy', or 'nodev' to try the interface.",
            certain=not Path(f"/sys/class/net/{interface}/device").exists(),
        )
    elif not quirks_of(driver).known:
        yield Finding(
            errno.EOPNOTSUPP,
            f"the driver {driver} of {interface} is not known to have queue management",
            f"Linux 7.3 has it in {HARDWARE}. Use transport='copy'.",
            certain=False,
        )


def _queues(nic: NicQueue) -> Iterator[Finding]:
    count = len(list(Path(f"/sys/class/net/{nic.interface}/queues").glob("rx-*")))
    if count and nic.queue >= count:
        yield Finding(
            errno.ERANGE,
            f"{nic.interface} has {count} receive queue{'s' * (count != 1)}, numbered from 0: "
            f"there is no queue {nic.queue}",
            f"'ethtool -L {nic.interface} combined {nic.queue + 1}' makes more, if the NIC can.",
        )


def _split(interface: str) -> Iterator[Finding]:
    from zcrx_arrow.nic import netlink  # noqa: PLC0415 - imports asyncio and more, rarely needed

    try:
        rings = netlink.rings(interface)
    except OSError as error:
        yield Finding(
            errno.EOPNOTSUPP,
            f"{interface} has no ring settings, so no header/data split ({error.strerror})",
            "The NIC must be able to put headers and payloads into different memory.",
            certain=False,
        )
        return
    if rings.tcp_data_split != "on":
        yield Finding(
            errno.EINVAL,
            f"header/data split of {interface} is {rings.tcp_data_split or 'not set'}",
            f"'ethtool -G {interface} tcp-data-split on' (mlx5: first 'ethtool -K {interface} "
            f"rx-gro-hw on'); 'zcrx-arrow nic apply {interface} --port PORT' does all it takes.",
            certain=rings.tcp_data_split == "off",
        )
    if rings.hds_thresh:
        yield Finding(
            errno.EINVAL,
            f"hds-thresh of {interface} is {rings.hds_thresh}: small payloads would stay with "
            "the headers",
            f"'ethtool -G {interface} hds-thresh 0'.",
        )


def _occupied(nic: NicQueue) -> Iterator[Finding]:
    from zcrx_arrow.nic import netlink  # noqa: PLC0415 - as above

    with contextlib.suppress(OSError, ValueError):
        program = netlink.xdp_program(nic.interface)
        if program is not None:
            yield Finding(
                errno.EEXIST,
                f"an XDP program{f' (id {program})' if program else ''} is attached to "
                f"{nic.interface}",
                f"'ip link set {nic.interface} xdp off', if nobody needs it.",
            )


def _holder(nic: NicQueue) -> Iterator[Finding]:
    """Who has the queue, once waiting for it was in vain."""
    from zcrx_arrow.nic import netlink  # noqa: PLC0415 - as above

    with contextlib.suppress(OSError):
        holder = netlink.queue(nic.interface, nic.queue).holder
        if holder is not None:
            processes = ", ".join(ring_owners()) if holder == "io_uring" else ""
            yield Finding(
                errno.EEXIST,
                f"queue {nic.queue} of {nic.interface} is held by {holder}"
                + (f"; processes with an io_uring: {processes}" if processes else ""),
                "End that process, or take another queue.",
            )


def _links(process: Path) -> set[str]:
    """Give what the descriptors of a process refer to, as far as we may look."""
    links = set()
    with contextlib.suppress(OSError):
        for fd in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                links.add(str(fd.readlink()))
    return links


def ring_owners() -> list[str]:
    """List the processes that have an io_uring or an exported registration open."""
    owners = []
    for process in Path("/proc").glob("[0-9]*"):
        if _links(process) & {"anon_inode:[io_uring]", "anon_inode:[zcrx]"}:
            with contextlib.suppress(OSError):
                owners.append(f"{process.name} ({(process / 'comm').read_text().strip()})")
    return owners
