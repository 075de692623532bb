# SPDX-License-Identifier: Apache-2.0
"""The commands, put together."""

import logging
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from zcrx_arrow.cli import nic
from zcrx_arrow.cli.decode import decode_file
from zcrx_arrow.cli.demo import demo
from zcrx_arrow.cli.doctor import doctor
from zcrx_arrow.cli.options import EPILOG, SENDING
from zcrx_arrow.cli.receive import receive
from zcrx_arrow.cli.send import send
from zcrx_arrow.cli.top import top

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Live network bytes as Arrow record batches.",
)
app.command(epilog=EPILOG)(receive)
app.command(epilog=EPILOG)(top)
app.command("decode", epilog=EPILOG)(decode_file)
app.command(epilog=SENDING)(send)
app.command()(demo)
app.command()(doctor)
app.add_typer(nic.app, name="nic")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zcrx-arrow {version('zcrx-arrow')}")
        raise typer.Exit


@app.callback()
def common(
    *,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log connections and pauses to stderr.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Set up what every command needs."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR,
        format="%(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_path=False, markup=False)],
    )
