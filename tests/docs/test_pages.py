# SPDX-License-Identifier: Apache-2.0
"""The Python of every page on connectors runs, as it stands there, from top to bottom."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs/connectors").glob("*.md"))


def program(text: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def test_there_are_pages():
    assert PAGES
    assert all(program(page.read_text()) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_runs(page, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(program(page.read_text()))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "docs/examples")}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
