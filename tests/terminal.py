# SPDX-License-Identifier: Apache-2.0
"""A real terminal, and a feed to be seen in it."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import threading

from tests.conftest import ROOT, eventually
from tests.tools import need

LINE = b"a line of the feed\n"


class Terminal:
    """A tmux session of its own server, with one program in it."""

    def __init__(self, folder, command: list[str], size=(100, 40)) -> None:
        need({"tmux": "tmux"})
        self.tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        said = folder / "stderr"
        line = f"{shlex.join(command)} 2>{said}; echo ended with $?; stty -a; sleep 600"
        width, height = map(str, size)
        self._do("new-session", "-d", "-x", width, "-y", height, "-c", str(ROOT), line)
        self.said = said

    @property
    def address(self) -> tuple[str, int]:
        """What the program says first, as JSON on stderr."""
        event = eventually(lambda: self.said.exists() and self.said.read_text().partition("\n")[0])
        return tuple(json.loads(event)["address"])

    def _do(self, *words: str) -> str:
        done = subprocess.run([*self.tmux, *words], capture_output=True, text=True, check=True)
        return done.stdout

    def screen(self) -> str:
        return self._do("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        self._do("send-keys", *keys)

    def shows(self, pattern: str) -> re.Match:
        return eventually(lambda: re.search(pattern, self.screen(), re.DOTALL), 60)

    def end(self) -> None:
        self._do("kill-server")


class Feed(threading.Thread):
    """Sends lines until it is told to stop, or the other side hangs up."""

    def __init__(self, address, piece=LINE * 1000, pause=0.01) -> None:
        super().__init__(daemon=True)
        self.address, self.piece, self.pause = address, piece, pause
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            with socket.create_connection(self.address) as peer:
                while not self.over.is_set():
                    peer.sendall(self.piece)
                    self.over.wait(self.pause)
        except OSError:
            pass

    def end(self) -> None:
        self.over.set()
        self.join(20)
        assert not self.is_alive()
