# SPDX-License-Identifier: Apache-2.0
"""Addresses: ``"host:port"``, ``"[::1]:port"`` or ``(host, port)``."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from zcrx_arrow.errors import ConfigError, ZcrxError

__all__ = ["Address", "parse_address", "resolve"]

Address = str | tuple[str, int]

_MAX_PORT = 65535
_ATTACH_REUSEPORT_CBPF = 51  # include/uapi/asm-generic/socket.h
# include/uapi/linux/bpf_common.h; SKF_AD_OFF + SKF_AD_QUEUE of include/uapi/linux/filter.h
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_QUEUE = (-0x1000 + 24) & 0xFFFFFFFF


def parse_address(address: Address) -> tuple[str, int]:
    """
    Split an address into host and port; an empty host means every local address.

    Raises
    ------
    ConfigError
        If it is not of the form that its message gives.
    """
    if isinstance(address, str):
        host, colon, port = address.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ConfigError(f"address={address!r}: write an IPv6 address as '[::1]:9000'")
        if not colon or not port.isascii() or not port.isdigit():
            raise ConfigError(f"address={address!r} must be 'host:port' or (host, port)")
        number = int(port)
    else:
        try:
            host, number = address
        except (TypeError, ValueError):
            raise ConfigError(f"address={address!r} must be 'host:port' or (host, port)") from None
    if not isinstance(host, str) or isinstance(number, bool) or not isinstance(number, int):
        raise ConfigError(f"address={address!r} must be 'host:port' or (host, port)")
    if not 0 <= number <= _MAX_PORT:
        raise ConfigError(f"address={address!r}: port must be from 0 to {_MAX_PORT}")
    return host, number


def listen_socket(
    address: Address, receive_buffer: int = 0, share: tuple[int, ...] = ()
) -> socket.socket:
    """
    Bind and listen. The caller owns the socket.

    With `share`, several sockets may listen on the address, one for each of these receive queues
    in this order; each gets the connections whose first packet came by its queue.

    Raises
    ------
    ConfigError
        If the address cannot be read.
    ZcrxError
        If it cannot be resolved or bound.
    """
    host, port = parse_address(address)
    family, sockaddr = resolve(host, port, passive=True)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "" stands for every address, IPv4 too; a literal IPv6 address for itself.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
        bound_buffer(listener, receive_buffer)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(sockaddr)
        listener.listen(4096)
        if share:
            _choose_by_queue(listener, share)
    except OSError as error:
        listener.close()
        raise _bind_error(host, port, error) from error
    return listener


def _choose_by_queue(listener: socket.socket, queues: tuple[int, ...]) -> None:
    """
    Have the kernel choose among the listeners of a port by the receive queue of a packet.

    A classic BPF program gives the place of a socket among them (SO_ATTACH_REUSEPORT_CBPF,
    socket(7)); for other queues it gives none, and the kernel chooses by hash. What it reads is the
    number of the receive queue plus one (skb_record_rx_queue() in include/linux/skbuff.h).
    """
    program = [(_LOAD, 0, 0, _QUEUE)]
    for place, queue in enumerate(queues):
        program += [(_JUMP_IF_EQUAL, 0, 1, queue + 1), (_RETURN, 0, 0, place)]
    program.append((_RETURN, 0, 0, 2**32 - 1))
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    # It is the whole group's, and replaces what the listeners before this one have set: the same.
    listener.setsockopt(socket.SOL_SOCKET, _ATTACH_REUSEPORT_CBPF, header)


def bound_buffer(sock: socket.socket, size: int) -> None:
    """
    Bound the memory of bytes that wait in a socket; 0 leaves it to the kernel.

    Before the connection is made, since the window that it can announce depends on it.
    """
    if size:
        # The kernel doubles what it is given: socket(7).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(size // 2, 2**31 - 1))


def _bind_error(host: str, port: int, error: OSError) -> ZcrxError:
    remedies = {
        errno.EADDRINUSE: f"'ss -ltnp sport = :{port}' shows who has it; port 0 takes a free one.",
        errno.EACCES: "Ports below 1024 need CAP_NET_BIND_SERVICE.",
        errno.EADDRNOTAVAIL: f"No interface of this machine has the address {host!r}.",
    }
    number = error.errno or errno.EIO
    return ZcrxError(
        number,
        f"cannot listen on {host or '*'}:{port}",
        step="bind",
        remedy=remedies.get(number, ""),
    )


def resolve(host: str, port: int, *, passive: bool = False) -> list[tuple[int, tuple[object, ...]]]:
    """
    Find the socket addresses of a host, in the order to try them.

    Raises
    ------
    ZcrxError
        If there are none.
    """
    try:
        found = socket.getaddrinfo(
            host or None,
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE if passive else 0,
        )
    except (OSError, UnicodeError) as error:
        raise ZcrxError(
            errno.EHOSTUNREACH,
            f"{host!r} cannot be resolved ({error.args[-1]})",
            step="resolve",
            remedy="Check the spelling of the host, and DNS or /etc/hosts.",
        ) from error
    if passive and not host:
        found.sort(key=lambda entry: entry[0] != socket.AF_INET6)
    return [(family, sockaddr) for family, _, _, _, sockaddr in found]


def dial(
    address: Address, greeting: bytes, timeout: float, receive_buffer: int = 0
) -> socket.socket:
    """
    Connect, and say what the peer waits for. The caller owns the socket, which blocks.

    Raises
    ------
    ConfigError
        If the address cannot be read.
    ZcrxError
        If no address of the host answers in `timeout` seconds, or the greeting cannot be sent.
    """
    host, port = parse_address(address)
    last: OSError | None = None
    for family, sockaddr in resolve(host, port):
        peer = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound_buffer(peer, receive_buffer)
            peer.settimeout(timeout or None)
            peer.connect(sockaddr)
            peer.sendall(greeting)
            peer.settimeout(None)
        except OSError as error:
            peer.close()
            last = error
        else:
            return peer
    number = errno.ETIMEDOUT if isinstance(last, TimeoutError) else (last and last.errno)
    raise ZcrxError(
        number or errno.EIO,
        f"cannot connect to {host}:{port}",
        step="connect",
        remedy="Is the peer listening there?" if number == errno.ECONNREFUSED else "",
    ) from last


def name_of(sock: socket.socket) -> tuple[str, int]:
    """Host and port that a socket is bound to."""
    host, port, *_ = sock.getsockname()
    return os.fsdecode(host), int(port)
