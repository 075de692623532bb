# SPDX-License-Identifier: Apache-2.0
"""Opening a feed: `listen` and `connect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zcrx_arrow import address as addresses
from zcrx_arrow._core import Options, Transport, check, open_core
from zcrx_arrow._native import ffi, lib
from zcrx_arrow._pipeline import Stages
from zcrx_arrow._supervisor import Dialer, Supervisor
from zcrx_arrow.config import Reconnect, parse_duration, whole
from zcrx_arrow.decoded import DecodedSource
from zcrx_arrow.errors import ConfigError
from zcrx_arrow.source import Source

if TYPE_CHECKING:
    from zcrx_arrow.config import (
        Area,
        Batching,
        CopyOut,
        Duration,
        Limits,
        NicQueue,
        PayloadType,
        Size,
        Zcrx,
    )
    from zcrx_arrow.decoders import Decoder
    from zcrx_arrow.framing import Framing

__all__ = ["connect", "listen"]

_UINT32_MAX: Final = 2**32 - 1


def listen(
    address: addresses.Address,
    *,
    framing: Framing | None = None,
    decode: Decoder | None = None,
    transport: Transport = "auto",
    nic: NicQueue | str | None = None,
    area: Area | Size = "256 MiB",
    copy_out: CopyOut = "auto",
    payload_type: PayloadType = "binary_view",
    accept: int | None = None,
    batching: Batching | None = None,
    limits: Limits | None = None,
    zcrx: Zcrx | None = None,
) -> Source:
    """
    Accept TCP connections and receive from all of them.

    Parameters
    ----------
    address : str or (str, int)
        Where to listen: ``"127.0.0.1:9000"``, ``"[::1]:9000"``, ``("", 9000)`` for every address;
        port 0 takes a free one, see ``source.address``.
    framing : Framing, optional
        How bytes become messages, see `zcrx_arrow.framing`. Without it, what goes with `decode`,
        or `Raw`.
    decode : Decoder, optional
        How messages become typed columns, see `zcrx_arrow.decoders`. Without it, a row is a
        message with its payload.
    transport : {"auto", "zcrx", "copy", "nodev"}
        How bytes get into the area. ``zcrx``: the NIC writes them there, nobody copies; needs
        `nic`. ``copy``: the kernel copies once, on any machine. ``nodev``: the interface of
        ``zcrx`` without a NIC, where the kernel copies too (Linux 7.1+). ``auto``: ``zcrx`` if
        `nic` is given and it works, else ``copy``; the log says why.
    nic : NicQueue or str, optional
        The receive queue that the connections' packets are steered to, such as ``"eth0:3"``.
    area : int, str or Area
        The receive memory, shared by all connections.
    copy_out : {"auto", "never", "always"}
        Whether batches are copied out of the area: when it is nearly full, never (a consumer that
        holds everything then gets an `AreaExhaustedError`), or always.
    payload_type : {"binary_view", "string_view", "large_binary", "large_string"}
        Views point into the area. The large types are compacted copies, for tools that cannot
        compute on views. The string types check that every message is UTF-8.
    accept : int, optional
        Close the listener after that many connections; the source ends when they have ended.
    batching, limits : optional
        See `Batching` and `Limits`.
    zcrx : Zcrx, optional
        Details of zero-copy receive.

    Returns
    -------
    Source
        To be closed by the caller; a context manager.

    Raises
    ------
    ConfigError
        If an option cannot work.
    UnsupportedError
        If the kernel, the NIC or a missing privilege forbids what is asked for; the message says
        which, and what to do.
    ZcrxError
        If the address cannot be bound.
    """
    if accept is not None:
        whole(accept, "accept", 1, _UINT32_MAX)
    stages = Stages(framing, decode, payload_type)
    options = Options.of(
        stages.framing,
        transport,
        nic,
        area,
        copy_out,
        stages.payload_type,
        batching,
        limits,
        zcrx,
        blocks=stages.blocks,
    )
    share = options.nic.share if options.nic else ()
    listener = addresses.listen_socket(address, options.receive_buffer, share)
    try:
        bound = addresses.name_of(listener)
        handle = open_core(options, f"{bound[0]}:{bound[1]}", accept or 0)
        check(lib.za_source_listen(handle, listener.fileno()), "listen")
    except BaseException:
        listener.close()
        raise
    listener.detach()
    return _source(handle, bound, Supervisor(handle, f"listen {bound[0]}:{bound[1]}", None), stages)


def connect(
    address: addresses.Address,
    *,
    framing: Framing | None = None,
    decode: Decoder | None = None,
    transport: Transport = "auto",
    nic: NicQueue | str | None = None,
    area: Area | Size = "256 MiB",
    copy_out: CopyOut = "auto",
    payload_type: PayloadType = "binary_view",
    greeting: bytes = b"",
    reconnect: Reconnect | None = None,
    connect_timeout: Duration = "10 s",
    batching: Batching | None = None,
    limits: Limits | None = None,
    zcrx: Zcrx | None = None,
) -> Source:
    r"""
    Connect to a TCP peer and receive from it.

    Parameters
    ----------
    address : str or (str, int)
        Whom to connect to: ``"feed.example:9000"``, ``"[::1]:9000"``, ``("host", 9000)``.
    greeting : bytes
        Sent after every connect, such as ``b"SUBSCRIBE\n"``.
    reconnect : Reconnect, optional
        Dial again when the connection ends. Without it the source ends with the connection.
    connect_timeout : float or str
        For one attempt to connect and greet.
    framing, decode, transport, nic, area, copy_out, payload_type, batching, limits, zcrx
        As for `listen`.

    Returns
    -------
    Source
        To be closed by the caller; a context manager.

    Raises
    ------
    ConfigError
        If an option cannot work.
    UnsupportedError
        If the kernel, the NIC or a missing privilege forbids what is asked for; the message says
        which, and what to do.
    ZcrxError
        If the first connect fails.
    """
    if not isinstance(greeting, bytes | bytearray | memoryview):
        raise ConfigError(f"greeting must be bytes, not {type(greeting).__name__}")
    if reconnect is not None and not isinstance(reconnect, Reconnect):
        raise ConfigError("reconnect must be a Reconnect or None")
    timeout = parse_duration(connect_timeout, "connect_timeout")
    stages = Stages(framing, decode, payload_type)
    options = Options.of(
        stages.framing,
        transport,
        nic,
        area,
        copy_out,
        stages.payload_type,
        batching,
        limits,
        zcrx,
        blocks=stages.blocks,
    )
    dialer = Dialer(address, bytes(greeting), timeout, reconnect, options.receive_buffer)
    host, port = addresses.parse_address(address)
    # The area first: what a NIC receives before it is bound to it, the kernel must copy.
    handle = open_core(options, f"{host}:{port}", 0)
    try:
        peer = dialer.dial()
    except BaseException:
        lib.za_source_close(handle)  # not only when the error is forgotten
        raise
    try:
        bound = addresses.name_of(peer)
        check(lib.za_source_add(handle, peer.fileno(), ffi.new("uint32_t *")), "connect")
    except BaseException:
        peer.close()
        raise
    peer.detach()
    if reconnect is None:
        check(lib.za_source_finish(handle, 0, ffi.NULL), "connect")
    return _source(handle, bound, Supervisor(handle, f"connect {host}:{port}", dialer), stages)


def _source(handle: Any, bound: tuple[str, int], supervisor: Supervisor, stages: Stages) -> Source:
    if stages.needed:
        return DecodedSource(handle, bound, supervisor, stages)
    return Source(handle, bound, supervisor)
