# SPDX-License-Identifier: Apache-2.0
"""Peers that talk to a source, and what came of each of them."""

from __future__ import annotations

import socket
import threading

from tests.conftest import eventually
from tests.wire import dial


def ask(address, *streams: bytes) -> list[str]:
    """Have one peer a stream send it and end it, one after the other; give the peers' names."""
    names = []
    for stream in streams:
        with dial(address) as peer:
            names.append("{}:{}".format(*peer.getsockname()[:2]))
            peer.sendall(stream)
            peer.shutdown(socket.SHUT_WR)
    return names


class Pulling(threading.Thread):
    """Takes every batch of a source."""

    def __init__(self, source) -> None:
        super().__init__(daemon=True)
        self.source, self.batches, self.error = source, [], None
        self.start()

    def run(self) -> None:
        try:
            for batch in self.source:
                self.batches.append(batch)
                del batch  # held by nobody else while the next one is waited for
        except BaseException as error:  # noqa: BLE001 - told to whoever joins
            self.error = error

    def all(self) -> list:
        """Wait for the end of the stream."""
        self.join(30)
        assert not self.is_alive(), "the source does not end"
        if self.error is not None:
            raise self.error
        return self.batches


def with_a_bad_one(source, good: list[bytes], bad: bytes, *, halves: int = 2):
    """
    Have good peers send a half, then a bad one all, then the good ones the rest.

    The rest is only sent when the bad one has been closed from this side. Gives all batches and
    the row of each peer in `source.connections()`, the bad one's last. `source` must end after
    ``len(good) + 1`` connections.
    """
    pulling = Pulling(source)
    peers = [dial(source.address) for _ in good]
    names = ["{}:{}".format(*peer.getsockname()[:2]) for peer in peers]
    try:
        for peer, stream in zip(peers, good, strict=True):
            peer.sendall(stream[: len(stream) // halves])
        with dial(source.address) as peer:
            names.append("{}:{}".format(*peer.getsockname()[:2]))
            peer.sendall(bad)
            eventually(lambda: len(closed(source)) == 1)
        for peer, stream in zip(peers, good, strict=True):
            peer.sendall(stream[len(stream) // halves :])
    finally:
        for peer in peers:
            peer.close()
    batches = pulling.all()
    rows = {row["peer"]: row for row in source.connections().to_pylist()}
    return batches, [rows[name] for name in names]


def closed(source) -> list[dict]:
    """Rows of the connections that have ended."""
    return [row for row in source.connections().to_pylist() if row["close_reason"] is not None]
