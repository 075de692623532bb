# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow receive``."""

import json
import sys
from typing import Annotated, Any

import typer

import zcrx_arrow as zc
from zcrx_arrow import config
from zcrx_arrow._core import Transport
from zcrx_arrow.cli import options as shared
from zcrx_arrow.cli.common import errors, interruptible, tell
from zcrx_arrow.cli.decoding import read_decoder
from zcrx_arrow.cli.framings import read_framing
from zcrx_arrow.cli.moving import Move, Stop, opened
from zcrx_arrow.cli.rejects import open_rejects
from zcrx_arrow.cli.summary import Summary
from zcrx_arrow.cli.view import LiveView
from zcrx_arrow.cli.watching import logged, watched
from zcrx_arrow.config import CopyOut, PayloadType
from zcrx_arrow.decoded import DecodedSource
from zcrx_arrow.decoders import Decoder
from zcrx_arrow.errors import ConfigError

__all__ = ["announce", "open_source", "receive", "source_options"]


def receive(
    *,
    listen: Annotated[str | None, typer.Option(help="Accept connections at HOST:PORT.")] = None,
    connect: Annotated[str | None, typer.Option(help="Connect to HOST:PORT.")] = None,
    accept: Annotated[int | None, typer.Option(help="With --listen: end after N peers.")] = None,
    greeting: Annotated[str, typer.Option(help="With --connect: sent first; with escapes.")] = "",
    reconnect: Annotated[bool, typer.Option(help="With --connect: dial again, for ever.")] = False,
    framing: shared.Framing = None,
    delimiter: shared.Delimiter = None,
    preamble: shared.Preamble = None,
    drop_preamble: shared.DropPreamble = False,
    max_message: shared.MaxMessage = None,
    decode: shared.Decode = "none",
    schema: shared.Schema = None,
    on_error: shared.OnError = None,
    on_drift: shared.OnDrift = None,
    extra: shared.Extra = None,
    keep: shared.Keep = None,
    rejected: shared.Rejected = None,
    to: shared.To = None,
    rows: shared.RowLimit = None,
    bytes_: shared.BytesLimit = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after S seconds.")] = None,
    payload_type: shared.PayloadType = "binary_view",
    copy_out: shared.CopyOut = "auto",
    transport: Annotated[
        str, typer.Option(help="auto, zcrx (with --nic), copy or nodev.")
    ] = "auto",
    nic: Annotated[
        str | None,
        typer.Option(help="Receive queue of a NIC, as 'zcrx-arrow nic apply' prints it."),
    ] = None,
    area: Annotated[str, typer.Option(help="Size of the receive memory.")] = "256 MiB",
    max_rows: shared.MaxRows = 65536,
    max_bytes: Annotated[str | None, typer.Option(help="Payload of a batch.")] = None,
    max_delay: Annotated[str, typer.Option(help="Age of a batch at most.")] = "10 ms",
    max_connections: Annotated[int, typer.Option(help="Open at a time.")] = 1024,
    metrics: shared.Metrics = None,
    log: shared.Log = "text",
    as_json: shared.AsJson = False,
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

        zcrx-arrow receive --listen :9000 --decode ndjson --schema '{"carrier": "string"}'

        zcrx-arrow receive --listen :9000 --decode records:trade.json --to parquet:trades.parquet
    """
    with errors(), interruptible():
        target = to or ("live" if sys.stdout.isatty() else "ndjson")
        limit = config.parse_size(bytes_, "--bytes") if bytes_ is not None else None
        decoder = read_decoder(
            decode, schema=schema, on_error=on_error, on_drift=on_drift, extra=extra, keep=keep
        )
        options = source_options(
            decoder,
            framing=framing,
            preamble=preamble,
            drop_preamble=drop_preamble,
            delimiter=delimiter,
            max_message=max_message,
            transport=transport,
            nic=nic,
            area=area,
            copy_out=copy_out,
            payload_type=payload_type,
            max_rows=max_rows,
            max_bytes=max_bytes,
            max_delay=max_delay,
            max_connections=max_connections,
        )
        with (
            logged(log),
            open_rejects(rejected, on_error, on_drift) as rejects,
            open_source(listen, connect, accept, greeting, reconnect, options) as source,
            watched(metrics, source, as_json=as_json) as say_where,
        ):
            announce(source, listen is not None, as_json)
            say_where()
            stats = source.decode_stats if isinstance(source, DecodedSource) else None
            summary = Summary()
            with opened(target, source, decoder, summary) as sink:
                view = LiveView(source, stats) if target == "live" else None
                stop = Stop(rows, limit, seconds)
                stopped = Move(source, sink, rejects, decoder, stop, summary, view).run()
            stream = sys.stderr if target == "ndjson" else sys.stdout
            summary.report(source, stopped, as_json=as_json, stream=stream, stats=stats)


def source_options(
    decoder: Decoder | None,
    *,
    framing: str | None,
    preamble: str | None,
    drop_preamble: bool,
    delimiter: str | None,
    max_message: str | None,
    transport: str,
    nic: str | None,
    area: str,
    copy_out: str,
    payload_type: str,
    max_rows: int,
    max_bytes: str | None,
    max_delay: str,
    max_connections: int,
) -> dict[str, Any]:
    """Make what `zc.listen` and `zc.connect` take of the options of those names."""
    return {
        "framing": read_framing(
            framing,
            preamble,
            drop_preamble=drop_preamble,
            delimiter=delimiter,
            max_message=max_message,
            decoder=decoder,
        ),
        "decode": decoder,
        "transport": _as(Transport, transport),
        "nic": nic,
        "area": area,
        "copy_out": _as(CopyOut, copy_out),
        "payload_type": _as(PayloadType, payload_type),
        "batching": zc.Batching(max_rows=max_rows, max_bytes=max_bytes, max_delay=max_delay),
        "limits": zc.Limits(connections=max_connections),
    }


def _as(_kind: object, value: str) -> Any:
    """Pass a choice on; the source checks it and names the choices."""
    return value


def open_source(
    listen: str | None,
    connect: str | None,
    accept: int | None,
    greeting: str,
    reconnect: bool,
    options: dict[str, Any],
) -> zc.Source:
    """Open a source as the options of those names say."""
    if (listen is None) == (connect is None):
        raise ConfigError("give one of --listen HOST:PORT and --connect HOST:PORT")
    if listen is not None:
        return zc.listen(listen, accept=accept, **options)
    said = greeting.encode().decode("unicode_escape").encode("latin-1") if greeting else b""
    again = zc.Reconnect() if reconnect else None
    return zc.connect(connect or "", greeting=said, reconnect=again, **options)


def announce(source: zc.Source, listening: bool, as_json: bool) -> None:
    """Say on stderr where it listens."""
    host, port = source.address
    if as_json:
        event = "listening" if listening else "connected"
        tell(json.dumps({"event": event, "address": [host, port]}))
    elif listening:
        tell(f"listening on {host}:{port}")
