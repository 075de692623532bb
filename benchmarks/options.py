# SPDX-License-Identifier: Apache-2.0
"""What a run of the benchmarks does, and the command line that says so."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
THROUGHPUT_CASES = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k")
OTHER_CASES = ("latency", "connections", "flatness", "memory", "circle")
ALL_CASES = THROUGHPUT_CASES + OTHER_CASES

GB = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The size and the extent of a run.

    Attributes
    ----------
    cases
        Keys out of ``ALL_CASES``.
    rounds
        Interleaved rounds of throughput, latency and what goes from memory.
    stream_bytes
        Bytes of one throughput sample.
    trips
        Round trips of one latency sample.
    connections
        Concurrent connections of the connections case.
    connections_bytes
        Bytes in all at which that case takes its snapshot.
    flatness_bytes
        Bytes received by the flatness case.
    memory_bytes
        Bytes of one sample from memory.
    sender_cpu
        The CPU that senders are pinned to; receivers get the others. None pins nothing.
    receiver_cpu
        The CPU of what has a single thread: the floor, and all that goes from memory.
    idle_poll
        Keep idle CPUs polling during the run (where permitted).
    json, plot, markdown
        Where the results go.
    """

    cases: tuple[str, ...]
    rounds: int
    stream_bytes: int
    trips: int
    connections: int
    connections_bytes: int
    flatness_bytes: int
    memory_bytes: int
    sender_cpu: int | None
    receiver_cpu: int | None
    idle_poll: bool
    json: Path
    plot: Path
    markdown: Path


def _cases(text: str) -> tuple[str, ...]:
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = sorted(set(chosen) - set(ALL_CASES))
    if unknown or not chosen:
        message = f"unknown case {', '.join(unknown)}; there are {', '.join(ALL_CASES)}"
        raise argparse.ArgumentTypeError(message)
    return tuple(case for case in ALL_CASES if case in chosen)


def _count(text: str) -> int:
    value = int(float(text))
    if value < 1:
        message = "must be at least 1"
        raise argparse.ArgumentTypeError(message)
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Receives over loopback TCP in every way, and compares.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a short run: 3 rounds, a quarter of the bytes"
    )
    parser.add_argument(
        "--only", type=_cases, default=ALL_CASES, metavar="CASES", help=f"of {','.join(ALL_CASES)}"
    )
    parser.add_argument("--rounds", type=_count, help="interleaved rounds (default 7)")
    parser.add_argument("--bytes", type=_count, help="bytes of a throughput sample (default 2e9)")
    parser.add_argument(
        "--no-pin", action="store_true", help="do not pin the sender and the receiver to CPUs"
    )
    parser.add_argument(
        "--no-idle-poll", action="store_true", help="let idle CPUs sleep (noisy on VMs)"
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "latest.json", metavar="PATH")
    parser.add_argument("--plot", type=Path, default=RESULTS / "latest.png", metavar="PATH")
    parser.add_argument("--markdown", type=Path, default=RESULTS / "latest.md", metavar="PATH")
    return parser


def parse(arguments: list[str], cpus: tuple[int, ...]) -> Options:
    """Turn command-line arguments into options for a machine with these CPUs."""
    given = _parser().parse_args(arguments)
    quick = given.quick
    pinned = len(cpus) > 1 and not given.no_pin
    return Options(
        cases=given.only,
        rounds=given.rounds or (3 if quick else 7),
        stream_bytes=given.bytes or (GB // 2 if quick else 2 * GB),
        trips=5_000 if quick else 20_000,
        connections=1_000,
        connections_bytes=GB // 2 if quick else 4 * GB,
        flatness_bytes=GB if quick else 10 * GB,
        memory_bytes=64_000_000 if quick else 256_000_000,
        sender_cpu=cpus[-1] if pinned else None,
        receiver_cpu=cpus[0] if pinned else None,
        idle_poll=not given.no_idle_poll,
        json=given.json,
        plot=given.plot,
        markdown=given.markdown,
    )
