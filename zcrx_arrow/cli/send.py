# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow send``."""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from zcrx_arrow import address as addresses
from zcrx_arrow import config
from zcrx_arrow.cli.common import errors, human_bytes, interruptible, tell
from zcrx_arrow.errors import ConfigError, ZcrxError

__all__ = ["send"]

_PIECE = 1 << 20
_TICK_S = 0.01


def send(
    source: Annotated[str, typer.Argument(metavar="FILE", help="What to send; - is stdin.")],
    address: Annotated[str, typer.Argument(metavar="HOST:PORT")],
    *,
    rate: Annotated[
        str | None, typer.Option(help="Bytes a second, such as '10 MB'. Default: no limit.")
    ] = None,
    lines_per_second: Annotated[float | None, typer.Option(min=0.001)] = None,
    loop: Annotated[
        int, typer.Option(min=0, help="Send the file that many times; 0: for ever.")
    ] = 1,
    listen: Annotated[
        bool, typer.Option(help="Wait for one peer at HOST:PORT instead of connecting.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Summary as JSON on stdout.")] = False,
) -> None:
    """
    Replay a file or standard input to a TCP peer.

    For example:

        zcrx-arrow send flights.ndjson 127.0.0.1:9000 --lines-per-second 5000 --loop 0

        tail -f app.log | zcrx-arrow send - 127.0.0.1:9000
    """
    with errors(), interruptible():
        if rate is not None and lines_per_second is not None:
            raise ConfigError("give one of --rate and --lines-per-second")
        if source == "-" and loop != 1:
            raise ConfigError("--loop needs a file: standard input comes once")
        per_second = config.parse_size(rate.removesuffix("/s"), "--rate") if rate else None
        if per_second == 0:
            raise ConfigError("--rate must be more than 0")
        total = Path(source).stat().st_size * loop if source != "-" else None
        peer = _peer(address, listen, as_json)
        started = time.monotonic()
        with peer, _progress(total) as (progress, task):
            sent = _send_all(peer, source, loop, per_second, lines_per_second, progress, task)
            if sent.error is None:
                _wait_for_peer(peer)
        seconds = time.monotonic() - started
        if as_json:
            print(json.dumps({"bytes": sent.bytes, "seconds": round(seconds, 6)}))
        else:
            speed = sent.bytes * 8e-9 / seconds if seconds else 0.0
            tell(f"sent {human_bytes(sent.bytes)} in {seconds:.2f} s ({speed:.2f} Gb/s)")
        if sent.error is not None:
            raise ZcrxError(
                sent.error.errno or 0,
                f"the peer closed the connection; it had taken {sent.bytes:,} bytes at the most",
                step="send",
            )


class _Sent:
    """How far it came."""

    def __init__(self) -> None:
        self.bytes = 0
        self.error: OSError | None = None


def _peer(address: str, listen: bool, as_json: bool) -> socket.socket:
    if not listen:
        return addresses.dial(address, b"", 10.0)
    with addresses.listen_socket(address) as listener:
        host, port = addresses.name_of(listener)
        if as_json:
            tell(json.dumps({"event": "listening", "address": [host, port]}))
        else:
            tell(f"waiting for a peer at {host}:{port}")
        return listener.accept()[0]


class _progress:  # noqa: N801 - used as a function
    """A progress bar, if there is a terminal to show it on."""

    def __init__(self, total: int | None) -> None:
        self._progress = Progress(
            TextColumn("sending"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._total = total or None

    def __enter__(self) -> tuple[Progress, TaskID]:
        self._progress.start()
        return self._progress, self._progress.add_task("send", total=self._total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _send_all(
    peer: socket.socket,
    source: str,
    loop: int,
    per_second: int | None,
    lines_per_second: float | None,
    progress: Progress,
    task: TaskID,
) -> _Sent:
    sent = _Sent()
    rounds = 0
    try:
        while loop == 0 or rounds < loop:
            rounds += 1
            with sys.stdin.buffer if source == "-" else Path(source).open("rb") as file:
                if per_second or lines_per_second:
                    pieces = _paced(file, per_second, lines_per_second)
                elif source == "-":
                    pieces = iter(lambda: os.read(0, _PIECE), b"")
                else:
                    pieces = None
                if pieces is None:
                    _send_file(peer, file, sent, progress, task)
                    continue
                for piece in pieces:
                    peer.sendall(piece)
                    sent.bytes += len(piece)
                    progress.advance(task, len(piece))
            if rounds == 1 and not sent.bytes:
                break  # nothing, however often it is repeated
    except (BrokenPipeError, ConnectionError) as error:
        sent.error = error
    except KeyboardInterrupt:
        tell("stopped by Ctrl-C")
    return sent


def _send_file(
    peer: socket.socket, file: IO[bytes], sent: _Sent, progress: Progress, task: TaskID
) -> None:
    """Hand the file to the kernel, a piece at a time so that progress shows."""
    offset = 0
    while count := peer.sendfile(file, offset=offset, count=64 * _PIECE):
        offset += count
        sent.bytes += count
        progress.advance(task, count)


def _paced(
    file: IO[bytes], per_second: int | None, lines_per_second: float | None
) -> Iterator[bytes]:
    """Pieces of the file, each when it is due."""
    started = time.monotonic()
    done = 0.0
    if lines_per_second:
        for line in file:
            _sleep_until(started + done / lines_per_second)
            done += 1
            yield line
        return
    rate = per_second or 1
    size = max(1, min(_PIECE, int(rate * _TICK_S)))
    while piece := file.read(size):
        _sleep_until(started + done / rate)
        done += len(piece)
        yield piece


def _sleep_until(due: float) -> None:
    left = due - time.monotonic()
    if left > 0:
        time.sleep(left)


def _wait_for_peer(peer: socket.socket) -> None:
    """End our side and wait for the peer's end, so that nothing we sent is reset on its way."""
    peer.settimeout(60)
    try:
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(_PIECE):
            pass
    except OSError:
        return
