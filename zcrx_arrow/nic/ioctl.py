# SPDX-License-Identifier: Apache-2.0
"""
The ethtool ioctl, for what netlink does not have, or has on new kernels only.

The driver's name, RSS tables and contexts, and (in rules.py) flow rules.

Layouts and numbers: include/uapi/linux/ethtool.h; the call: SIOCETHTOOL, net/ethtool/ioctl.c.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from typing import Final

from zcrx_arrow.nic.state import Driver, Rss

__all__ = [
    "call",
    "create_context",
    "delete_context",
    "driver",
    "rss",
    "set_rss",
]

_SIOCETHTOOL: Final = 0x8946
_IFNAMSIZ: Final = 16
_GDRVINFO: Final = 0x03
_GRSSH: Final = 0x46
_SRSSH: Final = 0x47
_NEW_CONTEXT: Final = 0xFFFFFFFF  # ETH_RXFH_CONTEXT_ALLOC
_XFRM_NO_CHANGE: Final = 0xFF  # RXH_XFRM_NO_CHANGE
# struct ethtool_drvinfo: cmd, driver, version, fw_version, bus_info, erom_version, then counts
_DRVINFO: Final = struct.Struct("=I32s32s32s32s32s12x5I")
# struct ethtool_rxfh: cmd, rss_context, indir_size, key_size, hfunc, input_xfrm, 2 + 4 reserved;
# rss_config follows: indir_size u32, key_size bytes
_RXFH: Final = struct.Struct("=IIIIBB2xI")


def call(interface: str, request: bytes) -> bytes:
    """
    Ask; give the buffer as the kernel left it.

    Parameters
    ----------
    interface : str
        In the network namespace of this thread.
    request : bytes
        Begins with the command, and is as long as the answer may be.

    Raises
    ------
    OSError
        What the kernel answers; the interface is its filename.
    """
    if len(os.fsencode(interface)) >= _IFNAMSIZ:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), interface)
    buffer = ctypes.create_string_buffer(request, len(request))
    ifreq = struct.pack("=16sQ16x", os.fsencode(interface), ctypes.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        try:
            fcntl.ioctl(control, _SIOCETHTOOL, ifreq)
        except OSError as error:
            raise OSError(error.errno, error.strerror, interface) from None
    return buffer.raw


def driver(interface: str) -> Driver:
    """Read who drives the interface (ETHTOOL_GDRVINFO); raises `OSError`."""
    answer = _DRVINFO.unpack(call(interface, _DRVINFO.pack(_GDRVINFO, *[b""] * 5, *[0] * 5)))
    name, version, firmware, bus = (
        field.split(b"\0")[0].decode(errors="replace") for field in answer[1:5]
    )
    return Driver(name=name, version=version, firmware=firmware, bus=bus)


def rss(interface: str, context: int = 0) -> Rss:
    """
    Read an RSS table (ETHTOOL_GRSSH).

    Raises
    ------
    OSError
        EOPNOTSUPP: the driver has none; ENOENT: there is no such context.
    """
    head = call(interface, _RXFH.pack(_GRSSH, context, 0, 0, 0, 0, 0))
    _, _, entries, key_bytes, _, _, _ = _RXFH.unpack(head[: _RXFH.size])
    room = bytes(4 * entries + key_bytes)
    answer = call(interface, _RXFH.pack(_GRSSH, context, entries, key_bytes, 0, 0, 0) + room)
    _, _, entries, key_bytes, function, _, _ = _RXFH.unpack(answer[: _RXFH.size])
    table = struct.unpack_from(f"={entries}I", answer, _RXFH.size)
    key = answer[_RXFH.size + 4 * entries :][:key_bytes]
    return Rss(context=context, table=table, key=key.hex(), function=function)


def _change(context: int, table: tuple[int, ...]) -> bytes:
    head = _RXFH.pack(_SRSSH, context, len(table), 0, 0, _XFRM_NO_CHANGE, 0)
    return head + struct.pack(f"={len(table)}I", *table)


def set_rss(interface: str, table: tuple[int, ...]) -> None:
    """Set the table of the interface; an empty one stands for the driver's default."""
    call(interface, _change(0, table))


def create_context(interface: str, table: tuple[int, ...]) -> int:
    """Make an RSS context; gives its number."""
    answer = call(interface, _change(_NEW_CONTEXT, table))
    number: int = _RXFH.unpack(answer[: _RXFH.size])[1]
    return number


def delete_context(interface: str, context: int) -> None:
    """Remove an RSS context; no rule may name it."""
    call(interface, _change(context, ()))
