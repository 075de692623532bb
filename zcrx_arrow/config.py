# SPDX-License-Identifier: Apache-2.0
"""
Options, as frozen dataclasses that check themselves.

Sizes are bytes (``int``) or text with a unit (``"256 MiB"``, ``"64k"``); durations are seconds
(``int`` or ``float``) or text with a unit (``"10 ms"``).
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from typing import Final, Literal

from zcrx_arrow.errors import ConfigError

__all__ = [
    "Area",
    "Batching",
    "CopyOut",
    "Duration",
    "Limits",
    "NicQueue",
    "PayloadType",
    "Reconnect",
    "Size",
    "Zcrx",
    "parse_duration",
    "parse_size",
]

Size = int | str
Duration = float | int | str
CopyOut = Literal["auto", "never", "always"]
PayloadType = Literal["binary_view", "string_view", "large_binary", "large_string"]

COPY_OUT: Final[tuple[CopyOut, ...]] = ("auto", "never", "always")
PAYLOAD_TYPES: Final[tuple[PayloadType, ...]] = (
    "binary_view",
    "string_view",
    "large_binary",
    "large_string",
)

PAGE: Final = os.sysconf("SC_PAGESIZE")
_COPY_CHUNK: Final = 128 << 10
_QUANTITY: Final = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zµμ]*)\s*", re.IGNORECASE)
_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
    "t": 2**40,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_DURATION_UNITS: Final = {
    "": 1.0,
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
}


def parse_size(value: Size, option: str = "size") -> int:
    """
    Read a size.

    Parameters
    ----------
    value : int or str
        Bytes, or a number with a unit: ``KiB MiB GiB TiB`` (and ``k m g t``) are powers of 1024,
        ``kB MB GB TB`` powers of 1000.
    option : str
        Named in the error.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ConfigError
        If it is not a whole, non-negative number of bytes.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ConfigError(f"{option} must be bytes or text such as '256 MiB', not {value!r}")
    if isinstance(value, int):
        number = float(value)
        size = value
    else:
        match = _QUANTITY.fullmatch(value)
        unit = _SIZE_UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise ConfigError(
                f"{option}={value!r} is no size; write bytes or a unit, such as '256 MiB'"
            )
        number = float(match[1]) * unit
        size = int(match[1]) * unit if match[1].isdigit() else round(number)
    if size < 0 or number != size:
        raise ConfigError(f"{option}={value!r} is no whole, non-negative number of bytes")
    return size


def parse_duration(value: Duration, option: str = "duration") -> float:
    """
    Read a duration.

    Parameters
    ----------
    value : int, float or str
        Seconds, or a number with a unit: ``ns us ms s min h``.
    option : str
        Named in the error.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    ConfigError
        If it is not a finite, non-negative time.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ConfigError(f"{option} must be seconds or text such as '10 ms', not {value!r}")
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value)
        unit = _DURATION_UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise ConfigError(
                f"{option}={value!r} is no duration; write seconds or a unit, such as '10 ms'"
            )
        seconds = float(match[1]) * unit
    else:
        seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ConfigError(f"{option}={value!r} is no finite, non-negative time")
    return seconds


def nanoseconds(value: Duration, option: str) -> int:
    """Read a duration as whole nanoseconds."""
    return round(parse_duration(value, option) * 1e9)


def whole(value: int, option: str, low: int, high: int) -> int:
    """
    Check a count.

    Raises
    ------
    ConfigError
        If it is no integer from `low` to `high`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{option}={value!r} must be a whole number from {low} to {high}")
    return value


def one_of(value: str, option: str, choices: tuple[str, ...]) -> int:
    """
    Check a choice; returns its place among the choices.

    Raises
    ------
    ConfigError
        If it is not among them.
    """
    if value not in choices:
        raise ConfigError(f"{option}={value!r} must be one of {', '.join(map(repr, choices))}")
    return choices.index(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """
    The receive memory.

    Parameters
    ----------
    size : int or str
        Bytes of the area, shared by all connections; a multiple of `chunk`. Memory is used only
        as far as bytes are in flight.
    chunk : int, str or None
        What is recycled at a time: a power of two from 4 KiB to 16 MiB. A batch that is held
        keeps every chunk that it has bytes in. None: 128 KiB with transport ``copy``, a page with
        the others. With ``zcrx`` it is what the NIC is asked to write in one piece
        (``rx_buf_len``); where it cannot, a page, see ``Source.chunk_bytes``.
    window : int or str
        ``copy`` only: how much of the area is offered to the kernel at a time. Small windows stay
        in the processor's cache; the default suits an L2 of 1 MiB.
    huge_pages : bool
        Take the area from the reserved huge pages (``vm.nr_hugepages``) or fail. Without it the
        kernel uses transparent huge pages where it can.
    """

    size: Size = "256 MiB"
    chunk: Size | None = None
    window: Size = "512 KiB"
    huge_pages: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked here; the core checks the rest."""
        parse_size(self.size, "area.size")
        if self.chunk is not None:
            parse_size(self.chunk, "area.chunk")
        parse_size(self.window, "area.window")

    @classmethod
    def of(cls, value: Area | Size, *, copied: bool = True) -> Area:
        """
        Make an area from what ``area=`` takes, for a transport that copies or one of zcrx.

        A bare size below 32 MiB gets chunks and a window that fit into it; a size that is no
        multiple of the chunk is rounded up.
        """
        chunk = _COPY_CHUNK if copied else PAGE
        if isinstance(value, Area):
            return value if value.chunk is not None else replace(value, chunk=chunk)
        size = parse_size(value, "area")
        while chunk > PAGE and chunk * 64 > size:
            chunk //= 2
        window = max(2 * chunk, min(parse_size(cls().window), size // 16 // chunk * chunk))
        return cls(size=-(-size // chunk) * chunk, chunk=chunk, window=window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zcrx:
    """
    Details of zero-copy receive; the defaults suit most.

    Parameters
    ----------
    refill_entries : int or None
        Of the ring in which fragments go back to the kernel, rounded up to a power of two, at
        most 32768. None: one for each chunk.
    kernel_memory : bool
        Let the kernel provide that ring's memory, instead of this process.
    busy_poll : float, str or None
        Have the receiver poll the NIC for so long before it sleeps (NAPI busy polling): lower
        latency for a busy core.
    prefer_busy_poll : bool
        Ask the NIC for interrupts only when polling has stopped.
    turn : int, str or None
        A connection that has received so many bytes lets the others go first. None: no limit.
    bind_timeout : float or str
        How long to wait for a queue that is still bound: the kernel lets go of one a moment after
        its last user has ended.
    """

    refill_entries: int | None = None
    kernel_memory: bool = False
    busy_poll: Duration | None = None
    prefer_busy_poll: bool = False
    turn: Size | None = None
    bind_timeout: Duration = "5 s"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.refill_entries is not None:
            whole(self.refill_entries, "zcrx.refill_entries", 1, 32768)
        if self.turn is not None:
            parse_size(self.turn, "zcrx.turn")
        if self.busy_poll is not None:
            parse_duration(self.busy_poll, "zcrx.busy_poll")
        parse_duration(self.bind_timeout, "zcrx.bind_timeout")


@dataclass(frozen=True, slots=True)
class NicQueue:
    """
    A receive queue of a network interface.

    Parameters
    ----------
    interface : str
        Its name, such as ``"eth0"``, in the network namespace of this process.
    queue : int
        Number of the receive queue, from 0.
    share : tuple of int
        If the NIC spreads the connections to a port over several queues (an RSS context): all of
        them, in the order in which their sources are opened. These sources listen on the same
        address, and each accepts the connections whose packets come by its own queue.
    """

    interface: str
    queue: int
    share: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.interface or not isinstance(self.interface, str):
            raise ConfigError(f"nic: {self.interface!r} is no name of an interface")
        whole(self.queue, "nic.queue", 0, 2**31 - 1)
        object.__setattr__(self, "share", tuple(self.share))
        if self.share and (self.queue not in self.share or len(set(self.share)) < len(self.share)):
            raise ConfigError(f"nic.share={self.share} must name queue {self.queue}, each once")
        for queue in self.share:
            whole(queue, "nic.share", 0, 65534)

    @classmethod
    def of(cls, value: NicQueue | str) -> NicQueue:
        """
        Make one from what ``nic=`` takes: a `NicQueue`, or text.

        Such as ``"eth0:3"``, or ``"eth0:3/2,3"`` with the queues that it shares connections with.

        Raises
        ------
        ConfigError
            If it is neither.
        """
        if isinstance(value, str):
            interface, colon, rest = value.rpartition(":")
            queue, _, share = rest.partition("/")
            shared = share.split(",") if share else []
            if not colon or not all(number.isdecimal() for number in (queue, *shared)):
                raise ConfigError(
                    f"nic={value!r} must be 'interface:queue', such as 'eth0:3', or "
                    "'eth0:3/2,3' for one of several"
                )
            return cls(interface, int(queue), tuple(map(int, shared)))
        try:
            return cls(value.interface, value.queue, getattr(value, "share", ()))
        except AttributeError:
            raise ConfigError(f"nic={value!r} must be a NicQueue or 'interface:queue'") from None

    def __str__(self) -> str:
        """Write it as ``nic=`` takes it."""
        share = f"/{','.join(map(str, self.share))}" if self.share else ""
        return f"{self.interface}:{self.queue}{share}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """
    When a batch leaves.

    Parameters
    ----------
    max_rows : int
        At this many rows.
    max_bytes : int, str or None
        When it has reached this many payload bytes (at most a quarter of the area). None: 1 MiB,
        2 MiB for `Ndjson` and `Csv`, or an eighth of a smaller area.
    max_delay : float or str
        At the latest, this long after its first row. A batch leaves at once when a consumer
        waits for it.
    coalesce : float or str
        At high rates (over 512 MB/s), how long a waiting consumer waits for a fuller batch.
        0: not at all.
    """

    max_rows: int = 65536
    max_bytes: Size | None = None
    max_delay: Duration = "10 ms"
    coalesce: Duration = "500 us"

    def __post_init__(self) -> None:
        """Check the values."""
        whole(self.max_rows, "batching.max_rows", 1, 2**31 - 1)
        if self.max_bytes is not None:
            parse_size(self.max_bytes, "batching.max_bytes")
        parse_duration(self.max_delay, "batching.max_delay")
        parse_duration(self.coalesce, "batching.coalesce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    Bounds.

    Parameters
    ----------
    connections : int
        Open at a time. One more is closed at once, counted and logged.
    queue_batches : int, optional
        Batches that wait for a consumer. When the queue is full, receiving stops and the peers
        wait. None: 2 to 8, as many as make 8 MiB, so that what waits is still in cache.
    closed_history : int
        Closed connections that ``connections()`` remembers.
    receive_buffer : int, str or None
        Memory that bytes of one connection may take in the kernel before they are received
        (SO_RCVBUF). None: the kernel's own tuning; with ``zcrx``, where those bytes lie in the
        area, a share of a quarter of it.
    exhausted_after : float or str
        With ``copy_out="never"``: how long the area may be dry, while a consumer waits, before
        that is an `AreaExhaustedError`.
    """

    connections: int = 1024
    queue_batches: int | None = None
    closed_history: int = 10_000
    receive_buffer: Size | None = None
    exhausted_after: Duration = "5 s"

    def __post_init__(self) -> None:
        """Check the values."""
        whole(self.connections, "limits.connections", 1, 2**20)
        if self.queue_batches is not None:
            whole(self.queue_batches, "limits.queue_batches", 1, 65536)
        whole(self.closed_history, "limits.closed_history", 0, 2**24)
        if self.receive_buffer is not None:
            parse_size(self.receive_buffer, "limits.receive_buffer")
        parse_duration(self.exhausted_after, "limits.exhausted_after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """
    Dial again when a connection ends, whatever ended it.

    The new connection has a new id, its positions begin at 0, and the gap is an event: in the
    log, in ``metrics().gaps`` and in ``connections()`` (columns ``resumes`` and ``gap``).

    Parameters
    ----------
    first_delay, max_delay : float or str
        Before the first attempt, and at most. Bytes that arrive reset the delay.
    factor : float
        By which the delay grows.
    jitter : float
        Share of the delay, 0 to 1, that is random, so that many clients do not dial at once.
    attempts : int or None
        In a row without success, before the source ends with the last error. None: no limit.
    """

    first_delay: Duration = "100 ms"
    max_delay: Duration = "30 s"
    factor: float = 2.0
    jitter: float = 0.1
    attempts: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        parse_duration(self.first_delay, "reconnect.first_delay")
        parse_duration(self.max_delay, "reconnect.max_delay")
        if not 1.0 <= self.factor < math.inf:
            raise ConfigError(f"reconnect.factor={self.factor!r} must be 1 or more")
        if not 0.0 <= self.jitter <= 1.0:
            raise ConfigError(f"reconnect.jitter={self.jitter!r} must be from 0 to 1")
        if self.attempts is not None:
            whole(self.attempts, "reconnect.attempts", 1, 2**31 - 1)
