# SPDX-License-Identifier: Apache-2.0
"""Every notebook runs from top to bottom in a kernel of its own, and is kept with its outputs."""

from __future__ import annotations

import re
import subprocess
import sys

import nbformat
import pytest

from tests.conftest import ROOT

HERE = ROOT / "notebooks"
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
MOST_BYTES = 300_000


def outputs(book) -> list:
    return [each for cell in book.cells for each in cell.get("outputs", [])]


def kinds(book) -> list:
    """Say what is shown; how often a stream was flushed on the way differs."""
    return [
        list(dict.fromkeys((o.output_type, *sorted(o.get("data", {}))) for o in cell.outputs))
        for cell in book.cells
        if cell.cell_type == "code"
    ]


def text_of(book) -> str:
    return "".join(
        each.get("text", "") + each.get("data", {}).get("text/plain", "") for each in outputs(book)
    )


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert path.stat().st_size < MOST_BYTES
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert outputs(book)
    assert not [each for each in outputs(book) if each.output_type == "error"]
    if not path.stem.startswith("01"):
        assert any("image/png" in each.get("data", {}) for each in outputs(book))
    # Nothing of the machine that it ran on.
    assert not re.search(r"/(work|home|root|tmp)/| at 0x", text_of(book))
    assert "widgets" not in book.metadata


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    """In a process of its own: it brings an event loop, sockets and threads of Jupyter."""
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    done = subprocess.run(
        [sys.executable, HERE / "execute.py", copy],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    book = nbformat.read(copy, as_version=4)
    before = nbformat.read(path, as_version=4)
    assert [cell.source for cell in book.cells] == [cell.source for cell in before.cells]
    assert kinds(book) == kinds(before)
    assert "stderr" not in [each.get("name") for each in outputs(book)], text_of(book)


def test_a_notebook_that_fails_is_told(tmp_path):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    path = tmp_path / "bad.ipynb"
    nbformat.write(book, path)
    before = path.read_text()
    done = subprocess.run(
        [sys.executable, HERE / "execute.py", path], capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert "ZeroDivisionError" in done.stderr
    assert path.read_text() == before
