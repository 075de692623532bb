# SPDX-License-Identifier: Apache-2.0
"""What a receiver on a Ray node is told: where it listens, how it reads, on which node it runs."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import zcrx_arrow as zc
from zcrx_arrow._core import Options
from zcrx_arrow._pipeline import Stages
from zcrx_arrow.address import parse_address
from zcrx_arrow.config import parse_duration, parse_size, whole
from zcrx_arrow.errors import ConfigError, ZcrxError

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:  # pragma: no cover - said to the user
    raise ImportError("this connector needs Ray: pip install 'zcrx-arrow[ray]'") from error

if TYPE_CHECKING:
    from zcrx_arrow.address import Address
    from zcrx_arrow.config import (
        Area,
        Batching,
        Duration,
        Limits,
        NicQueue,
        PayloadType,
        Reconnect,
        Size,
        Zcrx,
    )
    from zcrx_arrow.decoders import Decoder
    from zcrx_arrow.framing import Framing
    from zcrx_arrow.source import Source

__all__ = ["Receiver", "Restart"]

_VIEWS: Final[dict[str, PayloadType]] = {
    "binary_view": "binary_view",
    "string_view": "string_view",
    "large_binary": "binary_view",
    "large_string": "string_view",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """
    A feed, and the node that receives it: one actor with a source of its own.

    Take one for each listening address, or for each receive queue of a NIC.

    Parameters
    ----------
    listen, connect : str or (str, int)
        One of the two: where to listen, or whom to connect to, as for `zcrx_arrow.listen` and
        `zcrx_arrow.connect`; as seen from the node.
    name : str, optional
        For errors, events and micro-batches; else the address, with the queue.
    node : str or mapping, optional
        The node that owns the address: its id, its IP address, or labels that it must have
        (``{"rack": "a"}``). None: the one node that has the address listened on, or the only node
        of the cluster; a feed that connects, or one with `resources`, may run on any.
    resources : mapping
        Custom resources that the actor takes, such as ``{"nic_eth0": 1}``.
    num_cpus : float
        What the actor reserves; 0 as for any actor of Ray: the receiver takes what it needs.
    payload_type : {"large_binary", "large_string", "binary_view", "string_view"}, optional
        Of the tables that readers get; ``"large_binary"`` if not given. In the object store
        payloads are always views over the received bytes; the large types are made of them where
        a block is read. Not with `decode`.
    framing, decode, transport, nic, area, accept, batching, limits, zcrx
        As for `zcrx_arrow.listen`. Batches are copied out if the area runs low.
    greeting, reconnect, connect_timeout
        As for `zcrx_arrow.connect`.

    Raises
    ------
    ConfigError
        If an option cannot work.

    Notes
    -----
    Immutable. It must pickle, and so must a framing or a decoder of your own.
    """

    listen: Address | None = None
    connect: Address | None = None
    name: str = ""
    node: str | Mapping[str, str] | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    num_cpus: float = 0
    framing: Framing | None = None
    decode: Decoder | None = None
    transport: Any = "auto"
    nic: NicQueue | str | None = None
    area: Area | Size = "256 MiB"
    payload_type: PayloadType | None = None
    accept: int | None = None
    greeting: bytes = b""
    reconnect: Reconnect | None = None
    connect_timeout: Duration = "10 s"
    batching: Batching | None = None
    limits: Limits | None = None
    zcrx: Zcrx | None = None

    def __post_init__(self) -> None:
        """Check the options, as far as that is possible without the node."""
        if (self.listen is None) == (self.connect is None):
            raise ConfigError("Receiver: give one of listen= and connect=")
        parse_address(self._address)
        self._check_direction()
        if self.payload_type is not None and self.payload_type not in _VIEWS:
            raise ConfigError(f"payload_type={self.payload_type!r} must be one of {list(_VIEWS)}")
        if self.decode is not None and self.payload_type is not None:
            raise ConfigError("payload_type= is of no use with decode=, which replaces payloads")
        if self.node is not None and not isinstance(self.node, str | Mapping):
            raise ConfigError(f"node={self.node!r} must be an id, an address or labels")
        stages = Stages(self.framing, self.decode, self._views)
        Options.of(
            stages.framing,
            self.transport,
            self.nic,
            self.area,
            "auto",
            stages.payload_type,
            self.batching,
            self.limits,
            self.zcrx,
            blocks=stages.blocks,
        )
        if not self.name:
            host, port = parse_address(self._address)
            queue = "" if self.nic is None else f" at {zc.NicQueue.of(self.nic)}"
            object.__setattr__(self, "name", f"{host or '*'}:{port}{queue}")

    def _check_direction(self) -> None:
        if self.listen is None:
            if self.accept is not None:
                raise ConfigError("accept= is of no use with connect=")
            return
        if self.greeting or self.reconnect is not None:
            raise ConfigError("greeting= and reconnect= are of no use with listen=")

    @property
    def _address(self) -> Address:
        address = self.connect if self.listen is None else self.listen
        assert address is not None  # noqa: S101 - checked first of all
        return address

    @property
    def _views(self) -> PayloadType:
        return _VIEWS[self.payload_type or "large_binary"]

    @property
    def area_bytes(self) -> int:
        """Size of the receive memory."""
        return parse_size(zc.Area.of(self.area).size, "area")

    def at_port(self, port: int) -> Receiver:
        """Give the same, with the port that a port of 0 has become."""
        if self.listen is None or parse_address(self.listen)[1] != 0:
            return self
        return replace(self, listen=(parse_address(self.listen)[0], port))

    def open(self) -> Source:
        """
        Open the source, on the node. The caller closes it.

        Raises
        ------
        ZcrxError
            What `zcrx_arrow.listen` and `zcrx_arrow.connect` raise.
        """
        common: dict[str, Any] = {
            "framing": self.framing,
            "decode": self.decode,
            "transport": self.transport,
            "nic": self.nic,
            "area": self.area,
            "payload_type": "binary_view" if self.decode is not None else self._views,
            "batching": self.batching,
            "limits": self.limits,
            "zcrx": self.zcrx,
        }
        if self.listen is not None:
            return zc.listen(self.listen, accept=self.accept, **common)
        return zc.connect(
            self._address,
            greeting=self.greeting,
            reconnect=self.reconnect,
            connect_timeout=self.connect_timeout,
            **common,
        )

    def placement(self) -> dict[str, Any]:
        """
        Find the node; gives options for the actor.

        Raises
        ------
        ConfigError
            If it is not clear which node owns the address.
        ZcrxError
            If the node is not in the cluster (any more).
        """
        options: dict[str, Any] = {"num_cpus": self.num_cpus}
        if self.resources:
            options["resources"] = dict(self.resources)
        if isinstance(self.node, Mapping):
            return options | {"label_selector": dict(self.node)}
        node = self._node()
        if node is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        return options

    def _node(self) -> str | None:
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        addresses: dict[str, str] = {
            each["NodeID"]: each["NodeManagerAddress"] for each in nodes if each["Alive"]
        }
        if self.node is not None:
            return _named(str(self.node), addresses, self.name)
        if self.resources or self.listen is None:
            return None
        host = parse_address(self.listen)[0]
        owners = [node for node, address in addresses.items() if address == host]
        if len(owners) != 1 and len(addresses) != 1:
            raise ConfigError(
                f"receiver {self.name!r}: {len(addresses)} nodes, and {len(owners)} of them "
                f"have the address {host!r}",
                remedy=f"Say node=, one of {sorted(addresses)}, or resources=.",
            )
        return owners[0] if len(owners) == 1 else next(iter(addresses))


def _named(wanted: str, addresses: dict[str, str], name: str) -> str:
    """Find an alive node by its id or address."""
    if wanted in addresses:
        return wanted
    found = [node for node, address in addresses.items() if address == wanted]
    if len(found) > 1:
        raise ConfigError(
            f"receiver {name!r}: several nodes have the address {wanted!r}",
            remedy=f"Name the node by its id: {', '.join(sorted(found))}.",
        )
    if not found:
        known = ", ".join(f"{node} ({address})" for node, address in addresses.items())
        raise ZcrxError(
            errno.EHOSTUNREACH,
            f"receiver {name!r}: no node {wanted!r} is alive in the cluster",
            step="ray",
            remedy=f"Alive: {known}. Name a node by its address, by labels or by resources= if "
            "another one may take its place.",
        )
    return found[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """
    Start a receiver again when its actor, its node or its source has failed.

    A new actor listens at the same port. Its connections are numbered anew, positions begin at 0,
    and what may be missing between is told by a `Gap`.

    Parameters
    ----------
    max_restarts : int
        Within `window`; one more failure ends the stream with a `FeedDiedError`.
    window : float or str
        Seconds, or text with a unit.
    first_delay, max_delay : float or str
        Before the first restart, and at most.
    factor : float
        By which the delay grows from one failure to the next within `window`.
    """

    max_restarts: int = 5
    window: Duration = "10 min"
    first_delay: Duration = "100 ms"
    max_delay: Duration = "30 s"
    factor: float = 2.0

    def __post_init__(self) -> None:
        """Check the values."""
        whole(self.max_restarts, "restart.max_restarts", 0, 2**31 - 1)
        for option in ("window", "first_delay", "max_delay"):
            parse_duration(getattr(self, option), f"restart.{option}")
        if not 1.0 <= self.factor < float("inf"):
            raise ConfigError(f"restart.factor={self.factor!r} must be 1 or more")

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures, from 1."""
        grown = parse_duration(self.first_delay) * self.factor ** min(failures - 1, 64)
        return min(grown, parse_duration(self.max_delay))
