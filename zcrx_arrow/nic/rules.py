# SPDX-License-Identifier: Apache-2.0
"""
Flow rules: which receive queue gets which connections.

The ethtool ioctl's struct ethtool_rxnfc (192 bytes) and struct ethtool_rx_flow_spec (168 bytes) of
include/uapi/linux/ethtool.h; netlink has no calls for them.
"""

from __future__ import annotations

import errno
import ipaddress
import struct
from typing import Final

from zcrx_arrow.nic.ioctl import call
from zcrx_arrow.nic.state import Match, Rule

__all__ = ["capacity", "delete", "insert", "listed", "parse", "specification"]

_RULE_COUNT: Final = 0x2E  # ETHTOOL_GRXCLSRLCNT
_RULE_GET: Final = 0x2F  # ETHTOOL_GRXCLSRULE
_RULE_LIST: Final = 0x30  # ETHTOOL_GRXCLSRLALL
_RULE_DELETE: Final = 0x31  # ETHTOOL_SRXCLSRLDEL
_RULE_INSERT: Final = 0x32  # ETHTOOL_SRXCLSRLINS
_TCP_V4_FLOW: Final = 0x01
_TCP_V6_FLOW: Final = 0x05
_FLOW_RSS: Final = 0x20000000
_PLACE_FOR_CHOICE: Final = 0x80000000  # RX_CLS_LOC_SPECIAL: the driver can choose a place
_ANY_PLACE: Final = 0xFFFFFFFF  # RX_CLS_LOC_ANY

# cmd, flow_type, data, fs, rule_cnt or rss_context; rule_locs[] begins behind it
_RXNFC: Final = struct.Struct("=IIQ168sI4x")
_LOCATIONS_AT: Final = 188
# The fields: flow_type, h_u, h_ext, m_u, m_ext, a hole, ring_cookie, location, a hole.
_SPEC: Final = struct.Struct("=I52s20s52s20s4xQI4x")
_V4: Final = struct.Struct("!4s4sHHB")
_V6: Final = struct.Struct("!16s16sHHB")


def _fields(match: Match) -> tuple[bytes, bytes]:
    """Give the values and the masks of a match; in a mask, ones count."""
    layout, size = (_V6, 16) if match.six else (_V4, 4)
    values: list[bytes | int] = []
    masks: list[bytes | int] = []
    for address in (match.source, match.destination):
        values.append(ipaddress.ip_address(address).packed if address else bytes(size))
        masks.append((b"\xff" if address else b"\0") * size)
    for port in (match.source_port, match.port):
        values.append(port or 0)
        masks.append(0xFFFF if port else 0)
    return tuple(layout.pack(*each, 0).ljust(52, b"\0") for each in (values, masks))  # type: ignore[return-value]


def specification(
    match: Match, queue: int, location: int = _ANY_PLACE, *, rss: bool = False
) -> bytes:
    """
    Pack a rule, 168 bytes.

    Parameters
    ----------
    match : Match
        What a packet must have.
    queue : int
        Where it goes; with `rss`, what is added to the queue that the context's table gives.
    location : int
        Place in the rule table.
    rss : bool
        Whether the rule belongs to an RSS context.
    """
    values, masks = _fields(match)
    flow = (_TCP_V6_FLOW if match.six else _TCP_V4_FLOW) | (_FLOW_RSS if rss else 0)
    return _SPEC.pack(flow, values, bytes(20), masks, bytes(20), queue, location)


def parse(spec: bytes, context: int) -> Rule:
    """Read a rule; of other than exact TCP matches only its place and where it leads."""
    flow, values, _, masks, _, cookie, location = _SPEC.unpack(spec)
    rule = Rule(
        location=location, queue=cookie & 0xFFFFFFFF, context=context if flow & _FLOW_RSS else None
    )
    kinds = {_TCP_V4_FLOW: (_V4, 4), _TCP_V6_FLOW: (_V6, 6)}
    if flow & ~_FLOW_RSS not in kinds or cookie >> 32:
        return rule
    layout, family = kinds[flow & ~_FLOW_RSS]
    addresses: list[str | None] = []
    ports: list[int | None] = []
    whole = True
    got = zip(
        layout.unpack(values[: layout.size]), layout.unpack(masks[: layout.size]), strict=True
    )
    for value, mask in got:
        if isinstance(value, bytes):
            whole &= mask in (bytes(len(mask)), b"\xff" * len(mask))
            addresses.append(str(ipaddress.ip_address(value)) if any(mask) else None)
        else:
            ports.append(value if mask else None)
            whole &= mask in (0, 0xFFFF)
    if not whole or ports.pop() is not None:
        return rule
    match = Match(
        family=family,
        source=addresses[0],
        destination=addresses[1],
        source_port=ports[0],
        port=ports[1],
    )
    return Rule(location=location, queue=rule.queue, context=rule.context, match=match)


def _ask(interface: str, command: int, spec: bytes, context: int = 0) -> bytes:
    return call(interface, _RXNFC.pack(command, 0, 0, spec, context))


def _count(interface: str) -> tuple[int, int]:
    """Read how many rules there are, and the table's size and flags, if the driver tells here."""
    _, _, data, _, count = _RXNFC.unpack(_ask(interface, _RULE_COUNT, bytes(168)))
    return count, data


def capacity(interface: str) -> int | None:
    """
    Read how many rules there may be; None if the driver does not tell.

    Raises
    ------
    OSError
        EOPNOTSUPP: the driver has no rules.
    """
    _, data = _count(interface)
    # Some tell it with the count, some (mlx5) with the list.
    return (data & 0x7FFFFFFF) or _locations(interface)[1] or None


def _locations(interface: str) -> tuple[list[int], int]:
    """List the places of rules, and the size that the driver gives with them."""
    for _ in range(8):
        count, _ = _count(interface)
        request = _RXNFC.pack(_RULE_LIST, 0, 0, bytes(168), count) + bytes(4 * count)
        try:
            answer = call(interface, request)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:  # somebody has added one in between
                raise
            continue
        _, _, size, _, found = _RXNFC.unpack(answer[: _RXNFC.size])
        places = struct.unpack_from(f"={min(found, count)}I", answer, _LOCATIONS_AT)
        return list(places), size & 0x7FFFFFFF
    raise OSError(errno.EAGAIN, "the rules change faster than they can be read", interface)


def listed(interface: str) -> tuple[Rule, ...]:
    """Read all rules, by place; raises `OSError` (EOPNOTSUPP: the driver has none)."""
    rules = []
    for location in sorted(_locations(interface)[0]):
        wanted = struct.pack("=160xI4x", location)
        try:
            answer = _ask(interface, _RULE_GET, wanted)
        except OSError as error:
            if error.errno != errno.ENOENT:  # else it went away in between
                raise
            continue
        _, _, _, spec, context = _RXNFC.unpack(answer)
        rules.append(parse(spec, context))
    return tuple(rules)


def _free_place(interface: str) -> int:
    """Find a place as the `ethtool` program does: the highest free one."""
    if _count(interface)[1] & _PLACE_FOR_CHOICE:
        return _ANY_PLACE
    places, size = _locations(interface)
    taken = set(places)
    for place in range(size - 1, -1, -1):
        if place not in taken:
            return place
    raise OSError(errno.ENOSPC, f"all {size} places for rules are taken", interface)


def insert(interface: str, match: Match, queue: int, context: int | None = None) -> int:
    """
    Add a rule; gives its place.

    Raises
    ------
    OSError
        ENOSPC: the table is full; EOPNOTSUPP: the driver has no rules, or not this kind.
    """
    spec = specification(match, queue, _free_place(interface), rss=context is not None)
    answer = _ask(interface, _RULE_INSERT, spec, context or 0)
    place: int = _SPEC.unpack(_RXNFC.unpack(answer)[3])[6]
    return place


def delete(interface: str, location: int) -> None:
    """Remove the rule at a place; raises `OSError`."""
    _ask(interface, _RULE_DELETE, struct.pack("=160xI4x", location))
