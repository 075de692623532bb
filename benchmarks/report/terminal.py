# SPDX-License-Identifier: Apache-2.0
"""The report on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table as RichTable

from benchmarks.report.tables import Table, how, tables

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.run import Report


def _rich(table: Table) -> RichTable:
    drawn = RichTable(title=table.title, title_justify="left")
    for index, column in enumerate(table.columns):
        drawn.add_column(column, justify="right" if index else "left")
    for row in table.rows:
        drawn.add_row(*row, style="bold" if "zcrx-arrow" in row[0] else None)
    return drawn


def show(report: Report, console: Console) -> None:
    """Print the tables and how they came about."""
    for table in tables(report):
        console.print(_rich(table))
    console.print(how(report))
    for reason in report.missing:
        console.print(f"not available: {reason}", style="yellow", markup=False)
