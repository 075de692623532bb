# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow send``."""

import json
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
from zcrx_arrow.cli import formats, tables
from zcrx_arrow.cli.common import errors, human_bytes, interruptible, tell
from zcrx_arrow.cli.formats import read_format
from zcrx_arrow.cli.pieces import Pace, Piece, raw_pieces, row_pieces
from zcrx_arrow.cli.schemas import read_schema
from zcrx_arrow.errors import ConfigError, ZcrxError

__all__ = ["send"]

_SENDFILE = 1 << 26


def send(
    source: Annotated[str, typer.Argument(metavar="FILE", help="What to send; - is stdin.")],
    address: Annotated[str, typer.Argument(metavar="HOST:PORT")],
    *,
    format_: Annotated[
        str, typer.Option("--format", help=f"What is sent: {formats.CHOICES}; see below.")
    ] = "raw",
    framing: Annotated[
        str | None,
        typer.Option(help="Framing of each row, for --format ndjson, records and payload."),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help="What --format payload sends. Default: payload, or the only one."),
    ] = None,
    compression: Annotated[
        str | None, typer.Option(help="For --format arrow-ipc: none, lz4 or zstd.")
    ] = None,
    input_format: Annotated[
        str | None,
        typer.Option(help=f"{tables.CHOICES}. Default: by the extension, else lines."),
    ] = None,
    schema: Annotated[
        str | None, typer.Option(help="Types of an NDJSON or CSV file; see below.")
    ] = None,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows that are read at a time.")] = 16384,
    rate: Annotated[
        str | None, typer.Option(help="Bytes a second, such as '10 MB'. Default: no limit.")
    ] = None,
    rows_per_second: Annotated[
        float | None,
        typer.Option(
            "--rows-per-second",
            "--lines-per-second",
            min=0.001,
            help="Rows a second; of raw bytes: lines.",
        ),
    ] = None,
    loop: Annotated[
        int, typer.Option(min=0, help="Send the file that many times; 0: for ever.")
    ] = 1,
    listen: Annotated[
        bool, typer.Option(help="Wait for one peer at HOST:PORT instead of connecting.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Summary as JSON on stdout.")] = False,
) -> None:
    """
    Send a file or standard input to a TCP peer: its bytes, or its rows in a wire format.

    For example:

        zcrx-arrow send flights.ndjson 127.0.0.1:9000 --lines-per-second 5000 --loop 0

        tail -f app.log | zcrx-arrow send - 127.0.0.1:9000

        zcrx-arrow send trades.parquet 127.0.0.1:9000 --format records:trade.json

        zcrx-arrow send flights.parquet 127.0.0.1:9000 --format arrow-ipc --compression zstd
    """
    with errors(), interruptible():
        if rate is not None and rows_per_second is not None:
            raise ConfigError("give one of --rate and --rows-per-second")
        if source == "-" and loop != 1:
            raise ConfigError("--loop needs a file: standard input comes once")
        per_second = config.parse_size(rate.removesuffix("/s"), "--rate") if rate else None
        if per_second == 0:
            raise ConfigError("--rate must be more than 0")
        made = read_format(format_, framing, column, compression)
        if made is None:
            _refuse("--format raw", input_format=input_format, schema=schema)
            pieces = raw_pieces(source, loop, per_second, rows_per_second)
        else:
            pieces = row_pieces(
                source,
                tables.kind_of(source, input_format),
                read_schema(schema) if schema is not None else None,
                made,
                Pace(loop, batch_rows, per_second, rows_per_second),
            )
        total = Path(source).stat().st_size * loop if source != "-" else None
        _send(pieces, address, listen, as_json, None if made else total)


def _refuse(where: str, **given: str | None) -> None:
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is of no use with {where}")


def _send(
    pieces: Iterator[Piece], address: str, listen: bool, as_json: bool, total: int | None
) -> None:
    peer = _peer(address, listen, as_json)
    started = time.monotonic()
    with peer, _progress(total) as (progress, task):
        sent = _send_all(peer, pieces, progress, task)
        if sent.error is None:
            _wait_for_peer(peer)
    seconds = time.monotonic() - started
    if as_json:
        facts = {"bytes": sent.bytes, "rows": sent.rows, "seconds": round(seconds, 6)}
        print(json.dumps({name: fact for name, fact in facts.items() if fact is not None}))
    else:
        speed = sent.bytes * 8e-9 / seconds if seconds else 0.0
        rows = f"{sent.rows:,} rows, " if sent.rows is not None else ""
        tell(f"sent {rows}{human_bytes(sent.bytes)} in {seconds:.2f} s ({speed:.2f} Gb/s)")
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
        self.rows: int | None = None
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
    peer: socket.socket, pieces: Iterator[Piece], progress: Progress, task: TaskID
) -> _Sent:
    sent = _Sent()
    try:
        for piece in pieces:
            if isinstance(piece.data, bytes):
                peer.sendall(piece.data)
                _count(sent, len(piece.data), progress, task)
            else:
                _send_file(peer, piece.data, sent, progress, task)
            if piece.rows is not None:
                sent.rows = (sent.rows or 0) + piece.rows
    except (BrokenPipeError, ConnectionError) as error:
        sent.error = error
    except KeyboardInterrupt:
        tell("stopped by Ctrl-C")
    return sent


def _count(sent: _Sent, count: int, progress: Progress, task: TaskID) -> None:
    sent.bytes += count
    progress.advance(task, count)


def _send_file(
    peer: socket.socket, file: IO[bytes], sent: _Sent, progress: Progress, task: TaskID
) -> None:
    """Hand the file to the kernel, a piece at a time so that progress shows."""
    offset = 0
    while count := peer.sendfile(file, offset=offset, count=_SENDFILE):
        offset += count
        _count(sent, count, progress, task)


def _wait_for_peer(peer: socket.socket) -> None:
    """End our side and wait for the peer's end, so that nothing we sent is reset on its way."""
    peer.settimeout(60)
    try:
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65536):
            pass
    except OSError:
        return
