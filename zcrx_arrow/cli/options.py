# SPDX-License-Identifier: Apache-2.0
"""Options that `receive` and `decode` share: what a message is, and what becomes of it."""

from typing import Annotated, Final

import typer

from zcrx_arrow.cli import decoding, formats, framings, layouts, schemas

__all__ = [
    "EPILOG",
    "SENDING",
    "AsJson",
    "BytesLimit",
    "CopyOut",
    "Decode",
    "Delimiter",
    "DropPreamble",
    "Extra",
    "Framing",
    "Keep",
    "Log",
    "MaxMessage",
    "MaxRows",
    "Metrics",
    "OnDrift",
    "OnError",
    "PayloadType",
    "Preamble",
    "Rejected",
    "RowLimit",
    "Schema",
    "To",
    "verbatim",
]


def verbatim(*texts: str) -> str:
    """Join help texts so that their lines stay as they are."""
    blocks = [block for text in texts for block in text.strip().split("\n\n")]
    return "\n\n".join(f"\b\n{block}" for block in blocks)


EPILOG: Final = verbatim(framings.HELP, decoding.HELP, layouts.HELP, schemas.HELP)
SENDING: Final = verbatim(formats.HELP, framings.SENDING_HELP, layouts.HELP, schemas.HELP)

Framing = Annotated[
    str | None,
    typer.Option(help=f"{framings.CHOICES}; see below. Default: what goes with --decode, or raw."),
]
Delimiter = Annotated[
    str | None,
    typer.Option(help=r"For --framing delimited: lf, crlf, nul, or escapes such as \x1e."),
]
Preamble = Annotated[
    str | None,
    typer.Option(help="Framing of the first message alone, such as length:u32le,offset=4."),
]
DropPreamble = Annotated[bool, typer.Option("--drop-preamble", help="Leave the first message out.")]
MaxMessage = Annotated[
    str | None,
    typer.Option(
        help="A longer message is an error. Default: 1 MiB, syslog 64 KiB, arrow-ipc 256 MiB."
    ),
]
Decode = Annotated[
    str, typer.Option("--decode", help=f"To typed columns: {decoding.CHOICES}; see below.")
]
Schema = Annotated[
    str | None,
    typer.Option(
        help="For ndjson, csv and arrow-ipc: a file with it, or JSON; see below. Default: what "
        "comes first tells."
    ),
]
OnError = Annotated[
    str | None,
    typer.Option(
        help="Values and rows that cannot be read: fail (the connection ends), null or reject. "
        "Default: fail."
    ),
]
OnDrift = Annotated[
    str | None,
    typer.Option(help="Fields that are not the schema's: fail, widen or reject. Default: fail."),
]
Extra = Annotated[
    str | None,
    typer.Option(help="Fields that the schema has not: drift, or ignore. Default: drift."),
]
Keep = Annotated[
    str | None,
    typer.Option(
        help="With --decode: also these columns, of connection,position,received_at; or all."
    ),
]
Rejected = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Write rejected rows to this NDJSON file. Without it they are only counted.",
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        help="live, ipc:PATH, parquet:PATH, rolling:DIR[,roll=SIZE][,roll=TIME][,rows=N]"
        "[,format=ipc][,prefix=P], ndjson or null. Default: live on a terminal, else ndjson."
    ),
]
RowLimit = Annotated[int | None, typer.Option(min=1, help="Stop after N rows, exactly.")]
BytesLimit = Annotated[
    str | None,
    typer.Option(
        "--bytes",
        help="Stop once this much payload has come; with --decode, this many bytes.",
    ),
]
PayloadType = Annotated[
    str, typer.Option(help="binary_view, string_view, large_binary or large_string.")
]
CopyOut = Annotated[str, typer.Option(help="auto, never or always.")]
MaxRows = Annotated[int, typer.Option(help="Rows of a batch at most.")]
Metrics = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT[,public][,connections=N]",
        help="Serve metrics for Prometheus; public: also to other machines; series of their own "
        "for N open connections.",
    ),
]
Log = Annotated[str, typer.Option(help="text, or json: every event as a line of JSON on stderr.")]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Summary as JSON: on stdout, or on stderr if rows go to stdout."),
]
