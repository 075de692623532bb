# SPDX-License-Identifier: Apache-2.0
"""What the commands share: writing values, saying what went wrong, ending in order."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import typer

from zcrx_arrow.errors import ConfigError

__all__ = [
    "errors",
    "human_bytes",
    "interruptible",
    "printable",
    "tell",
]


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
    except (OSError, ValueError, pa.ArrowException) as error:
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
