# SPDX-License-Identifier: Apache-2.0
"""Runs the JavaScript client, whose packages are fetched once into the project's cache."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

from tests.conftest import unavailable
from tests.kernel.packages import CACHE
from tests.tools import need

HERE = Path(__file__).parent
OPTIONS = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--loglevel=error")


def packages() -> Path:
    """Give the folder that has the packages."""
    wanted = (HERE / "package.json").read_bytes()
    folder = CACHE / "flight-client" / hashlib.sha256(wanted).hexdigest()[:16]
    if folder.exists():
        return folder
    need({"npm": "npm", "node": "nodejs"})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        (Path(made) / "package.json").write_bytes(wanted)
        done = subprocess.run(
            ["npm", "install", *OPTIONS],
            cwd=made,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        if done.returncode:
            unavailable(f"npm cannot get the client's packages: {done.stderr[-500:]}")
        # Whole or not at all: other runs may be at it too.
        try:
            Path(made).rename(folder)
        except OSError:
            assert folder.exists()
        Path(made).mkdir(exist_ok=True)
    return folder


class Client(subprocess.Popen):
    """A call of the client; says JSON, a line for each thing."""

    def __init__(self, folder: Path, **wish) -> None:
        need({"node": "nodejs"})
        super().__init__(
            ["node", str(HERE / "client.js"), json.dumps(wish, default=str)],
            env=os.environ | {"NODE_PATH": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> dict:
        """Give the next thing that it says."""
        text = self.stdout.readline()
        assert text, self.stderr.read()
        return json.loads(text)

    def result(self) -> dict:
        """Give the last thing that it says."""
        out, err = self.communicate(timeout=60)
        assert self.returncode == 0, err
        assert not err, err
        return json.loads(out.splitlines()[-1])
