# SPDX-License-Identifier: Apache-2.0
"""
What the kernel says of an interface, by netlink.

Families ``ethtool`` (include/uapi/linux/ethtool_netlink.h) and ``netdev``
(include/uapi/linux/netdev.h); attributes that pyroute2 does not know are declared here, by the
numbers of Linux 7.3.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Any, Final

from pyroute2 import GenericNetlinkSocket, IPRoute
from pyroute2.netlink import NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST, genlmsg, nla
from pyroute2.netlink.exceptions import NetlinkError

__all__ = ["QueueState", "Rings", "queue", "rings", "xdp_program"]

_RINGS_GET: Final = 15  # ETHTOOL_MSG_RINGS_GET
_QUEUE_GET: Final = 10  # NETDEV_CMD_QUEUE_GET
_QUEUE_TYPE_RX: Final = 0  # NETDEV_QUEUE_TYPE_RX
_SPLIT: Final = {0: "unknown", 1: "disabled", 2: "enabled"}  # ETHTOOL_TCP_DATA_SPLIT_*
_REQUEST: Final = NLM_F_REQUEST | NLM_F_ACK


class _RingsMessage(genlmsg):  # type: ignore[misc]
    """ETHTOOL_A_RINGS_*."""

    prefix = "RINGS_"
    nla_map = (
        ("RINGS_UNSPEC", "none"),
        ("RINGS_HEADER", "device"),
        *((f"RINGS_{number}", "hex") for number in range(2, 11)),
        ("RINGS_TCP_DATA_SPLIT", "uint8"),
        *((f"RINGS_{number}", "hex") for number in range(12, 17)),
        ("RINGS_HDS_THRESH", "uint32"),
        ("RINGS_HDS_THRESH_MAX", "uint32"),
    )

    class device(nla):  # type: ignore[misc]  # noqa: N801 - named in nla_map
        """ETHTOOL_A_HEADER_*."""

        nla_flags = NLA_F_NESTED
        nla_map = (
            ("HEADER_UNSPEC", "none"),
            ("HEADER_DEV_INDEX", "uint32"),
            ("HEADER_DEV_NAME", "asciiz"),
        )


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


@dataclass(frozen=True, slots=True)
class Rings:
    """Header/data split of an interface."""

    tcp_data_split: str | None
    """``"enabled"``, ``"disabled"``, ``"unknown"`` (the driver decides), or None: not reported."""
    hds_thresh: int | None
    """Payloads of so many bytes and fewer stay with the headers; None: not reported."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """Who uses the memory of a receive queue."""

    napi_id: int | None
    holder: str | None
    """``"io_uring"``, ``"AF_XDP"``, ``"devmem"``, or None."""


def _ask(family: str, message: Any, command: int) -> list[Any]:
    """Ask once; raises `OSError` with the kernel's own sentence, if it has one."""
    message["cmd"] = command
    message["version"] = 1
    try:
        with GenericNetlinkSocket(ext_ack=True) as asker:
            asker.bind(family, type(message))
            return list(asker.nlm_request(message, msg_type=asker.prid, msg_flags=_REQUEST))
    except NetlinkError as error:
        raise OSError(error.code, error.args[-1]) from error


def rings(interface: str) -> Rings:
    """
    Read header/data split (ETHTOOL_MSG_RINGS_GET).

    Raises
    ------
    OSError
        What the kernel answers: EOPNOTSUPP from drivers that have no ring settings.
    """
    message = _RingsMessage()
    message["attrs"] = [("RINGS_HEADER", {"attrs": [("HEADER_DEV_NAME", interface)]})]
    answer = _ask("ethtool", message, _RINGS_GET)[0]
    split = answer.get_attr("RINGS_TCP_DATA_SPLIT")
    return Rings(
        tcp_data_split=None if split is None else _SPLIT.get(split, "unknown"),
        hds_thresh=answer.get_attr("RINGS_HDS_THRESH"),
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
    answer = _ask("netdev", message, _QUEUE_GET)[0]
    holders = (
        ("QUEUE_IO_URING", "io_uring"),
        ("QUEUE_XSK", "AF_XDP"),
        ("QUEUE_DMABUF", "devmem"),
    )
    return QueueState(
        napi_id=answer.get_attr("QUEUE_NAPI_ID"),
        holder=next((name for key, name in holders if answer.get_attr(key) is not None), None),
    )


def xdp_program(interface: str) -> int | None:
    """
    Give the id of the XDP program that is attached to an interface, 0 if its id is not told.

    IFLA_XDP of RTM_GETLINK (include/uapi/linux/if_link.h).
    """
    with IPRoute() as route:
        (link,) = route.get_links(socket.if_nametoindex(interface))
    xdp = link.get_attr("IFLA_XDP")
    if xdp is None or not xdp.get_attr("IFLA_XDP_ATTACHED"):
        return None
    program = xdp.get_attr("IFLA_XDP_PROG_ID")
    if isinstance(program, bytes):
        with contextlib.suppress(struct.error):
            (program,) = struct.unpack("=I", program)
    return int(program or 0)
