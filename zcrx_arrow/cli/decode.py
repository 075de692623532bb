# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow decode``."""

import sys
from typing import Annotated, Any

import typer

import zcrx_arrow as zc
from zcrx_arrow import config
from zcrx_arrow.cli import options as shared
from zcrx_arrow.cli.common import errors, interruptible
from zcrx_arrow.cli.decoding import read_decoder
from zcrx_arrow.cli.framings import read_framing
from zcrx_arrow.cli.moving import Move, Stop, opened
from zcrx_arrow.cli.rejects import open_rejects
from zcrx_arrow.cli.summary import Summary
from zcrx_arrow.cli.view import LiveView
from zcrx_arrow.config import CopyOut, PayloadType
from zcrx_arrow.decoders import Decoder
from zcrx_arrow.errors import ConfigError
from zcrx_arrow.framing import Framing
from zcrx_arrow.replay import Replay

__all__ = ["decode_file"]


def decode_file(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What to decode; - is stdin.")],
    *,
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
    payload_type: shared.PayloadType = "binary_view",
    copy_out: shared.CopyOut = "auto",
    area: Annotated[str, typer.Option(help="Size of the memory that is decoded in.")] = "64 MiB",
    max_rows: shared.MaxRows = 65536,
    as_json: shared.AsJson = False,
) -> None:
    """
    Decode a file as if it came over a connection: with the same framings, decoders and outputs.

    Ends at the end of the file, at a limit, or at Ctrl-C, with a summary and exit code 0. At bytes
    that cannot be read it ends with their position and exit code 1; rows before them are kept.

    For example:

        zcrx-arrow decode feed.bin --framing length:u16be --to ndjson

        zcrx-arrow decode flights.ndjson --decode ndjson --to parquet:flights.parquet

        zcat feed.gz | zcrx-arrow decode - --decode csv --on-error reject --rejected bad.ndjson
    """
    with errors(), interruptible():
        target = to or ("live" if sys.stdout.isatty() else "ndjson")
        limit = config.parse_size(bytes_, "--bytes") if bytes_ is not None else None
        decoder = read_decoder(
            decode, schema=schema, on_error=on_error, on_drift=on_drift, extra=extra, keep=keep
        )
        made = read_framing(
            framing,
            preamble,
            drop_preamble=drop_preamble,
            delimiter=delimiter,
            max_message=max_message,
            decoder=decoder,
        )
        options: dict[str, Any] = {
            "batching": zc.Batching(max_rows=max_rows),
            "area": area,
            "copy_out": _as(CopyOut, copy_out),
        }
        with (
            open_rejects(rejected, on_error, on_drift) as rejects,
            _open(file, decoder, made, _as(PayloadType, payload_type), options) as replay,
        ):
            stats = replay.decode_stats if decoder is not None else None
            summary = Summary()
            with opened(target, replay, decoder, summary) as sink:
                view = LiveView(replay, stats, file) if target == "live" else None
                move = Move(replay, sink, rejects, decoder, Stop(rows, limit), summary, view)
                stopped = move.run()
            stream = sys.stderr if target == "ndjson" else sys.stdout
            summary.report(replay, stopped, as_json=as_json, stream=stream, stats=stats)
            if move.error is not None:
                raise move.error


def _as(_kind: object, value: str) -> Any:
    """Pass a choice on; the library checks it and names the choices."""
    return value


def _open(
    file: str,
    decoder: Decoder | None,
    framing: Framing | None,
    payload_type: PayloadType,
    options: dict[str, Any],
) -> Replay:
    # Unbuffered, so that what a pipe has comes at once.
    data: Any = open(0, "rb", buffering=0, closefd=False) if file == "-" else file  # noqa: SIM115 - standard input
    if decoder is None:
        return zc.frame(data, framing, payload_type=payload_type, **options)
    if payload_type != "binary_view":
        raise ConfigError("--payload-type is of no use with --decode")
    return zc.decode(data, decoder, framing, **options)
