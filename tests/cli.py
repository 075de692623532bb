# SPDX-License-Identifier: Apache-2.0
"""The command as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import ROOT

CLI = [sys.executable, "-m", "zcrx_arrow.cli"]


class Receiver:
    """``zcrx-arrow receive --listen`` on a free port."""

    def __init__(self, *options: object) -> None:
        self.process = subprocess.Popen(
            [*CLI, "receive", "--listen", "127.0.0.1:0", "--json", *map(str, options)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stderr.readline()
        assert line.startswith("{"), line + self.process.stderr.read()
        event = json.loads(line)
        assert event["event"] == "listening"
        self.address = f"127.0.0.1:{event['address'][1]}"

    def end(self) -> tuple[str, str]:
        try:
            out, err = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, err
        return out, err


def run(*words, code: int | None = 0, **options):
    done = subprocess.run(
        [*CLI, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **options,
    )
    assert code in (None, done.returncode), f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
