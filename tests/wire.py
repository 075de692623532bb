# SPDX-License-Identifier: Apache-2.0
"""
Where bytes come from, by transport.

``copy`` and ``nodev`` have their peers on the loopback. ``zcrx`` listens at queue 1 of a software
NIC, and its peers are in a network namespace at the other end of that NIC's wire; so it runs in the
virtual machine only.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import zcrx_arrow as zc
from tests.kernel.guest import nic

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSPORTS = os.environ.get("ZCRX_ARROW_TEST_TRANSPORTS", "copy").split(",")


def dial(address: tuple[Any, ...]) -> socket.socket:
    """Connect as a peer does: to an address of the software NIC from the far end of its wire."""
    if address[0] not in nic.HERE.values():
        return socket.create_connection(address[:2])
    with nic.far():
        return socket.create_connection(address[:2])


@dataclass(frozen=True)
class Wire:
    """
    A transport, with addresses of both ends: of ours and of the peers'.

    A socket stays in the network namespace that it was made in, so threads need not.
    """

    transport: str
    here: str = "127.0.0.1"
    far: str = "127.0.0.1"
    here6: str = "::1"
    far6: str = "::1"
    queue: str | None = None

    def listen(self, *, family: int = 4, **options: Any) -> zc.Source:
        """Open a source that peers can reach."""
        host = self.here if family == 4 else self.here6
        return zc.listen((host, 0), transport=self.transport, nic=self.queue, **options)

    def some(self, times: int) -> int:
        """
        Give how often to repeat what opens sources.

        Binding and unbinding a queue takes a tenth of a second, and has tests of its own.
        """
        return times if self.queue is None else max(5, times // 10)

    def connect(self, port: int, **options: Any) -> zc.Source:
        """Open a source that dials a peer."""
        host = "localhost" if self.queue is None else self.far
        return zc.connect(f"{host}:{port}", transport=self.transport, nic=self.queue, **options)

    def serve(self) -> socket.socket:
        """Listen as a peer."""
        if self.queue is None:
            return socket.create_server((self.far, 0))
        with nic.far():
            return socket.create_server((self.far, 0))


@pytest.fixture(scope="session")
def card() -> Iterator[None]:
    """Load the software NIC."""
    if not os.environ.get("ZCRX_ARROW_ZCSIM"):
        from tests.conftest import unavailable

        unavailable("the software NIC could not be built, or this is not the virtual machine")
    nic.load()
    yield
    nic.unload()


@pytest.fixture(params=TRANSPORTS)
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """Every way for bytes to get into the area; integration tests run on each."""
    if request.param != "zcrx":
        yield Wire(request.param)
        return
    request.getfixturevalue("card")
    rules = nic.steer("zc0", nic.ANY_PORT, 1)
    yield Wire(request.param, nic.HERE[4], nic.THERE[4], nic.HERE[6], nic.THERE[6], "zc0:1")
    nic.forget("zc0", rules)
