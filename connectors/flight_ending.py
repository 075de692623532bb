# SPDX-License-Identifier: Apache-2.0
"""
Opening a Flight server with errors that say why, and ending it in bounded time.

pyarrow's ``shutdown`` waits for every call, and a call whose client does not read never ends. So
connections of clients that hang are shut down below gRPC, which then ends their calls.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import re
import socket
import stat
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import pyarrow as pa

from zcrx_arrow.address import listen_socket
from zcrx_arrow.errors import ZcrxError

if TYPE_CHECKING:
    from zcrx_arrow.connectors.flight_security import Endpoint

__all__ = ["end", "hang_up", "name_of_peer", "open_server"]

_STEP_S: Final = 0.05
_ANY: Final = (None, "0.0.0.0", "::")  # noqa: S104 - compared with

_servers: weakref.WeakSet[Any] = weakref.WeakSet()


def open_server(kind: Any, endpoint: Endpoint) -> Any:
    """
    Make a server of a class, listening.

    Raises
    ------
    ZcrxError
        If the address cannot be bound, with the kernel's reason.
    """
    try:
        server = kind(**endpoint.server_options())
    except (pa.ArrowException, OSError) as error:
        # gRPC does not say why; trying again without it does.
        listen_socket((endpoint.host, endpoint.port)).close()
        raise ZcrxError(
            errno.EIO, f"gRPC cannot serve on {endpoint.uri}: {error}", step="listen"
        ) from error
    _servers.add(server)
    return server


def _forget_servers() -> None:
    """In a forked child: pyarrow would shut them down at exit, by threads that are not there."""
    for server in _servers:
        for found in gc.get_referents(server):
            if isinstance(found, weakref.finalize):
                found.atexit = False


os.register_at_fork(after_in_child=_forget_servers)


def end(server: Any, grace: float, host: str) -> None:
    """
    Shut a server down; connections whose calls have not ended after `grace` seconds are cut.

    The server's own calls must have been told to end. Once.
    """
    port = server.port
    # Its finalizer, which would do the same again at exit if it were not used.
    ending = threading.Thread(
        target=server.__exit__, args=(None, None, None), name="zcrx-flight-end", daemon=True
    )
    ending.start()
    ending.join(grace)
    deadline = time.monotonic() + 30
    while ending.is_alive() and time.monotonic() < deadline:
        hang_up(port, host=host)
        ending.join(_STEP_S)
    if ending.is_alive():
        raise ZcrxError(errno.ETIMEDOUT, "the Flight server does not end", step="close")


def hang_up(port: int, peer: str | None = None, *, host: str | None = None) -> int:
    """
    Shut down this process' accepted connections of a port; those of one peer if it is given.

    Parameters
    ----------
    port : int
        That a server of this process listens at.
    peer : str, optional
        As gRPC names it, ``ipv4:127.0.0.1:4711`` or ``ipv6:%5B::1%5D:4711``.
    host : str, optional
        The literal address that the server listens at: others may have the same port elsewhere.

    Returns
    -------
    int
        How many there were.
    """
    wanted = None if peer is None else _address_of(peer)
    if peer is not None and wanted is None:  # by something that is no TCP
        return 0
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - names only
    except OSError:  # no descriptor is left to look with
        return 0
    return sum(_cut(number, port, host, wanted) for number in numbers)


def name_of_peer(peer: str) -> str:
    """Give what gRPC names a peer as ``127.0.0.1:4711`` or ``[::1]:4711``."""
    found = _address_of(peer)
    if found is None:
        return peer
    return f"[{found[0]}]:{found[1]}" if ":" in found[0] else f"{found[0]}:{found[1]}"


def _address_of(peer: str) -> tuple[str, int] | None:
    found = re.fullmatch(r"ipv[46]:\[?([^\]]+?)\]?:(\d+)", unquote(peer))
    return (found[1], int(found[2])) if found else None


def _cut(fd: int, port: int, host: str | None, peer: tuple[str, int] | None) -> bool:
    sock = _own_socket(fd)
    if sock is None:
        return False
    with sock, contextlib.suppress(OSError):
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.getsockname()[1] != port:
            return False
        if host not in _ANY and _plain(sock.getsockname()[0]) != _plain(str(host)):
            return False
        other, number = sock.getpeername()[:2]  # fails for the listener
        if peer is None or (_plain(other), number) == (_plain(peer[0]), peer[1]):
            sock.shutdown(socket.SHUT_RDWR)
            return True
    return False


def _own_socket(fd: int) -> socket.socket | None:
    """Give the socket that a descriptor is, by a descriptor of our own: numbers are reused."""
    try:
        # Closing any descriptor of a file ends the process' locks of it: sockets only.
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        own = os.dup(fd)
    except OSError:
        return None
    try:
        return socket.socket(fileno=own)
    except OSError:
        os.close(own)
        return None


def _plain(host: str) -> str:
    """IPv4 addresses look different on sockets that take both."""
    return host.partition("%")[0].lower().removeprefix("::ffff:")
