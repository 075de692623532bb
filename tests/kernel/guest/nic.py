# SPDX-License-Identifier: Apache-2.0
"""
A software NIC in the virtual machine, made ready by hand: what `ethtool` would do.

Layouts: include/uapi/linux/ethtool.h (ethtool_rxnfc is 192 bytes, its flow spec 168).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pyroute2 import NlEthtool
from pyroute2.netlink.generic.ethtool import ethtool_rings_msg

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = {4: "10.9.0.1", 6: "fd09::1"}
THERE = {4: "10.9.0.2", 6: "fd09::2"}
FAR = "far"

_SIOCETHTOOL = 0x8946
_SFLAGS, _SRXFHINDIR, _RULE_DELETE, _RULE_INSERT = 0x26, 0x39, 0x31, 0x32
_STRINGS, _STATS = 0x1B, 0x1D
_COUNT = (0x37, 0, 1 << 1, 0)  # ETHTOOL_GSSET_INFO of ETH_SS_STATS
_FLAG_NTUPLE = 1 << 27
_FLOWS = {4: 1, 6: 5}  # TCP_V4_FLOW, TCP_V6_FLOW
_ANY = 0xFFFFFFFF  # RX_CLS_LOC_ANY
_CLONE_NEWNET = 0x40000000
ANY_PORT = 0


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def _enter(namespace: str) -> None:
    with Path(namespace).open("rb") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")


@contextmanager
def far() -> Iterator[None]:
    """Have this thread make its sockets at the far end of the wire."""
    with Path("/proc/thread-self/ns/net").open("rb") as here:
        _enter(f"/run/netns/{FAR}")
        try:
            yield
        finally:
            _enter(f"/proc/self/fd/{here.fileno()}")


def _ethtool(interface: str, request: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(request, len(request))
    ifreq = struct.pack("16sP16x", interface.encode(), ctypes.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, ifreq)
    return buffer.raw


class _Rings(ethtool_rings_msg):
    """What pyroute2 lacks of ETHTOOL_A_RINGS_*: attributes 17 and 18."""

    nla_map = (
        *ethtool_rings_msg.nla_map,
        ("ETHTOOL_A_RINGS_HDS_THRESH", "uint32"),
        ("ETHTOOL_A_RINGS_HDS_THRESH_MAX", "uint32"),
    )


def _set_rings(interface: str, attribute: str, value: int) -> None:
    message = _Rings()
    message["attrs"] = [(f"ETHTOOL_A_RINGS_{attribute}", value)]
    with NlEthtool() as asker:
        asker.set_rings(message, ifname=interface)


def split(interface: str, state: str) -> None:
    """Set header/data split: "off" or "on"."""
    _set_rings(interface, "TCP_DATA_SPLIT", 2 if state == "on" else 1)


def hds_thresh(interface: str, size: int) -> None:
    """Payloads of so many bytes and fewer stay with the headers."""
    _set_rings(interface, "HDS_THRESH", size)


def channels(interface: str) -> int:
    """Read how many combined queues there are."""
    return struct.unpack_from("=I", _ethtool(interface, struct.pack("=9I", 0x3C, *[0] * 8)), 32)[0]


def set_channels(interface: str, count: int) -> None:
    """Set how many combined queues there are."""
    _ethtool(interface, struct.pack("=9I", 0x3D, *[0] * 7, count))


def spare(interface: str, queues: list[int]) -> None:
    """Have RSS use these queues only."""
    table = [queues[i % len(queues)] for i in range(128)]
    _ethtool(interface, struct.pack("=II128I", _SRXFHINDIR, 128, *table))


def steer(interface: str, port: int, queue: int) -> list[int]:
    """Send TCP to a port (or `ANY_PORT`), v4 and v6, to a queue; gives the rules' locations."""
    _ethtool(interface, struct.pack("=II", _SFLAGS, _FLAG_NTUPLE))
    locations = []
    for family, flow in _FLOWS.items():
        address = 4 if family == 4 else 16  # bytes; two of them, then the source's port
        match = struct.pack(f"={2 * address + 2}x2s", struct.pack("!H", port)).ljust(52, b"\0")
        bits = b"\0\0" if port == ANY_PORT else b"\xff\xff"
        mask = struct.pack(f"={2 * address + 2}x2s", bits).ljust(52, b"\0")
        spec = struct.pack("=I52s20x52s20x4xQI4x", flow, match, mask, queue, _ANY)
        answer = _ethtool(interface, struct.pack("=IIQ168sI4x", _RULE_INSERT, 0, 0, spec, 0))
        locations.append(struct.unpack_from("=I", answer, 16 + 160)[0])
    return locations


def forget(interface: str, locations: list[int]) -> None:
    """Remove rules."""
    for location in sorted(set(locations)):
        spec = struct.pack("=160xI4x", location)
        _ethtool(interface, struct.pack("=IIQ168sI4x", _RULE_DELETE, 0, 0, spec, 0))


def stats(interface: str) -> dict[str, int]:
    """Read the device's own counters, such as ``rx1_placed_bytes``."""
    count = struct.unpack_from("=I", _ethtool(interface, struct.pack("=IIQI", *_COUNT)), 16)[0]
    text = _ethtool(interface, struct.pack("=III", _STRINGS, 1, count) + bytes(32 * count))
    values = _ethtool(interface, struct.pack("=II", _STATS, count) + bytes(8 * count))
    names = [text[12 + 32 * i : 44 + 32 * i].rstrip(b"\0").decode() for i in range(count)]
    return dict(zip(names, struct.unpack_from(f"={count}Q", values, 8), strict=True))


def knob(interface: str, name: str, value: bool | int) -> None:
    """Set a fault of the device."""
    text = "NY"[value] if isinstance(value, bool) else str(value)
    Path(f"/sys/kernel/debug/zcsim/{interface}/{name}").write_text(text)


def ethtool(*arguments: str, there: bool = False) -> str:
    """Run the `ethtool` program, here or at the far end of the wire."""
    prefix = ("ip", "netns", "exec", FAR) if there else ()
    return run(*prefix, os.environ["ZCRX_ARROW_ETHTOOL"], *arguments)


def load(*, ready: bool = True, **parameters: int) -> None:
    """Load the module; zc0 is here, its peer zc1 in a network namespace of its own."""
    run("mountpoint", "-q", "/sys/kernel/debug")
    values = (f"{name}={value}" for name, value in parameters.items())
    run("insmod", os.environ["ZCRX_ARROW_ZCSIM"], *values)
    run("ip", "netns", "add", FAR)
    run("ip", "link", "set", "zc1", "netns", FAR)
    run("ip", "addr", "add", f"{HERE[4]}/24", "dev", "zc0")
    run("ip", "addr", "add", f"{HERE[6]}/64", "dev", "zc0", "nodad")
    run("ip", "link", "set", "zc0", "up")
    run("ip", "-n", FAR, "addr", "add", f"{THERE[4]}/24", "dev", "zc1")
    run("ip", "-n", FAR, "addr", "add", f"{THERE[6]}/64", "dev", "zc1", "nodad")
    run("ip", "-n", FAR, "link", "set", "zc1", "up")
    if ready:
        split("zc0", "on")
        spare("zc0", [0])


def unload() -> None:
    """Remove the module, whatever is bound to its devices."""
    run("rmmod", "zcsim")
    run("ip", "netns", "del", FAR)
