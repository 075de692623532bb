# SPDX-License-Identifier: Apache-2.0
"""What every test relies on; above all: nothing that was lent may be out when a test ends."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

import zcrx_arrow as zc
from tests.wire import card, dial, wire  # noqa: F401 - fixtures
from zcrx_arrow._native import lib
from zcrx_arrow.errors import UnsupportedError

ROOT = Path(__file__).parent.parent

# What runs in the background of a shell without job control ignores it, and so would its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def unavailable(reason: str) -> None:
    """Skip on a user's machine; fail in CI, where everything must run."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def io_uring() -> None:
    try:
        with closing(zc.listen("127.0.0.1:0")):
            pass
    except UnsupportedError as error:
        unavailable(str(error))


@pytest.fixture(scope="session", autouse=True)
def what_is_imported_is_not_garbage():
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def no_area_leaks():
    """An area lives as long as its source or a batch of it; both are gone at the very end."""
    yield
    eventually(lambda: (gc.collect(), lib.za_live_areas() == 0)[1], 5)


def receiver_threads() -> int:
    names = []
    for comm in Path("/proc/self/task").glob("*/comm"):
        try:
            names.append(comm.read_text().strip())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return names.count("zcrx-receiver")


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# Virtual machines share two processors, and emulate theirs.
SLOWER = 3 if os.environ.get("ZCRX_ARROW_GUEST") else 1


def eventually(condition, timeout: float = 20.0):
    """Poll until the condition holds; give what it returned."""
    deadline = time.monotonic() + SLOWER * timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"never came true: {condition}")
        time.sleep(0.01)
    return found


@pytest.fixture(autouse=True)
def nothing_outstanding():
    threads = receiver_threads()
    yield
    # Looking for what nobody reaches takes longer than most tests: only if there is something.
    eventually(lambda: lib.za_outstanding() == 0 or (gc.collect(), False)[1], 5)
    eventually(lambda: receiver_threads() <= threads or (gc.collect(), False)[1], 5)


class Sender(threading.Thread):
    """Sends pieces to an address from a thread, then ends the stream."""

    def __init__(self, address, pieces, *, hold: threading.Event | None = None) -> None:
        super().__init__(daemon=True)
        self.address, self.pieces, self.hold = address, list(pieces), hold
        self.error: OSError | None = None
        self.start()

    def run(self) -> None:
        try:
            with dial(self.address) as peer:
                for piece in self.pieces:
                    peer.sendall(piece)
                if self.hold:
                    self.hold.wait()
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(65536):
                    pass
        except OSError as error:
            self.error = error


@pytest.fixture
def send():
    senders: list[Sender] = []

    def start(address, *pieces, **options) -> Sender:
        senders.append(Sender(address, pieces, **options))
        return senders[-1]

    yield start
    for sender in senders:
        if sender.hold:
            sender.hold.set()
        sender.join(20)
        assert not sender.is_alive(), "a sender hangs"


@pytest.fixture
def run_python():
    """Run a script in a process of its own; give what it printed."""

    def run(script: str, *, warn: str = "error", code: int | None = 0, timeout: float = 60):
        done = subprocess.run(
            [sys.executable, "-W", warn, "-c", textwrap.dedent(script)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if code is not None:
            assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def endless():
    """Send the same bytes to a source until it closes."""
    threads = []

    def start(address, data):
        def run():
            try:
                with socket.create_connection(address) as peer:
                    while True:
                        peer.sendall(data)
            except OSError:
                pass

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
