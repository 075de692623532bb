# SPDX-License-Identifier: Apache-2.0
"""What a receiving process says of itself: bytes, CPU time, memory."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path


def cpu_seconds() -> float:
    """CPU time of this process, all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def status_kib(field: str) -> int:
    """Read a field such as VmRSS or VmHWM of this process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise KeyError(field)


def say(**message: object) -> None:
    """Print an object for the harness."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def pin(cpu: int | None) -> None:
    """Leave the sender's CPU alone: run on all others."""
    if cpu is not None:
        others = os.sched_getaffinity(0) - {cpu}
        if others:
            os.sched_setaffinity(0, others)


@dataclass(frozen=True, slots=True)
class Probe:
    """Taken when the receiver is ready, told when it has everything.

    Imports and set-up come before, so that they do not count. The sender's first write starts the
    clock of the wall time, see the harness.
    """

    cpu: float
    rss_kib: int

    @classmethod
    def ready(cls, port: int) -> Probe:
        """Start measuring and let the sender come."""
        probe = cls(cpu_seconds(), status_kib("VmRSS"))
        say(port=port)
        return probe

    def end(self, payload_bytes: int) -> dict[str, object]:
        """Stop measuring: this many bytes have been received, and nothing follows."""
        ended_ns = time.monotonic_ns()
        return {
            "bytes": payload_bytes,
            "ended_ns": ended_ns,
            "cpu_seconds": cpu_seconds() - self.cpu,
            "rss_start_kib": self.rss_kib,
            "rss_peak_kib": status_kib("VmHWM"),
        }
