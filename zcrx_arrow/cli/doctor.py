# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow doctor``."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from zcrx_arrow.cli.common import errors
from zcrx_arrow.doctor import Report, examine

__all__ = ["doctor"]

_SIGNS = {"ok": "ok", "no": "no", "note": "-"}


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what works on this machine, what does not and why, and what to do next."""
    with errors():
        report = examine()
        if as_json:
            print(json.dumps(report.to_json(), indent=1))
        else:
            _print(report)
    if not report.works:
        raise typer.Exit(1)


def _print(report: Report) -> None:
    console = Console(highlight=False, markup=False)
    console.print(f"Linux {report.kernel}")
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in report.machine:
        table.add_row(_SIGNS[finding.verdict], finding.name, finding.found)
    console.print(table)
    interfaces = Table("interface", "driver", "auto", "zero copies", box=None, pad_edge=False)
    for each in report.interfaces:
        interfaces.add_row(each.name, each.driver or "-", each.auto, each.why)
    console.print(interfaces)
    console.print(f"transport='auto' without nic=: {report.auto}")
    for line in report.next:
        console.print(f"-> {line}")
