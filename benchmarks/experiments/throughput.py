# SPDX-License-Identifier: Apache-2.0
"""Throughput: one stream, received in each way."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from benchmarks import feeds, processes
from benchmarks.load import quietly
from benchmarks.stats import Spread, paired_ratio, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.options import Options
    from benchmarks.processes import Message

FLOOR = "a"
IPC = "d"
FLIGHT = "e"
SEED = 20_240_917


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A way to receive.

    Attributes
    ----------
    share
        Of the run's bytes.
    keeps
        Everything received stays in memory.
    """

    key: str
    title: str
    feed: Literal["lines", "ipc", "flight"]
    receiver: str
    ours: bool = False
    share: float = 1.0
    keeps: bool = False


CASES = (
    Case(key="a", title="C recv(), 64 KiB", feed="lines", receiver="floor"),
    Case(key="b", title="socket.recv_into", feed="lines", receiver="recv_into"),
    Case(key="c", title="socket.recv + pa.array", feed="lines", receiver="recv_array"),
    Case(key="d", title="pa.ipc.open_stream", feed="ipc", receiver="ipc"),
    Case(key="e", title="Arrow Flight DoGet", feed="flight", receiver="flight_get"),
    Case(key="f", title="zcrx-arrow raw", feed="lines", receiver="raw", ours=True),
    Case(key="g", title="zcrx-arrow lines", feed="lines", receiver="lines", ours=True),
    Case(
        key="h",
        title="zcrx-arrow keep all",
        feed="lines",
        receiver="keep",
        ours=True,
        share=0.5,
        keeps=True,
    ),
    Case(key="i", title="zcrx-arrow Arrow IPC", feed="ipc", receiver="arrow", ours=True),
    Case(
        key="j",
        title="zcrx-arrow Arrow IPC, chunks of 4 MiB",
        feed="ipc",
        receiver="arrow_large",
        ours=True,
    ),
    Case(
        key="k",
        title="zcrx-arrow Arrow IPC, the same, trusted",
        feed="ipc",
        receiver="arrow_trusted",
        ours=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One stream received once.

    Attributes
    ----------
    others_share
        Of the machine's CPU time, what was used by neither receiver, sender nor harness.
    """

    payload_bytes: int
    seconds: float
    cpu_seconds: float
    sender_cpu_seconds: float
    rss_start_mib: float
    rss_peak_mib: float
    others_share: float
    details: dict[str, Any]

    @property
    def gbps(self) -> float:
        """Gigabits a second, from the sender's first write to the receiver's last byte."""
        return self.payload_bytes * 8e-9 / self.seconds

    @property
    def cpu_per_gb(self) -> float:
        """CPU seconds of the receiving process for each GB."""
        return self.cpu_seconds / self.payload_bytes * 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What the rounds of a case came to; ratios are None without the case to compare with.

    Attributes
    ----------
    gbps_to_ipc, cpu_to_ipc
        To ``pa.ipc.open_stream``, of what receives the same batches.
    in_place
        Share of the bytes that are used where they were received.
    cpu_below_flight
        How many times less CPU per GB than Flight.
    """

    key: str
    title: str
    ours: bool
    samples: list[Sample]
    gbps: Spread
    cpu_per_gb: Spread
    rss_peak_mib: float
    rss_growth_mib: float
    gbps_to_floor: Spread | None
    cpu_to_floor: Spread | None
    cpu_below_flight: Spread | None
    gbps_to_ipc: Spread | None
    cpu_to_ipc: Spread | None
    in_place: Spread | None


def _sample(sent: Message, got: Message, expected: int) -> Sample:
    if got["bytes"] != expected:
        message = f"{got['bytes']} bytes arrived instead of {expected}"
        raise AssertionError(message)
    return Sample(
        payload_bytes=expected,
        seconds=(got["ended_ns"] - sent["started_ns"]) * 1e-9,
        cpu_seconds=got["cpu_seconds"],
        sender_cpu_seconds=sent["cpu_seconds"],
        rss_start_mib=got["rss_start_kib"] / 1024,
        rss_peak_mib=got["rss_peak_kib"] / 1024,
        others_share=0.0,
        details=got.get("details", {}),
    )


def _receiver(case: Case, options: Options) -> processes.Child:
    if case.receiver == "floor":
        return processes.native("floor", options.receiver_cpu)
    return processes.python("receivers", case=case.receiver, sender_cpu=options.sender_cpu)


def _over_socket(case: Case, options: Options, total: int) -> Sample:
    feed = feeds.ipc(total) if case.feed == "ipc" else feeds.lines(total)
    with _receiver(case, options) as receiver:
        port = receiver.read()["port"]
        arguments = feed.sender_arguments()
        with processes.native("sender", options.sender_cpu, port, *arguments) as sender:
            got = receiver.finish()
            return _sample(sender.finish(), got, feed.payload_bytes)


def _over_flight(case: Case, options: Options, total: int) -> Sample:
    expected = feeds.ipc_batches(total) * feeds.IPC_BATCH_BYTES
    cpu = options.sender_cpu
    with processes.python("flight_server", total=total, sender_cpu=cpu) as server:
        port = server.read()["port"]
        parameters = {"case": case.receiver, "sender_cpu": cpu, "server_port": port}
        with processes.python("receivers", **parameters) as receiver:
            receiver.read()
            got = receiver.finish()
        server.tell()
        return _sample(server.finish(), got, expected)


@dataclass(slots=True)
class Throughput:
    """The throughput cases of a run."""

    options: Options
    cases: list[Case]
    tell: Callable[[str], None]
    _samples: dict[str, list[Sample]] = field(default_factory=dict)
    _order: random.Random = field(default_factory=lambda: random.Random(SEED))

    def run_round(self) -> None:
        """Take a sample of each case, in an order of this round's own."""
        for case in self._order.sample(self.cases, len(self.cases)):
            self.tell(f"({case.key}) {case.title}")
            self._samples.setdefault(case.key, []).append(self._quiet_sample(case))

    def _quiet_sample(self, case: Case) -> Sample:
        """Take a sample while the machine does little else."""
        total = int(self.options.stream_bytes * case.share)
        measure = _over_flight if case.feed == "flight" else _over_socket
        if case.keeps:
            with processes.python("warm_memory", total=total) as child:
                child.finish()
        sample, share = quietly(lambda: measure(case, self.options, total), self.tell)
        return replace(sample, others_share=share)

    def result(self) -> list[CaseResult]:
        """Summarise the rounds so far."""
        return [self._case_result(case) for case in self.cases]

    def _ratio(self, key: str, base: str, what: str) -> Spread | None:
        if base not in self._samples:
            return None
        mine, other = self._samples[key], self._samples[base]
        return paired_ratio([getattr(s, what) for s in mine], [getattr(s, what) for s in other])

    def _below_flight(self, key: str) -> Spread | None:
        if FLIGHT not in self._samples:
            return None
        mine, flight = self._samples[key], self._samples[FLIGHT]
        return paired_ratio([s.cpu_per_gb for s in flight], [s.cpu_per_gb for s in mine])

    def _case_result(self, case: Case) -> CaseResult:
        samples = self._samples[case.key]
        in_place = [s.details["in_place"] for s in samples if "in_place" in s.details]
        return CaseResult(
            key=case.key,
            title=case.title,
            ours=case.ours,
            samples=samples,
            gbps=spread([sample.gbps for sample in samples]),
            cpu_per_gb=spread([sample.cpu_per_gb for sample in samples]),
            rss_peak_mib=max(sample.rss_peak_mib for sample in samples),
            rss_growth_mib=max(sample.rss_peak_mib - sample.rss_start_mib for sample in samples),
            gbps_to_floor=self._ratio(case.key, FLOOR, "gbps"),
            cpu_to_floor=self._ratio(case.key, FLOOR, "cpu_per_gb"),
            cpu_below_flight=self._below_flight(case.key),
            gbps_to_ipc=None if case.feed == "lines" else self._ratio(case.key, IPC, "gbps"),
            cpu_to_ipc=None if case.feed == "lines" else self._ratio(case.key, IPC, "cpu_per_gb"),
            in_place=spread(in_place) if in_place else None,
        )
