# SPDX-License-Identifier: Apache-2.0
"""The package as it is built."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import zcrx_arrow as zc
from tests.conftest import ROOT
from zcrx_arrow import _native


def test_few_names():
    assert len(zc.__all__) <= 18
    assert all(hasattr(zc, name) for name in zc.__all__)


def test_the_module_exports_nothing_of_the_core():
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", _native.__file__], capture_output=True, text=True, check=True
    ).stdout
    exported = {line.split()[-1] for line in symbols.splitlines()}
    assert exported == {"PyInit__native"}


def test_wheel_holds_every_python_file(tmp_path):
    subprocess.run(
        ["pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (
        (ROOT / "zcrx_arrow", "zcrx_arrow"),
        (ROOT / "connectors", "zcrx_arrow/connectors"),
    ):
        for path in folder.rglob("*.py*"):
            part = path.relative_to(folder)
            if part.parts[0] != "connectors" and "__pycache__" not in part.parts:
                assert str(Path(inside) / part) in names
