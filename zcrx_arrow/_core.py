# SPDX-License-Identifier: Apache-2.0
"""From options to a source of the core, with the best transport that works."""

from __future__ import annotations

import errno
import os
import socket
import time
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from zcrx_arrow import _events, _interrupt
from zcrx_arrow._native import ffi, lib
from zcrx_arrow.config import (
    COPY_OUT,
    PAYLOAD_TYPES,
    Area,
    Batching,
    CopyOut,
    Limits,
    NicQueue,
    PayloadType,
    Size,
    Zcrx,
    nanoseconds,
    one_of,
    parse_duration,
    parse_size,
)
from zcrx_arrow.errors import ConfigError, ZcrxError, from_core
from zcrx_arrow.framing import ArrowIpc, Framing, Raw, to_core
from zcrx_arrow.nic import preflight

__all__ = ["Options", "Transport", "check", "error_of", "open_core"]

Transport = Literal["auto", "zcrx", "copy", "nodev"]
_TRANSPORTS: Final[tuple[Transport, ...]] = ("auto", "zcrx", "copy", "nodev")
_KINDS: Final = {
    "copy": lib.ZA_TRANSPORT_COPY,
    "zcrx": lib.ZA_TRANSPORT_ZCRX,
    "nodev": lib.ZA_TRANSPORT_NODEV,
}
_BIND_STEP: Final = 0.05
_QUEUE_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything that `listen` and `connect` have in common, checked."""

    framing: Framing
    transport: Transport
    nic: NicQueue | None
    area: Area | Size
    copy_out: CopyOut
    payload_type: PayloadType
    batching: Batching
    limits: Limits
    zcrx: Zcrx
    blocks: int
    """Not 0: rows are as many whole messages as lie together, and a batch has so many bytes if the
    user does not say."""

    @classmethod
    def of(
        cls,
        framing: Framing | None,
        transport: Transport,
        nic: NicQueue | str | None,
        area: Area | Size,
        copy_out: CopyOut,
        payload_type: PayloadType,
        batching: Batching | None,
        limits: Limits | None,
        zcrx: Zcrx | None,
        *,
        blocks: int = 0,
    ) -> Self:
        """Fill in defaults; raises `ConfigError` for what cannot work together."""
        one_of(transport, "transport", _TRANSPORTS)
        framing = Raw() if framing is None else framing
        if not isinstance(framing, Framing):
            raise ConfigError(f"framing must be one of zcrx_arrow.framing, not {framing!r}")
        queue = None if nic is None else NicQueue.of(nic)
        if transport == "zcrx" and queue is None:
            raise ConfigError(
                "transport='zcrx' needs to know the queue: give nic='interface:queue'",
                remedy="'ip link' names the interfaces, 'ethtool -l eth0' their queues.",
            )
        if queue is not None and transport in ("copy", "nodev"):
            raise ConfigError(f"nic={queue!s} is of no use with transport={transport!r}")
        return cls(
            framing=framing,
            transport=transport,
            nic=queue,
            area=area,
            copy_out=copy_out,
            payload_type=payload_type,
            batching=batching or Batching(),
            limits=limits or Limits(),
            zcrx=zcrx or Zcrx(),
            blocks=blocks,
        )

    @property
    def candidates(self) -> tuple[str, ...]:
        """Transports to try, the best first."""
        if self.transport != "auto":
            return (self.transport,)
        return ("zcrx", "copy") if self.nic else ("copy",)

    @property
    def receive_buffer(self) -> int:
        """SO_RCVBUF of sockets, in bytes of memory; 0 for the kernel's own tuning."""
        wanted = self.limits.receive_buffer
        return 0 if wanted is None else parse_size(wanted, "limits.receive_buffer")

    def memory(self, transport: str) -> Area:
        """Give the area as this transport has it."""
        return Area.of(self.area, copied=transport == "copy")

    def to_core(self, transport: str) -> Any:
        """Translate to ``struct za_config``."""
        memory = self.memory(transport)
        batching, limits = self.batching, self.limits
        size = parse_size(memory.size, "area.size")
        max_bytes = (
            max(1, min(self.blocks or 1 << 20, size // 8))
            if batching.max_bytes is None
            else parse_size(batching.max_bytes, "batching.max_bytes")
        )
        config = ffi.new("struct za_config *")
        try:
            config.area_bytes = size
            config.chunk_bytes = parse_size(memory.chunk or 0, "area.chunk")
            config.window_bytes = parse_size(memory.window, "area.window")
            config.max_batch_bytes = max_bytes
            config.receive_buffer_bytes = self.receive_buffer
            config.turn_bytes = parse_size(self.zcrx.turn or 0, "zcrx.turn")
        except OverflowError:
            raise ConfigError(
                "area, chunk, window, max_bytes, receive_buffer or turn is too large"
            ) from None
        config.max_batch_rows = batching.max_rows
        config.max_delay_ns = nanoseconds(batching.max_delay, "batching.max_delay")
        config.coalesce_ns = nanoseconds(batching.coalesce, "batching.coalesce")
        config.queue_batches = limits.queue_batches or max(2, min(8, _QUEUE_BYTES // max_bytes))
        config.max_connections = limits.connections
        config.closed_history = limits.closed_history
        config.exhausted_ns = nanoseconds(limits.exhausted_after, "limits.exhausted_after")
        config.copy_out = one_of(self.copy_out, "copy_out", COPY_OUT)
        config.payload = one_of(self.payload_type, "payload_type", PAYLOAD_TYPES)
        to_core(self.framing, config, blocks=bool(self.blocks))
        config.transport = _KINDS[transport]
        config.huge_pages = memory.huge_pages
        config.adjacent_chunks = bool(self.blocks) or isinstance(self.framing, ArrowIpc)
        if transport != "copy":
            self._zcrx_to_core(config)
        return config

    def _zcrx_to_core(self, config: Any) -> None:
        config.refill_entries = self.zcrx.refill_entries or 0
        config.kernel_refill_memory = self.zcrx.kernel_memory
        config.prefer_busy_poll = self.zcrx.prefer_busy_poll
        if self.zcrx.busy_poll is not None:
            nanos = nanoseconds(self.zcrx.busy_poll, "zcrx.busy_poll")
            config.busy_poll_us = min(nanos // 1000, 2**31 - 1)
        if self.nic is not None:
            config.queue = self.nic.queue


def open_core(options: Options, name: str, accept_limit: int) -> Any:
    """
    Make the core's source; it is given up when the handle is collected.

    Raises
    ------
    ZcrxError
        Why the transport that was asked for does not work, or why none does.
    """
    reasons: list[str] = []
    for transport in options.candidates:
        try:
            handle = _open_with(options, transport, accept_limit)
        except ZcrxError as error:
            if transport == options.candidates[-1] or isinstance(error, ConfigError):
                raise
            reasons.append(f"not {transport}: {error}")
        else:
            _events.info(
                "transport",
                name,
                "transport %s",
                _describe(handle),
                transport=transport,
                chunk_bytes=lib.za_source_chunk_bytes(handle),
            )
            for reason in reasons:
                _events.warning("transport_passed_over", name, "%s", reason, reason=reason)
            _interrupt.install()
            return handle
    raise AssertionError(options.candidates)


def _describe(handle: Any) -> str:
    transport: str = ffi.string(lib.za_source_transport(handle)).decode()
    if transport == "copy":
        return "copy (incremental buffers)" if lib.za_source_incremental(handle) else "copy"
    return f"{transport} (chunks of {lib.za_source_chunk_bytes(handle)} bytes)"


def _open_with(options: Options, transport: str, accept_limit: int) -> Any:
    config = options.to_core(transport)
    config.accept_limit = accept_limit
    if transport == "copy":
        return _new(config)
    memory = options.memory(transport)
    if transport == "nodev":
        try:
            return _new(config)
        except ZcrxError as error:
            raise preflight.explain(error, None, memory) from error
    assert options.nic is not None  # noqa: S101 - see candidates
    preflight.require(options.nic, memory)
    config.interface_index = socket.if_nametoindex(options.nic.interface)
    try:
        return _new_when_free(config, parse_duration(options.zcrx.bind_timeout))
    except ZcrxError as error:
        raise preflight.explain(error, options.nic, memory) from error


def _new_when_free(config: Any, timeout: float) -> Any:
    """Wait for a queue that the kernel has not let go of yet."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return _new(config)
        except ZcrxError as error:
            if error.errno != errno.EEXIST or time.monotonic() >= deadline:
                raise
        time.sleep(_BIND_STEP)


def _new(config: Any) -> Any:
    error = ffi.new("struct za_error *")
    out = ffi.new("struct za_source **")
    if lib.za_source_new(config, ffi.NULL, error, out):
        raise error_of(error)
    return ffi.gc(out[0], lib.za_source_put)


def error_of(error: Any) -> ZcrxError:
    """Make the exception for a ``struct za_error``."""
    step, detail = (
        ffi.string(text).decode(errors="replace") for text in (error.step, error.detail)
    )
    return from_core(error.code, step, detail)


def check(code: int, step: str) -> None:
    """Raise the exception for a negative code."""
    if code:
        raise from_core(code, step, os.strerror(-code))
