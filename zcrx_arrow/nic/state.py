# SPDX-License-Identifier: Apache-2.0
"""What there is to know of a network interface: plain values, that can be written as JSON."""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass
from typing import Any, Literal, Self

from zcrx_arrow.config import whole
from zcrx_arrow.errors import ConfigError

__all__ = [
    "Channels",
    "Driver",
    "Features",
    "Interface",
    "Match",
    "QueueState",
    "Rings",
    "Rss",
    "Rule",
    "Split",
]

Split = Literal["auto", "off", "on"]


@dataclass(frozen=True, slots=True)
class Driver:
    """Who drives an interface."""

    name: str
    version: str
    firmware: str
    bus: str


@dataclass(frozen=True, slots=True)
class Channels:
    """Queues with an interrupt: how many, and how many there may be."""

    rx: int
    tx: int
    other: int
    combined: int
    rx_max: int
    tx_max: int
    other_max: int
    combined_max: int

    @property
    def receive(self) -> int:
        """How many receive queues there are."""
        return self.combined + self.rx

    @property
    def receive_max(self) -> int:
        """How many receive queues there may be, with more of the kind that is in use."""
        return (
            self.combined_max + self.rx if self.kind == "combined" else self.rx_max + self.combined
        )

    @property
    def kind(self) -> Literal["combined", "rx"]:
        """Of which kind receive queues are made: with transmit queues, or alone."""
        return "combined" if self.combined or (self.combined_max and not self.rx) else "rx"


@dataclass(frozen=True, slots=True)
class Rings:
    """Ring sizes, and header/data split."""

    tcp_data_split: Split | None
    """``"on"``, ``"off"``, ``"auto"`` (the driver decides), or None: not reported, which a kernel
    does both where the driver decides and where it cannot."""
    hds_thresh: int | None
    """Payloads of so many bytes and fewer stay with the headers; None: not reported."""
    hds_thresh_max: int | None = None
    rx: int | None = None
    rx_max: int | None = None
    tx: int | None = None
    tx_max: int | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """Names of features, such as ``"rx-ntuple-filter"``."""

    active: frozenset[str]
    changeable: frozenset[str]
    """Known to the hardware, and not fixed."""


@dataclass(frozen=True, slots=True)
class Rss:
    """How connections are spread over queues."""

    table: tuple[int, ...]
    """A connection's hash, modulo its length, gives a place; there is the queue."""
    key: str
    """Of the hash, hexadecimal."""
    function: int
    context: int = 0
    """0: of the interface; else a table of its own for rules that name it."""

    @property
    def queues(self) -> frozenset[int]:
        """Those that occur in the table."""
        return frozenset(self.table)


@dataclass(frozen=True, slots=True)
class Match:
    """
    What a TCP packet must have for a rule.

    Attributes
    ----------
    family : {4, 6}
        IPv4 or IPv6.
    port, source_port : int or None
        Destination and source port; None: any.
    destination, source : str or None
        Addresses; None: any.
    """

    family: int = 4
    port: int | None = None
    source: str | None = None
    source_port: int | None = None
    destination: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("source", "destination"):
            text = getattr(self, name)
            if text is None:
                continue
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                raise ConfigError(f"{name}={text!r} is no IPv4 or IPv6 address") from None
            if address.version != self.family or getattr(address, "scope_id", None):
                raise ConfigError(f"{name}={text!r} is no plain IPv{self.family} address")
            # As rules are read back.
            object.__setattr__(self, name, str(address))
        for name in ("port", "source_port"):
            if getattr(self, name) is not None:
                whole(getattr(self, name), name, 1, 65535)

    @property
    def six(self) -> bool:
        """Whether it is for IPv6."""
        return self.family == 6  # noqa: PLR2004

    def __str__(self) -> str:
        """Write it as `ethtool -N` takes it."""
        words = [f"flow-type tcp{self.family}"]
        for name, value in (
            ("src-ip", self.source),
            ("dst-ip", self.destination),
            ("src-port", self.source_port),
            ("dst-port", self.port),
        ):
            if value is not None:
                words.append(f"{name} {value}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Rule:
    """A flow rule."""

    location: int
    queue: int
    """With a context: what is added to the queue that its table gives."""
    context: int | None
    match: Match | None = None
    """None: not a match of whole addresses and ports of TCP."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """A receive queue."""

    number: int
    napi_id: int | None
    holder: str | None
    """Who gives its memory: ``"io_uring"``, ``"AF_XDP"``, ``"devmem"``, or None: the kernel."""
    irq: int | None = None
    cpus: str | None = None
    """Where its interrupt is handled, such as ``"0-3"``."""


@dataclass(frozen=True, slots=True)
class Interface:
    """
    An interface, as far as the kernel tells; what it does not tell is None.

    ``missing`` says why, by what is missing.
    """

    name: str
    index: int
    up: bool
    driver: Driver | None
    channels: Channels | None
    rings: Rings | None
    features: Features | None
    rss: Rss | None
    contexts: tuple[Rss, ...]
    rules: tuple[Rule, ...] | None
    rules_max: int | None
    xdp: int | None
    """The XDP program's id."""
    queues: tuple[QueueState, ...]
    numa_node: int | None
    missing: dict[str, str]

    @property
    def receive_queues(self) -> int:
        """How many receive queues there are."""
        return self.channels.receive if self.channels else len(self.queues)

    def to_json(self) -> dict[str, Any]:
        """Give it as values that JSON has."""
        values: dict[str, Any] = plain(dataclasses.asdict(self))
        return values


def plain(value: Any) -> Any:
    """Turn sets and tuples into lists."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a connection's packets come from: its NAPI, and the queue that this is."""

    napi_id: int
    queue: int | None

    @classmethod
    def of(cls, napi_id: int, queues: tuple[QueueState, ...]) -> Self:
        """Look for the queue."""
        found = (queue.number for queue in queues if queue.napi_id == napi_id)
        return cls(napi_id, next(found, None) if napi_id else None)
