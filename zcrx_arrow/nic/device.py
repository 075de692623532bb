# SPDX-License-Identifier: Apache-2.0
"""An interface as the kernel has it: everything read, and everything that can be changed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zcrx_arrow.errors import ConfigError, UnsupportedError, ZcrxError
from zcrx_arrow.nic import ioctl, netlink, rules
from zcrx_arrow.nic.state import Interface, QueueState, Rss

if TYPE_CHECKING:
    from collections.abc import Callable

    from zcrx_arrow.nic.state import Channels, Features, Match, Rings, Rule, Split

__all__ = ["Device", "denied", "inspect"]

_MAX_CONTEXTS = 4096
_MISSES = 32
_NAME_MOST = 15  # IFNAMSIZ, with its end


def denied(error: OSError, what: str) -> ZcrxError:
    """Give the error for a refused change, with the capability if that is what is missing."""
    number = error.errno or errno.EIO
    words = error.strerror or os.strerror(number)
    if number in (errno.EPERM, errno.EACCES):
        return UnsupportedError(
            errno.EPERM,
            f"{what} needs CAP_NET_ADMIN in the user namespace of this network namespace",
            step="nic",
            remedy="Run it as root, or give it the capability: 'setcap cap_net_admin+ep' on the "
            "interpreter, or AmbientCapabilities=CAP_NET_ADMIN in a systemd unit.",
        )
    said = f": {words}" if words != os.strerror(number) else ""
    return ZcrxError(number, f"{what} is refused{said}", step="nic")


class Device:
    """
    One interface; each method is one question or one change.

    Reading needs no privilege, changing CAP_NET_ADMIN. Methods raise `OSError` with what the kernel
    says. Not thread-safe against other programs that change the same interface.

    Parameters
    ----------
    name : str
        In the network namespace of this thread.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    # --- read ---------------------------------------------------------------------------------

    def link(self) -> netlink.Link:
        """Read whether it is up, and its XDP program."""
        return netlink.link(self.name)

    def index(self) -> int | None:
        """Find its number; None: there is no such interface in this network namespace."""
        with contextlib.suppress(OSError, ValueError):
            return socket.if_nametoindex(self.name)
        return None

    @staticmethod
    def name_of(index: int) -> str | None:
        """Find what an interface is called; None: it is not in this network namespace."""
        with contextlib.suppress(OSError):
            return socket.if_indextoname(index)
        return None

    def channels(self) -> Channels:
        """Read how many queues there are."""
        return netlink.channels(self.name)

    def rings(self) -> Rings:
        """Read ring sizes and header/data split."""
        return netlink.rings(self.name)

    def features(self) -> Features:
        """Read the features."""
        return netlink.features(self.name)

    def rss(self, context: int = 0) -> Rss:
        """Read an RSS table."""
        return ioctl.rss(self.name, context)

    def contexts(self) -> tuple[Rss, ...]:
        """
        Read the RSS contexts.

        Their numbers cannot be listed on every kernel, so those are tried that may be: drivers
        give small ones, the kernel counts from 1 where they leave it the choice.
        """
        found: list[Rss] = []
        misses = 0
        for number in range(1, _MAX_CONTEXTS):
            try:
                found.append(self.rss(number))
                misses = 0
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                misses += 1
            if misses > _MISSES:
                break
        return tuple(found)

    def rules(self) -> tuple[Rule, ...]:
        """Read the flow rules."""
        return rules.listed(self.name)

    def rules_max(self) -> int | None:
        """Read how many flow rules there may be; None if the driver does not tell."""
        return rules.capacity(self.name)

    def queues(self) -> tuple[QueueState, ...]:
        """Read the receive queues, their NAPIs, interrupts and holders."""
        return tuple(
            dataclasses.replace(queue, cpus=_affinity(queue.irq))
            for queue in netlink.queues(self.name)
        )

    # --- change -------------------------------------------------------------------------------

    def set_channels(self, *, combined: int | None = None, rx: int | None = None) -> None:
        """Set how many queues there are."""
        netlink.set_channels(self.name, combined=combined, rx=rx)

    def set_feature(self, name: str, *, on: bool) -> None:
        """Switch a feature."""
        netlink.set_feature(self.name, name, on=on)

    def set_rings(self, *, split: Split | None = None, hds_thresh: int | None = None) -> None:
        """Set header/data split."""
        netlink.set_rings(self.name, split=split, hds_thresh=hds_thresh)

    def set_rss(self, table: tuple[int, ...]) -> None:
        """Set the RSS table; an empty one stands for the driver's default."""
        ioctl.set_rss(self.name, table)

    def create_context(self, table: tuple[int, ...]) -> int:
        """Make an RSS context; gives its number."""
        return ioctl.create_context(self.name, table)

    def delete_context(self, context: int) -> None:
        """Remove an RSS context."""
        ioctl.delete_context(self.name, context)

    def insert_rule(self, match: Match, queue: int, context: int | None) -> int:
        """Add a flow rule; gives its place."""
        return rules.insert(self.name, match, queue, context)

    def delete_rule(self, location: int) -> None:
        """Remove a flow rule."""
        rules.delete(self.name, location)

    # --- all ----------------------------------------------------------------------------------

    def inspect(self) -> Interface:
        """
        Read everything.

        Raises
        ------
        ZcrxError
            ENODEV: there is no such interface in this network namespace.
        ConfigError
            It is no name that an interface can have.
        """
        if not self.name or set(self.name) & set("/\0") or len(os.fsencode(self.name)) > _NAME_MOST:
            raise ConfigError(f"{self.name!r} is no name of an interface")
        try:
            link = self.link()
        except OSError as error:
            raise _no_such_interface(self.name, error) from None
        missing: dict[str, str] = {}

        def read(what: str, ask: Callable[[], Any]) -> Any:
            try:
                return ask()
            except OSError as error:
                missing[what] = error.strerror or str(error)
                return None

        driver = read("driver", lambda: ioctl.driver(self.name))
        rss = read("rss", self.rss)
        return Interface(
            name=self.name,
            index=link.index,
            up=link.up,
            driver=driver,
            channels=read("channels", self.channels),
            rings=read("rings", self.rings),
            features=read("features", self.features),
            rss=rss,
            contexts=(read("contexts", self.contexts) or ()) if rss is not None else (),
            rules=read("rules", self.rules),
            rules_max=read("rules", self.rules_max),
            xdp=link.xdp,
            queues=read("queues", self.queues) or (),
            numa_node=_numa_node(self.name),
            missing=missing,
        )


def inspect(interface: str) -> Interface:
    """
    Read everything that zero-copy receive depends on; changes nothing.

    Parameters
    ----------
    interface : str
        Its name, in the network namespace of this thread.

    Returns
    -------
    Interface
        What the kernel does not tell is None there, and ``missing`` says why.

    Raises
    ------
    ZcrxError
        ENODEV: there is no such interface.
    """
    return Device(interface).inspect()


def _affinity(irq: int | None) -> str | None:
    if irq is None:
        return None
    with contextlib.suppress(OSError):
        return Path(f"/proc/irq/{irq}/smp_affinity_list").read_text().strip()
    return None


def _numa_node(interface: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        node = int(Path(f"/sys/class/net/{interface}/device/numa_node").read_text())
        return None if node < 0 else node
    return None


def _no_such_interface(name: str, error: OSError) -> ZcrxError:
    if error.errno not in (errno.ENODEV, errno.ENXIO, errno.EINVAL):
        return denied(error, f"looking at {name}")
    here = ", ".join(each for _, each in socket.if_nameindex())
    elsewhere = _namespaces_with(name)
    remedy = f"There are: {here}."
    if elsewhere:
        remedy = (
            f"It is in the network namespace {elsewhere[0]}: run this there, with "
            f"'ip netns exec {elsewhere[0]} ...'."
        )
    return ZcrxError(
        errno.ENODEV,
        f"there is no interface {name!r} in this network namespace",
        step="nic",
        remedy=remedy,
    )


def _namespaces_with(name: str) -> list[str]:
    """Named network namespaces that have such an interface, as far as we may look."""
    from pyroute2 import NetNS, netns  # noqa: PLC0415 - starts a process; only for an error

    found = []
    for namespace in netns.listnetns():
        with contextlib.suppress(Exception), NetNS(namespace, flags=0) as there:
            if there.link_lookup(ifname=name):
                found.append(namespace)
    return found
