# SPDX-License-Identifier: Apache-2.0
"""The report as markdown, ready to be pasted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report.tables import Table, how, tables

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.run import Report


def _lines(table: Table) -> list[str]:
    align = ["---", *["---:"] * (len(table.columns) - 1)]
    rows = (table.columns, align, *table.rows)
    return [f"| {' | '.join(cells)} |" for cells in rows]


def write(report: Report, path: Path) -> None:
    """Write the tables, the machine below them."""
    blocks = ["\n".join(_lines(table)) for table in tables(report)]
    blocks.append(f"{how(report)} Taken {report.taken_at[:10]}.")
    blocks.extend(f"Not available: {reason}." for reason in report.missing)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
