# SPDX-License-Identifier: Apache-2.0
"""What tests of rolling files share: a sender that can go on anywhere, and looking at a folder."""

from __future__ import annotations

import socket
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq

import zcrx_arrow as zc


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def hidden(folder) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".") and p.suffix != ".lock"]


def read(folder) -> pa.Table:
    """All rows, in the order of the files' names."""
    tables = []
    for name in names(folder):
        if name.endswith(".parquet"):
            tables.append(pq.read_table(folder / name))
        else:
            tables.append(pa.ipc.open_file(folder / name).read_all())
    return pa.concat_tables(tables)


class Replaying:
    """A sender that can go on anywhere: it is asked ``FROM n`` and sends its stream from there."""

    def __init__(self, data: bytes, most: int = 1 << 40, rate: int = 1 << 40) -> None:
        self.data, self.most, self.rate = data, most, rate
        self.asked: list[int] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = self._server.getsockname()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as said:
                line = said.readline()
                if not line:
                    continue
                begin = int(line.split()[1])
                self.asked.append(begin)
                try:
                    self._send(peer, memoryview(self.data)[begin : begin + self.most])
                    peer.shutdown(socket.SHUT_WR)
                    said.read()
                except OSError:
                    pass

    def _send(self, peer, data):
        piece = min(self.rate // 200, 1 << 30)
        for at in range(0, len(data), piece):
            peer.sendall(data[at : at + piece])
            if len(data) > piece:
                time.sleep(piece / self.rate)

    def connect(self, where, **options) -> zc.Source:
        greeting = b"FROM %d\n" % where.offset
        return zc.connect(self.address, greeting=greeting, **options)

    def close(self):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(20)
