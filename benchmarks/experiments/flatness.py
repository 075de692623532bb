# SPDX-License-Identifier: Apache-2.0
"""Flatness: what a long stream leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import feeds, processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.options import Options

LOOKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatnessResult:
    """Samples along the stream; drifts are last minus first."""

    payload_bytes: int
    samples: list[dict[str, int]]
    gc_objects_drift: int
    rss_drift_mib: float
    most_chunks_leased: int
    chunks_leased_at_end: int
    lease_faults: int


@dataclass(slots=True)
class Flatness:
    """The flatness case of a run."""

    options: Options
    tell: Callable[[str], None]
    _result: FlatnessResult | None = None

    def run_round(self) -> None:
        """Receive the whole stream once."""
        options = self.options
        self.tell(f"flatness over {options.flatness_bytes / 1e9:g} GB")
        feed = feeds.lines(options.flatness_bytes)
        every = options.flatness_bytes // LOOKS
        with processes.python(
            "receivers", case="flatness", sender_cpu=options.sender_cpu, every_bytes=every
        ) as receiver:
            port = receiver.read()["port"]
            arguments = feed.sender_arguments()
            with processes.native("sender", options.sender_cpu, port, *arguments) as sender:
                got = receiver.finish()
                sender.finish()
        rows = feed.payload_bytes // feeds.LINE_BYTES
        if (got["bytes"], got["rows"]) != (feed.payload_bytes, rows):
            message = f"{got['bytes']} bytes, {got['rows']} rows instead of {feed.payload_bytes}"
            raise AssertionError(message)
        samples = got["samples"]
        self._result = FlatnessResult(
            payload_bytes=feed.payload_bytes,
            samples=samples,
            gc_objects_drift=samples[-1]["gc_objects"] - samples[0]["gc_objects"],
            rss_drift_mib=(samples[-1]["rss_kib"] - samples[0]["rss_kib"]) / 1024,
            most_chunks_leased=max(sample["chunks_leased"] for sample in samples),
            chunks_leased_at_end=got["chunks_leased_at_end"],
            lease_faults=got["lease_faults"],
        )

    def result(self) -> FlatnessResult:
        """Say what the stream left behind."""
        if self._result is None:
            message = "not run yet"
            raise RuntimeError(message)
        return self._result
