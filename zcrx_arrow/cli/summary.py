# SPDX-License-Identifier: Apache-2.0
"""What a command's work came to."""

import json
import sys
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any, Final

import zcrx_arrow as zc
from zcrx_arrow.cli.common import human_bytes, tell
from zcrx_arrow.decoders import DecodeStats
from zcrx_arrow.replay import Replay

__all__ = ["Summary", "share_in_place"]

_ERRORS: Final = 8


def share_in_place(stats: DecodeStats) -> float | None:
    """Give the share of Arrow IPC bodies that are read where they came; None without any."""
    whole = stats.in_place_bytes + stats.gathered_bytes
    return stats.in_place_bytes / whole if whole else None


@dataclass
class Summary:
    """Counts rows as they are written, and sums up."""

    rows: int = 0
    payload_bytes: int = 0
    batches: int = 0
    last_ns: int = 0
    started_ns: int = field(default_factory=time.time_ns)

    def add(self, batch: Any, payload_bytes: int) -> None:
        """Count a batch."""
        self.last_ns = time.time_ns()
        self.rows += batch.num_rows
        self.payload_bytes += payload_bytes
        self.batches += 1

    def seconds(self, source: zc.Source | Replay) -> float:
        """Seconds from the first connection to the last batch."""
        begin = self.started_ns
        if isinstance(source, zc.Source):
            opened = source.connections().column("opened_at")
            begin = int(opened[0].value) if len(opened) else self.last_ns
        return max(self.last_ns - begin, 1) / 1e9 if self.last_ns else 0.0

    def as_dict(
        self, source: zc.Source | Replay, stopped: str, stats: DecodeStats | None = None
    ) -> dict[str, Any]:
        """Give everything, for machines; `stats` are a decoder's."""
        metrics = source.metrics()
        seconds = self.seconds(source)
        facts: dict[str, Any] = {
            "stopped": stopped,
            "rows": self.rows,
            "batches": self.batches,
            "received_bytes": metrics.bytes,
            "seconds": round(seconds, 6),
            "gigabits_per_second": round(metrics.bytes * 8e-9 / seconds, 3) if seconds else None,
            "seams": metrics.seams,
            "stitched_bytes": metrics.stitched_bytes,
            "partial_bytes": metrics.partial_bytes,
            "framing_errors": metrics.framing_errors,
        }
        if isinstance(source, zc.Source):
            facts |= {
                "transport": source.transport,
                "zero_copy_share": round(metrics.zero_copy_share, 6),
                "copied_out_bytes": metrics.copied_out_bytes,
                "stalls": metrics.stalls,
                "kernel_copied_bytes": metrics.kernel_copied_bytes,
                "reconnects": metrics.reconnects,
                "refused": metrics.refused,
                "connections": _reasons(source),
                "errors": _errors(source),
            }
        if stats is not None:
            share = share_in_place(stats)
            facts |= {
                "rejected_rows": stats.rejected_rows,
                "nulled_rows": stats.nulled_rows,
                "drifts": stats.drifts,
                "failed_connections": stats.failed_connections,
                "in_place_share": None if share is None else round(share, 6),
            }
        return facts

    def report(
        self,
        source: zc.Source | Replay,
        stopped: str,
        *,
        as_json: bool,
        stream: IO[str] | None = None,
        stats: DecodeStats | None = None,
    ) -> None:
        """Print the summary: JSON on `stream`, or a few lines on stderr."""
        facts = self.as_dict(source, stopped, stats)
        if as_json:
            print(json.dumps(facts), file=stream or sys.stdout)
            return
        rate = facts["gigabits_per_second"]
        tell(
            f"{self.rows:,} rows, {human_bytes(facts['received_bytes'])} in "
            f"{facts['seconds']:.2f} s"
            f"{f' ({rate} Gb/s)' if rate else ''}, {self.batches:,} batches; {stopped}"
        )
        for line in _lines(facts):
            tell(line)


def _reasons(source: zc.Source) -> dict[str, int]:
    """Count connections by how they ended."""
    reasons: dict[str, int] = {}
    for reason in source.connections().column("close_reason").to_pylist():
        reasons[reason or "open"] = reasons.get(reason or "open", 0) + 1
    return reasons


def _errors(source: zc.Source) -> list[str]:
    """Say of the first connections that ended badly why."""
    table = source.connections()
    pairs = zip(table.column("id").to_pylist(), table.column("error").to_pylist(), strict=True)
    told = (f"connection {number}: {error}" for number, error in pairs if error)
    return list(islice(told, _ERRORS))


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = []
    if "zero_copy_share" in facts:
        lines.append(
            f"zero-copy {facts['zero_copy_share']:.2%}, {facts['seams']:,} seams, "
            f"{human_bytes(facts['copied_out_bytes'])} copied out, {facts['stalls']} stalls"
        )
    if "rejected_rows" in facts:
        share = facts["in_place_share"]
        lines.append(
            f"{facts['rejected_rows']:,} rejected rows, {facts['nulled_rows']:,} nulled rows, "
            f"{facts['drifts']:,} drifts, {facts['failed_connections']:,} failed connections"
            + (f", {share:.2%} read in place" if share is not None else "")
        )
    if facts["partial_bytes"]:
        lines.append(f"{human_bytes(facts['partial_bytes'])} never became a whole message")
    if "connections" in facts:
        ends = ", ".join(f"{n} {reason}" for reason, n in facts["connections"].items())
        lines.append(f"connections: {ends or 'none'}")
        lines += facts["errors"]
    return lines
