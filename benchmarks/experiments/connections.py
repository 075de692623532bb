# SPDX-License-Identifier: Apache-2.0
"""Connections: a thousand peers that all send as fast as they are let."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks import processes
from benchmarks.stats import Spread, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.options import Options
    from benchmarks.processes import Message

AREA_MIB = 256
QUEUE_MIB = 8  # the default queue: 8 batches of 1 MiB
LINE_BYTES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionsResult:
    """How a source treats many connections.

    Attributes
    ----------
    served
        Connections that had received bytes when the snapshot was taken.
    slowest_to_mean
        Bytes of the slowest connection over the mean of all at that moment.
    memory_bound_mib
        The area and the queue's bound, which the growth of the resident set must stay under.
    """

    connections: int
    served: int
    gbps: Spread
    slowest_to_mean: Spread
    rss_growth_mib: float
    memory_bound_mib: float
    samples: list[dict[str, Any]]


@dataclass(slots=True)
class Connections:
    """The connections case of a run."""

    options: Options
    tell: Callable[[str], None]
    _samples: list[dict[str, Any]] = field(default_factory=list)

    def run_round(self) -> None:
        """Receive once."""
        options = self.options
        self.tell(f"{options.connections} connections")
        with processes.python(
            "receivers",
            case="connections",
            sender_cpu=options.sender_cpu,
            count=options.connections,
            snapshot_bytes=options.connections_bytes,
            area=f"{AREA_MIB} MiB",
        ) as receiver:
            port = receiver.read()["port"]
            with processes.native(
                "fanout", options.sender_cpu, port, options.connections
            ) as sender:
                receiver.read()
                sender.tell()
                got = receiver.finish()
                self._samples.append(_sample(sender.finish(), got, options.connections))

    def result(self) -> ConnectionsResult:
        """Summarise the rounds so far."""
        samples = self._samples
        return ConnectionsResult(
            connections=self.options.connections,
            served=min(sample["served"] for sample in samples),
            gbps=spread([sample["gbps"] for sample in samples]),
            slowest_to_mean=spread([sample["slowest_to_mean"] for sample in samples]),
            rss_growth_mib=max(sample["rss_growth_mib"] for sample in samples),
            memory_bound_mib=AREA_MIB + QUEUE_MIB,
            samples=samples,
        )


def _sample(sent: Message, got: Message, connections: int) -> dict[str, Any]:
    if sent["bytes"] != got["by_port"]:
        lost = [port for port, count in sent["bytes"].items() if got["by_port"].get(port) != count]
        message = f"{len(lost)} connections did not get exactly what was sent to them"
        raise AssertionError(message)
    rows = sum(-(-count // LINE_BYTES) for count in sent["bytes"].values())
    if not rows == got["rows"] == got["rows_counted"]:
        message = f"{got['rows']} rows instead of {rows}"
        raise AssertionError(message)
    # A connection that was not even accepted at the snapshot had its zero bytes too.
    fair = got["fair"] + [0] * (connections - len(got["fair"]))
    total = sum(fair)
    return {
        "served": sum(count > 0 for count in fair),
        "gbps": total * 8 / (got["snapshot_ns"] - sent["started_ns"]),
        "slowest_to_mean": min(fair) * len(fair) / total,
        "fastest_to_mean": max(fair) * len(fair) / total,
        "cpu_per_gb": got["cpu_seconds"] / got["bytes"] * 1e9,
        "rss_growth_mib": (got["rss_peak_kib"] - got["rss_start_kib"]) / 1024,
        "seams": got["seams"],
        "stalls": got["stalls"],
        "close_reasons": got["close_reasons"],
    }
