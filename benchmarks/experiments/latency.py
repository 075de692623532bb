# SPDX-License-Identifier: Apache-2.0
"""Latency: one message there, one answer back, nothing else under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import processes
from benchmarks.load import quietly
from benchmarks.stats import Spread, paired_ratio, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.options import Options

MESSAGE_BYTES = 64
WARMUP_TRIPS = 1_000
BASE = "socket"
TITLES = {"socket": "blocking socket.recv", "ours": "zcrx-arrow lines"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyResult:
    """Round-trip times of one receiver in microseconds; ratios are to the blocking socket."""

    key: str
    title: str
    ours: bool
    samples: list[dict[str, Any]]
    p50_us: Spread
    p99_us: Spread
    p50_to_socket: Spread
    p99_to_socket: Spread


@dataclass(slots=True)
class Latency:
    """The latency case of a run."""

    options: Options
    with_ours: bool
    tell: Callable[[str], None]
    _samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def run_round(self) -> None:
        """Take a sample of each receiver, the first one changing from round to round."""
        keys = [BASE, "ours"] if self.with_ours else [BASE]
        if len(self._samples.get(BASE, ())) % 2:
            keys.reverse()
        for key in keys:
            self.tell(f"latency, {TITLES[key]}")
            sample, share = quietly(partial(self._sample, key), self.tell)
            self._samples.setdefault(key, []).append(sample | {"others_share": share})

    def _sample(self, key: str) -> dict[str, Any]:
        options = self.options
        parameters = {"case": f"answer_{key}", "message_bytes": MESSAGE_BYTES}
        with processes.python("receivers", sender_cpu=options.sender_cpu, **parameters) as receiver:
            ports = receiver.read()
            arguments = (ports["port"], ports["reply_port"], options.trips)
            with processes.native(
                "pinger", options.sender_cpu, *arguments, WARMUP_TRIPS, MESSAGE_BYTES
            ) as pinger:
                sample = pinger.finish()
            messages = receiver.finish()["messages"]
        if messages != options.trips + WARMUP_TRIPS:
            message = f"{messages} messages instead of {options.trips + WARMUP_TRIPS}"
            raise AssertionError(message)
        return sample

    def result(self) -> list[LatencyResult]:
        """Summarise the rounds so far."""
        return [self._summary(key) for key in TITLES if key in self._samples]

    def _summary(self, key: str) -> LatencyResult:
        def values(of: str, percentile: str) -> list[float]:
            return [sample[percentile] for sample in self._samples[of]]

        return LatencyResult(
            key=key,
            title=TITLES[key],
            ours=key == "ours",
            samples=self._samples[key],
            p50_us=spread(values(key, "p50_us")),
            p99_us=spread(values(key, "p99_us")),
            p50_to_socket=paired_ratio(values(key, "p50_us"), values(BASE, "p50_us")),
            p99_to_socket=paired_ratio(values(key, "p99_us"), values(BASE, "p99_us")),
        )
