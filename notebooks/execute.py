# SPDX-License-Identifier: Apache-2.0
"""
Run the notebooks from top to bottom, and keep their outputs as they are kept in the tree.

    python notebooks/execute.py [02_live_table.ipynb ...]

Without arguments all of them. The state of widgets, megabytes of it, is left out, and so is what
changes from run to run and tells nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient

if TYPE_CHECKING:
    from nbformat import NotebookNode

HERE = Path(__file__).parent
TIMEOUT_S = 90  # of a cell


def notebooks() -> list[Path]:
    return sorted(HERE.glob("*.ipynb"))


def executed(path: Path) -> NotebookNode:
    """Run a notebook in a kernel of its own, in its folder; an error of a cell is raised."""
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}
    )
    client.execute()
    return tidy(book)


def tidy(book: NotebookNode) -> NotebookNode:
    book.metadata.pop("widgets", None)
    book.metadata.get("language_info", {}).pop("version", None)
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata.pop("execution", None)
    return book


def main() -> None:
    for path in [Path(name).resolve() for name in sys.argv[1:]] or notebooks():
        book = executed(path)
        nbformat.write(book, path)
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
