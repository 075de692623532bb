# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow receive``."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any

import pyarrow as pa
import typer
from rich.console import Console
from rich.live import Live

import zcrx_arrow as zc
from zcrx_arrow import config
from zcrx_arrow._core import Transport
from zcrx_arrow.cli.common import Summary, errors, interruptible, parse_delimiter, tell
from zcrx_arrow.cli.view import LiveView
from zcrx_arrow.config import CopyOut, PayloadType
from zcrx_arrow.connectors.sink import NullSink, Sink, open_sink
from zcrx_arrow.errors import ConfigError

__all__ = ["receive"]

_REFRESH_S = 0.25


def receive(
    *,
    listen: Annotated[str | None, typer.Option(help="Accept connections at HOST:PORT.")] = None,
    connect: Annotated[str | None, typer.Option(help="Connect to HOST:PORT.")] = None,
    accept: Annotated[int | None, typer.Option(help="With --listen: end after N peers.")] = None,
    greeting: Annotated[str, typer.Option(help="With --connect: sent first; with escapes.")] = "",
    reconnect: Annotated[bool, typer.Option(help="With --connect: dial again, for ever.")] = False,
    framing: Annotated[str, typer.Option(help="raw, lines or delimited.")] = "raw",
    delimiter: Annotated[
        str, typer.Option(help=r"For delimited: lf, crlf, nul, or escapes such as \x1e.")
    ] = "lf",
    max_message: Annotated[str, typer.Option(help="A longer message is an error.")] = "1 MiB",
    to: Annotated[
        str | None,
        typer.Option(
            help="live, ipc:PATH, parquet:PATH, ndjson or null. Default: live on a terminal, "
            "else ndjson."
        ),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Stop after N rows, exactly.")] = None,
    bytes_: Annotated[
        str | None, typer.Option("--bytes", help="Stop once this much payload has come.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after S seconds.")] = None,
    payload_type: Annotated[
        str, typer.Option(help="binary_view, string_view, large_binary or large_string.")
    ] = "binary_view",
    copy_out: Annotated[str, typer.Option(help="auto, never or always.")] = "auto",
    transport: Annotated[
        str, typer.Option(help="auto, zcrx (with --nic), copy or nodev.")
    ] = "auto",
    nic: Annotated[
        str | None,
        typer.Option(help="Receive queue of a NIC, as 'zcrx-arrow nic apply' prints it."),
    ] = None,
    area: Annotated[str, typer.Option(help="Size of the receive memory.")] = "256 MiB",
    max_rows: Annotated[int, typer.Option(help="Rows of a batch at most.")] = 65536,
    max_bytes: Annotated[str | None, typer.Option(help="Payload of a batch.")] = None,
    max_delay: Annotated[str, typer.Option(help="Age of a batch at most.")] = "10 ms",
    max_connections: Annotated[int, typer.Option(help="Open at a time.")] = 1024,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Summary as JSON: on stdout, or on stderr if rows go to stdout."
        ),
    ] = False,
) -> None:
    r"""
    Receive a TCP feed as Arrow batches, and watch or keep them.

    Ends at the end of the stream, at a limit, or at Ctrl-C; each time with a summary and exit
    code 0. The address that was bound is printed on stderr. With --json there is also a first
    line on stderr, {"event": "listening", "address": [host, port]}.

    For example:

        zcrx-arrow receive --listen 127.0.0.1:9000 --framing lines

        zcrx-arrow receive --connect feed:9000 --greeting 'SUBSCRIBE\n' --to parquet:feed.parquet

        zcrx-arrow receive --listen :9000 --framing lines --to ndjson | jq .payload
    """
    with errors(), interruptible():
        target = to or ("live" if sys.stdout.isatty() else "ndjson")
        limit = config.parse_size(bytes_, "--bytes") if bytes_ is not None else None
        options: dict[str, Any] = {
            "framing": _framing(framing, delimiter, max_message),
            "transport": _as(Transport, transport),
            "nic": nic,
            "area": area,
            "copy_out": _as(CopyOut, copy_out),
            "payload_type": _as(PayloadType, payload_type),
            "batching": zc.Batching(max_rows=max_rows, max_bytes=max_bytes, max_delay=max_delay),
            "limits": zc.Limits(connections=max_connections),
        }
        with _open(listen, connect, accept, greeting, reconnect, options) as source:
            _announce(source, listen is not None, as_json)
            live = target == "live"
            sink: Sink = NullSink() if live else open_sink(target, source.schema, sys.stdout)
            summary = Summary()
            with _finishing(sink):
                stopped = _run(source, sink, summary, live, rows, limit, seconds)
            stream = sys.stderr if target == "ndjson" else sys.stdout
            summary.report(source, stopped, as_json=as_json, stream=stream)


def _as(_kind: object, value: str) -> Any:
    """Pass a choice on; the source checks it and names the choices."""
    return value


def _framing(framing: str, delimiter: str, max_message: str) -> zc.framing.Framing:
    match framing:
        case "raw":
            return zc.framing.Raw()
        case "lines":
            return zc.framing.Delimited(b"\n", max_message=max_message)
        case "delimited":
            return zc.framing.Delimited(parse_delimiter(delimiter), max_message=max_message)
        case _:
            raise ConfigError(f"--framing={framing!r} must be raw, lines or delimited")


def _open(
    listen: str | None,
    connect: str | None,
    accept: int | None,
    greeting: str,
    reconnect: bool,
    options: dict[str, Any],
) -> zc.Source:
    if (listen is None) == (connect is None):
        raise ConfigError("give one of --listen HOST:PORT and --connect HOST:PORT")
    if listen is not None:
        return zc.listen(listen, accept=accept, **options)
    said = greeting.encode().decode("unicode_escape").encode("latin-1") if greeting else b""
    again = zc.Reconnect() if reconnect else None
    return zc.connect(connect or "", greeting=said, reconnect=again, **options)


def _announce(source: zc.Source, listening: bool, as_json: bool) -> None:
    host, port = source.address
    if as_json:
        event = "listening" if listening else "connected"
        tell(json.dumps({"event": event, "address": [host, port]}))
    elif listening:
        tell(f"listening on {host}:{port}")


@contextmanager
def _finishing(sink: Sink) -> Iterator[None]:
    """Close the sink after success, remove what it wrote after an error."""
    try:
        yield
        sink.close()
    except BaseException:
        sink.abort()
        raise


def _run(
    source: zc.Source,
    sink: Sink,
    summary: Summary,
    live: bool,
    rows: int | None,
    limit: int | None,
    seconds: float | None,
) -> str:
    """Move batches until something ends it; says what."""
    view = LiveView(source) if live else None
    deadline = time.monotonic() + seconds if seconds is not None else None
    console = Console(stderr=not sys.stdout.isatty())
    display: Any = Live(console=console, auto_refresh=False) if view else nullcontext()
    try:
        with display:
            refresh = _refresher(display, view)
            while True:
                refresh()
                batch, ended = _next(source, deadline, live)
                if ended:
                    return ended
                if batch is None:
                    continue
                batch = _within(batch, summary, rows, limit)
                sink.write(batch)
                summary.add(batch, _payload_bytes(batch) if limit is not None else 0)
                if view and batch.num_rows:
                    view.see(batch)
                if rows is not None and summary.rows >= rows:
                    return f"stopped after {rows:,} rows"
                if limit is not None and summary.payload_bytes >= limit:
                    return f"stopped after {summary.payload_bytes:,} bytes"
    except KeyboardInterrupt:
        return "stopped by Ctrl-C"


def _refresher(display: Any, view: LiveView | None) -> Callable[[], None]:
    due = 0.0

    def refresh() -> None:
        nonlocal due
        if view and time.monotonic() >= due:
            display.update(view.render(), refresh=True)
            due = time.monotonic() + _REFRESH_S

    return refresh


def _next(
    source: zc.Source, deadline: float | None, live: bool
) -> tuple[pa.RecordBatch | None, str | None]:
    """Wait for a batch, but not past the deadline or the next refresh; or why it is over."""
    timeout: float | None = _REFRESH_S if live else None
    if deadline is not None:
        left = deadline - time.monotonic()
        if left <= 0:
            return None, "stopped at the time limit"
        timeout = left if timeout is None else min(timeout, left)
    try:
        batch = source.next_batch(timeout)
    except TimeoutError:
        return None, None
    return batch, None if batch is not None else "end of stream"


def _payload_bytes(batch: pa.RecordBatch) -> int:
    payload = batch.column("payload").cast(pa.large_binary())
    return int(payload.buffers()[2].size) if len(payload) else 0


def _within(
    batch: pa.RecordBatch, summary: Summary, rows: int | None, limit: int | None
) -> pa.RecordBatch:
    """Cut a batch off at the row that a limit falls on."""
    if rows is not None and summary.rows + batch.num_rows > rows:
        batch = batch.slice(0, rows - summary.rows)
    if limit is not None and summary.payload_bytes + _payload_bytes(batch) > limit:
        left = limit - summary.payload_bytes
        count = 0
        while left > 0:
            left -= len(batch.column("payload")[count].as_py())
            count += 1
        batch = batch.slice(0, count)
    return batch
