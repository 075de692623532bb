# SPDX-License-Identifier: Apache-2.0
"""
What the kernel says of an interface and takes for it, by netlink.

Families ``ethtool`` (include/uapi/linux/ethtool_netlink_generated.h), ``netdev``
(include/uapi/linux/netdev.h) and rtnetlink (if_link.h); attributes that pyroute2 does not know are
declared here, by the numbers of Linux 7.3. Errors carry the kernel's own sentence, if it has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pyroute2 import GenericNetlinkSocket, IPRoute
from pyroute2.netlink import NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, genlmsg, nla
from pyroute2.netlink.exceptions import NetlinkError

from zcrx_arrow.nic.state import Channels, Features, QueueState, Rings, Split

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Link",
    "channels",
    "features",
    "link",
    "queue",
    "queues",
    "rings",
    "set_channels",
    "set_feature",
    "set_rings",
    "xdp_program",
]

_T = TypeVar("_T")

_RINGS_GET: Final = 15  # ETHTOOL_MSG_RINGS_GET
_RINGS_SET: Final = 16  # ETHTOOL_MSG_RINGS_SET
_FEATURES_GET: Final = 11  # ETHTOOL_MSG_FEATURES_GET
_FEATURES_SET: Final = 12  # ETHTOOL_MSG_FEATURES_SET
_CHANNELS_GET: Final = 17  # ETHTOOL_MSG_CHANNELS_GET
_CHANNELS_SET: Final = 18  # ETHTOOL_MSG_CHANNELS_SET
_QUEUE_GET: Final = 10  # NETDEV_CMD_QUEUE_GET
_NAPI_GET: Final = 11  # NETDEV_CMD_NAPI_GET
_QUEUE_TYPE_RX: Final = 0  # NETDEV_QUEUE_TYPE_RX
# ETHTOOL_TCP_DATA_SPLIT_UNKNOWN, _DISABLED, _ENABLED; to set, the first stands for the default
_SPLIT: Final[tuple[Split, ...]] = ("auto", "off", "on")
_REQUEST: Final = NLM_F_REQUEST | NLM_F_ACK
_IFF_UP: Final = 1
_COMPACT_BITSETS: Final = 1  # ETHTOOL_FLAG_COMPACT_BITSETS, for the answer


class _Header(nla):  # type: ignore[misc]
    """ETHTOOL_A_HEADER_*."""

    nla_flags = NLA_F_NESTED
    nla_map = (
        ("HEADER_UNSPEC", "none"),
        ("HEADER_DEV_INDEX", "uint32"),
        ("HEADER_DEV_NAME", "asciiz"),
        ("HEADER_FLAGS", "uint32"),
    )


class _RingsMessage(genlmsg):  # type: ignore[misc]
    """ETHTOOL_A_RINGS_*."""

    prefix = "RINGS_"
    nla_map = (
        ("RINGS_UNSPEC", "none"),
        ("RINGS_HEADER", "device"),
        ("RINGS_RX_MAX", "uint32"),
        ("RINGS_RX_MINI_MAX", "uint32"),
        ("RINGS_RX_JUMBO_MAX", "uint32"),
        ("RINGS_TX_MAX", "uint32"),
        ("RINGS_RX", "uint32"),
        ("RINGS_RX_MINI", "uint32"),
        ("RINGS_RX_JUMBO", "uint32"),
        ("RINGS_TX", "uint32"),
        ("RINGS_RX_BUF_LEN", "uint32"),
        ("RINGS_TCP_DATA_SPLIT", "uint8"),
        *((f"RINGS_{number}", "hex") for number in range(12, 17)),
        ("RINGS_HDS_THRESH", "uint32"),
        ("RINGS_HDS_THRESH_MAX", "uint32"),
    )
    device = _Header


class _ChannelsMessage(genlmsg):  # type: ignore[misc]
    """ETHTOOL_A_CHANNELS_*."""

    prefix = "CHANNELS_"
    nla_map = (
        ("CHANNELS_UNSPEC", "none"),
        ("CHANNELS_HEADER", "device"),
        ("CHANNELS_RX_MAX", "uint32"),
        ("CHANNELS_TX_MAX", "uint32"),
        ("CHANNELS_OTHER_MAX", "uint32"),
        ("CHANNELS_COMBINED_MAX", "uint32"),
        ("CHANNELS_RX_COUNT", "uint32"),
        ("CHANNELS_TX_COUNT", "uint32"),
        ("CHANNELS_OTHER_COUNT", "uint32"),
        ("CHANNELS_COMBINED_COUNT", "uint32"),
    )
    device = _Header


class _Bitset(nla):  # type: ignore[misc]
    """ETHTOOL_A_BITSET_*."""

    nla_flags = NLA_F_NESTED
    nla_map = (
        ("BITSET_UNSPEC", "none"),
        ("BITSET_NOMASK", "flag"),
        ("BITSET_SIZE", "uint32"),
        ("BITSET_BITS", "bits"),
        ("BITSET_VALUE", "hex"),
        ("BITSET_MASK", "hex"),
    )

    class bits(nla):  # type: ignore[misc]  # noqa: N801 - named in nla_map
        """ETHTOOL_A_BITSET_BITS_*."""

        nla_flags = NLA_F_NESTED
        nla_map = (("BITS_UNSPEC", "none"), ("BITS_BIT", "bit"))

        class bit(nla):  # type: ignore[misc]  # noqa: N801 - named in nla_map
            """ETHTOOL_A_BITSET_BIT_*."""

            nla_flags = NLA_F_NESTED
            nla_map = (
                ("BIT_UNSPEC", "none"),
                ("BIT_INDEX", "uint32"),
                ("BIT_NAME", "asciiz"),
                ("BIT_VALUE", "flag"),
            )


class _FeaturesMessage(genlmsg):  # type: ignore[misc]
    """ETHTOOL_A_FEATURES_*."""

    prefix = "FEATURES_"
    nla_map = (
        ("FEATURES_UNSPEC", "none"),
        ("FEATURES_HEADER", "device"),
        ("FEATURES_HW", "bitset"),
        ("FEATURES_WANTED", "bitset"),
        ("FEATURES_ACTIVE", "bitset"),
        ("FEATURES_NOCHANGE", "bitset"),
    )
    device = _Header
    bitset = _Bitset


class _QueueMessage(genlmsg):  # type: ignore[misc]
    """NETDEV_A_QUEUE_*."""

    nla_map = (
        ("QUEUE_UNSPEC", "none"),
        ("QUEUE_ID", "uint32"),
        ("QUEUE_IFINDEX", "uint32"),
        ("QUEUE_TYPE", "uint32"),
        ("QUEUE_NAPI_ID", "uint32"),
        ("QUEUE_DMABUF", "hex"),
        ("QUEUE_IO_URING", "hex"),
        ("QUEUE_XSK", "hex"),
    )


class _NapiMessage(genlmsg):  # type: ignore[misc]
    """NETDEV_A_NAPI_*."""

    nla_map = (
        ("NAPI_UNSPEC", "none"),
        ("NAPI_IFINDEX", "uint32"),
        ("NAPI_ID", "uint32"),
        ("NAPI_IRQ", "uint32"),
    )


@dataclass(frozen=True, slots=True)
class Link:
    """What rtnetlink says of an interface."""

    index: int
    up: bool
    xdp: int | None
    """The id of the XDP program, 0 if it is not told."""


def _outside_of_event_loops(ask: Callable[[], _T]) -> _T:
    """
    Run what has an event loop of its own, as pyroute2 does, also where one is running: a notebook.

    A thread begins in the network namespace of the one that starts it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return ask()
    with ThreadPoolExecutor(1) as helper:
        return helper.submit(ask).result()


def _ask(family: str, message: Any, command: int, flags: int = _REQUEST) -> list[Any]:
    """Ask once; raises `OSError` with the kernel's own sentence, if it has one."""
    message["cmd"] = command
    message["version"] = 1

    def ask() -> list[Any]:
        with GenericNetlinkSocket(ext_ack=True) as asker:
            asker.bind(family, type(message))
            return list(asker.nlm_request(message, msg_type=asker.prid, msg_flags=flags))

    try:
        return _outside_of_event_loops(ask)
    except NetlinkError as error:
        raise OSError(error.code, error.args[-1]) from error


def _ethtool(
    kind: type, prefix: str, interface: str, *attributes: tuple[str, Any], flags: int | None = None
) -> Any:
    message = kind()
    header: list[tuple[str, Any]] = [("HEADER_DEV_NAME", interface)]
    if flags is not None:
        header.append(("HEADER_FLAGS", flags))
    message["attrs"] = [(f"{prefix}_HEADER", {"attrs": header}), *attributes]
    return message


def rings(interface: str) -> Rings:
    """
    Read ring sizes and header/data split (ETHTOOL_MSG_RINGS_GET).

    Raises
    ------
    OSError
        What the kernel answers: EOPNOTSUPP from drivers that have no ring settings.
    """
    answer = _ask("ethtool", _ethtool(_RingsMessage, "RINGS", interface), _RINGS_GET)[0]
    split = answer.get_attr("RINGS_TCP_DATA_SPLIT")
    return Rings(
        tcp_data_split=_SPLIT[split] if split is not None and split < len(_SPLIT) else None,
        hds_thresh=answer.get_attr("RINGS_HDS_THRESH"),
        hds_thresh_max=answer.get_attr("RINGS_HDS_THRESH_MAX"),
        rx=answer.get_attr("RINGS_RX"),
        rx_max=answer.get_attr("RINGS_RX_MAX"),
        tx=answer.get_attr("RINGS_TX"),
        tx_max=answer.get_attr("RINGS_TX_MAX"),
    )


def set_rings(interface: str, *, split: Split | None = None, hds_thresh: int | None = None) -> None:
    """
    Set header/data split (ETHTOOL_MSG_RINGS_SET); what is None stays.

    Raises
    ------
    OSError
        With the kernel's sentence. EINVAL: split cannot be switched off while a queue is bound.
    """
    attributes: list[tuple[str, int]] = []
    if split is not None:
        attributes.append(("RINGS_TCP_DATA_SPLIT", _SPLIT.index(split)))
    if hds_thresh is not None:
        attributes.append(("RINGS_HDS_THRESH", hds_thresh))
    _ask("ethtool", _ethtool(_RingsMessage, "RINGS", interface, *attributes), _RINGS_SET)


def channels(interface: str) -> Channels:
    """Read how many queues there are (ETHTOOL_MSG_CHANNELS_GET); raises `OSError`."""
    answer = _ask("ethtool", _ethtool(_ChannelsMessage, "CHANNELS", interface), _CHANNELS_GET)[0]

    def number(name: str) -> int:
        return answer.get_attr(f"CHANNELS_{name}") or 0

    return Channels(
        rx=number("RX_COUNT"),
        tx=number("TX_COUNT"),
        other=number("OTHER_COUNT"),
        combined=number("COMBINED_COUNT"),
        rx_max=number("RX_MAX"),
        tx_max=number("TX_MAX"),
        other_max=number("OTHER_MAX"),
        combined_max=number("COMBINED_MAX"),
    )


def set_channels(interface: str, *, combined: int | None = None, rx: int | None = None) -> None:
    """
    Set how many queues there are (ETHTOOL_MSG_CHANNELS_SET); what is None stays.

    Raises
    ------
    OSError
        With the kernel's sentence. EINVAL: a queue that would go is bound, or a rule or an RSS
        table leads to it.
    """
    attributes: list[tuple[str, int]] = []
    if rx is not None:
        attributes.append(("CHANNELS_RX_COUNT", rx))
    if combined is not None:
        attributes.append(("CHANNELS_COMBINED_COUNT", combined))
    _ask("ethtool", _ethtool(_ChannelsMessage, "CHANNELS", interface, *attributes), _CHANNELS_SET)


def _names(bitset: Any, *, of_value: bool) -> frozenset[str]:
    """Names in a bitset: of all bits it lists, or of those that are on."""
    bits = bitset.get_attr("BITSET_BITS") if bitset is not None else None
    if bits is None:
        return frozenset()
    return frozenset(
        bit.get_attr("BIT_NAME")
        for bit in bits.get_attrs("BITS_BIT")
        if not of_value or bit.get_attr("BIT_VALUE") is not None
    )


def features(interface: str) -> Features:
    """Read which features there are and which are on (ETHTOOL_MSG_FEATURES_GET)."""
    answer = _ask("ethtool", _ethtool(_FeaturesMessage, "FEATURES", interface), _FEATURES_GET)[0]
    fixed = _names(answer.get_attr("FEATURES_NOCHANGE"), of_value=False)
    return Features(
        active=_names(answer.get_attr("FEATURES_ACTIVE"), of_value=False),
        changeable=_names(answer.get_attr("FEATURES_HW"), of_value=True) - fixed,
    )


def set_feature(interface: str, name: str, *, on: bool) -> None:
    """
    Switch a feature (ETHTOOL_MSG_FEATURES_SET).

    The kernel answers success even if it did not: read it back.
    """
    bit: list[tuple[str, Any]] = [("BIT_NAME", name)]
    if on:
        bit.append(("BIT_VALUE", None))
    bits = {"attrs": [("BITSET_BITS", {"attrs": [("BITS_BIT", {"attrs": bit})]})]}
    wanted = ("FEATURES_WANTED", bits)
    message = _ethtool(_FeaturesMessage, "FEATURES", interface, wanted, flags=_COMPACT_BITSETS)
    _ask("ethtool", message, _FEATURES_SET)


_HOLDERS: Final = (
    ("QUEUE_IO_URING", "io_uring"),
    ("QUEUE_XSK", "AF_XDP"),
    ("QUEUE_DMABUF", "devmem"),
)


def _queue_of(answer: Any) -> QueueState:
    held = (name for key, name in _HOLDERS if answer.get_attr(key) is not None)
    return QueueState(
        number=answer.get_attr("QUEUE_ID"),
        napi_id=answer.get_attr("QUEUE_NAPI_ID"),
        holder=next(held, None),
    )


def queue(interface: str, number: int) -> QueueState:
    """
    Read who uses a receive queue (NETDEV_CMD_QUEUE_GET, Linux 6.8).

    Raises
    ------
    OSError
        What the kernel answers: ENOENT for a queue that does not exist or is not up.
    """
    message = _QueueMessage()
    message["attrs"] = [
        ("QUEUE_IFINDEX", socket.if_nametoindex(interface)),
        ("QUEUE_TYPE", _QUEUE_TYPE_RX),
        ("QUEUE_ID", number),
    ]
    return _queue_of(_ask("netdev", message, _QUEUE_GET)[0])


def queues(interface: str) -> tuple[QueueState, ...]:
    """Read all receive queues, with the interrupts of their NAPIs (NETDEV_CMD_NAPI_GET)."""
    message = _QueueMessage()
    index = socket.if_nametoindex(interface)
    message["attrs"] = [("QUEUE_IFINDEX", index)]
    found = _ask("netdev", message, _QUEUE_GET, NLM_F_REQUEST | NLM_F_DUMP)
    receiving = [each for each in found if each.get_attr("QUEUE_TYPE") == _QUEUE_TYPE_RX]
    message = _NapiMessage()
    message["attrs"] = [("NAPI_IFINDEX", index)]
    napis = _ask("netdev", message, _NAPI_GET, NLM_F_REQUEST | NLM_F_DUMP)
    irqs = {each.get_attr("NAPI_ID"): each.get_attr("NAPI_IRQ") for each in napis}
    states = (_queue_of(each) for each in receiving)
    return tuple(
        QueueState(each.number, each.napi_id, each.holder, irqs.get(each.napi_id), None)
        for each in sorted(states, key=lambda state: state.number)
    )


def link(interface: str) -> Link:
    """
    Read whether an interface is up, and its XDP program (RTM_GETLINK, IFLA_XDP).

    Raises
    ------
    OSError
        ENODEV: there is none of this name in the network namespace of this thread.
    """

    def ask() -> Any:
        with IPRoute() as route:
            (found,) = route.get_links(socket.if_nametoindex(interface))
        return found

    try:
        found = _outside_of_event_loops(ask)
    except NetlinkError as error:
        raise OSError(error.code, error.args[-1], interface) from error
    except OSError as error:
        # if_nametoindex() gives no number before Python 3.13
        number = error.errno or errno.ENODEV
        raise OSError(number, os.strerror(number), interface) from None
    return Link(index=found["index"], up=bool(found["flags"] & _IFF_UP), xdp=_xdp_of(found))


def _xdp_of(found: Any) -> int | None:
    xdp = found.get_attr("IFLA_XDP")
    if xdp is None or not xdp.get_attr("IFLA_XDP_ATTACHED"):
        return None
    program = xdp.get_attr("IFLA_XDP_PROG_ID")
    if isinstance(program, bytes):
        with contextlib.suppress(struct.error):
            (program,) = struct.unpack("=I", program)
    return int(program or 0)


def xdp_program(interface: str) -> int | None:
    """Give the id of the XDP program that is attached to an interface, 0 if it is not told."""
    return link(interface).xdp
