# SPDX-License-Identifier: Apache-2.0
"""A feed to try things with: made-up trades, sent over TCP by a thread of this process."""

from __future__ import annotations

import json
import socket
import threading
import time

import numpy as np
import pyarrow as pa

SYMBOLS = np.array([b"AAPL", b"MSFT", b"NVDA", b"AMZN"], "S8")

# A trade is 28 bytes: nanoseconds since 1970, a price in 1e-4, a number of shares, a symbol.
TRADE = np.dtype([("at", "<u8"), ("price", "<i8"), ("size", "<u4"), ("symbol", "S8")])
TYPES = {"at": pa.timestamp("ns", "UTC"), "price": pa.decimal128(20, 4), "symbol": pa.string()}


def trades(first: int, count: int) -> np.ndarray:
    """Make trades `first` to `first + count`, the same ones each time but for their time."""
    number = np.arange(first, first + count)
    made = np.empty(count, TRADE)
    made["at"] = time.time_ns()
    made["price"] = 1_000_000 + (number * 7919) % 10_007
    made["size"] = 1 + number % 500
    made["symbol"] = SYMBOLS[(number * 31 // 7) % len(SYMBOLS)]
    return made


def as_records(made: np.ndarray) -> bytes:
    return made.tobytes()


def as_json(made: np.ndarray) -> bytes:
    rows = ((int(t["price"]) / 1e4, int(t["size"]), t["symbol"].decode()) for t in made)
    keys = ("price", "size", "symbol")
    return b"".join(json.dumps(dict(zip(keys, row, strict=True))).encode() + b"\n" for row in rows)


def start(address, rows=100_000, *, kind=as_records, per_second=None) -> threading.Thread:
    """Connect and send so many trades (None: until the other side hangs up)."""

    def send() -> None:
        step = 1000 if per_second is None else max(1, per_second // 50)
        sent, begin = 0, time.monotonic()
        try:
            with socket.create_connection(address) as peer:
                while rows is None or sent < rows:
                    count = step if rows is None else min(step, rows - sent)
                    peer.sendall(kind(trades(sent, count)))
                    sent += count
                    if per_second:
                        time.sleep(max(0.0, begin + sent / per_second - time.monotonic()))
        except OSError:
            pass  # the reader has had enough

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread
