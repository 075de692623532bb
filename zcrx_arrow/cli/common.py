# SPDX-License-Identifier: Apache-2.0
"""What the commands share: reading values, saying what went wrong, summing up."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import typer

import zcrx_arrow as zc
from zcrx_arrow.errors import ConfigError

__all__ = [
    "Summary",
    "errors",
    "human_bytes",
    "interruptible",
    "parse_delimiter",
    "printable",
    "tell",
]

_NAMED = {"lf": b"\n", "crlf": b"\r\n", "nul": b"\x00"}


def parse_delimiter(text: str) -> bytes:
    r"""
    Read a delimiter: ``lf``, ``crlf``, ``nul``, or text with escapes such as ``\r\n`` or ``\x1e``.

    Raises
    ------
    ConfigError
        If an escape is not one, or it is not 1 to 8 bytes.
    """
    if text.lower() in _NAMED:
        return _NAMED[text.lower()]
    try:
        delimiter = text.encode().decode("unicode_escape").encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise ConfigError(f"--delimiter={text!r} has an escape that is not one") from None
    if not 1 <= len(delimiter) <= 8:  # noqa: PLR2004 - the core's limit
        raise ConfigError(f"--delimiter={text!r} must be 1 to 8 bytes, not {len(delimiter)}")
    return delimiter


def printable(payload: bytes, width: int) -> str:
    """Make payload fit for a terminal: nothing in it can be taken for a control sequence."""
    text = payload[: 4 * width].decode("utf-8", errors="backslashreplace")
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return safe if len(safe) <= width else f"{safe[: width - 1]}…"


def human_bytes(count: float) -> str:
    """Write bytes with a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def tell(text: str) -> None:
    """Say something to the person, not to the next program."""
    typer.echo(text, err=True)


@contextmanager
def errors() -> Iterator[None]:
    """Turn errors into a message with cause and remedy, and an exit code: 2 usage, 1 the rest."""
    try:
        yield
    except BrokenPipeError:
        # Whoever read our output has gone: that is an end, not an error.
        sys.stderr.close()
        raise typer.Exit(0) from None
    except ConfigError as error:
        tell(f"zcrx-arrow: {error}")
        raise typer.Exit(2) from None
    except (OSError, ValueError) as error:
        tell(f"zcrx-arrow: {error}")
        raise typer.Exit(1) from None


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM end a command in good order, also one that a script started."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Summary:
    """What a receive came to."""

    rows: int = 0
    payload_bytes: int = 0
    batches: int = 0
    last_ns: int = 0

    def add(self, batch: Any, payload_bytes: int) -> None:
        """Count a batch."""
        self.last_ns = time.time_ns()
        self.rows += batch.num_rows
        self.payload_bytes += payload_bytes
        self.batches += 1

    def seconds(self, source: zc.Source) -> float:
        """Seconds from the first connection to the last batch."""
        opened = source.connections().column("opened_at")
        if not self.last_ns or not len(opened):
            return 0.0
        return max(self.last_ns - int(opened[0].value), 1) / 1e9

    def as_dict(self, source: zc.Source, stopped: str) -> dict[str, object]:
        """Give everything, for machines."""
        metrics = source.metrics()
        reasons: dict[str, int] = {}
        for reason in source.connections().column("close_reason").to_pylist():
            reasons[reason or "open"] = reasons.get(reason or "open", 0) + 1
        seconds = self.seconds(source)
        return {
            "stopped": stopped,
            "transport": source.transport,
            "rows": self.rows,
            "batches": self.batches,
            "received_bytes": metrics.bytes,
            "seconds": round(seconds, 6),
            "gigabits_per_second": round(metrics.bytes * 8e-9 / seconds, 3) if seconds else None,
            "zero_copy_share": round(metrics.zero_copy_share, 6),
            "copied_out_bytes": metrics.copied_out_bytes,
            "seams": metrics.seams,
            "stitched_bytes": metrics.stitched_bytes,
            "partial_bytes": metrics.partial_bytes,
            "stalls": metrics.stalls,
            "kernel_copied_bytes": metrics.kernel_copied_bytes,
            "reconnects": metrics.reconnects,
            "refused": metrics.refused,
            "framing_errors": metrics.framing_errors,
            "connections": reasons,
        }

    def report(
        self, source: zc.Source, stopped: str, *, as_json: bool, stream: IO[str] | None = None
    ) -> None:
        """Print the summary: JSON on `stream`, or a few lines on stderr."""
        facts = self.as_dict(source, stopped)
        if as_json:
            print(json.dumps(facts), file=stream or sys.stdout)
            return
        rate = facts["gigabits_per_second"]
        ends = ", ".join(f"{n} {reason}" for reason, n in source_reasons(facts).items()) or "none"
        tell(
            f"{self.rows:,} rows, {human_bytes(source.metrics().bytes)} in "
            f"{facts['seconds']:.2f} s"
            f"{f' ({rate} Gb/s)' if rate else ''}, {self.batches:,} batches; {stopped}\n"
            f"zero-copy {source.metrics().zero_copy_share:.2%}, {facts['seams']:,} seams, "
            f"{human_bytes(source.metrics().copied_out_bytes)} copied out, "
            f"{facts['stalls']} stalls\n"
            f"connections: {ends}"
        )


def source_reasons(facts: dict[str, object]) -> dict[str, int]:
    """Give the close reasons of a summary."""
    reasons = facts["connections"]
    return reasons if isinstance(reasons, dict) else {}
