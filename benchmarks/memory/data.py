# SPDX-License-Identifier: Apache-2.0
"""The bytes of each group: the same for all of its cases, made anew by each process."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 20_240_917
LINE_BYTES = 100
PREFIX_BYTES = 4
MESSAGE_BYTES = 100
FIXED_BYTES = 64
BATCH_BYTES = 1 << 20  # of this project's batches by default; peers that go by batches take it too
TEXT_ROWS = 10_000  # that differ; the text repeats them

TEXT_COLUMNS = (
    "time",
    "id",
    "account",
    "symbol",
    "venue",
    "side",
    "price",
    "size",
    "fee",
    "live",
)


def lines(total: int) -> tuple[bytes, int]:
    """Lines of 100 bytes, the newline included, and how many."""
    rows = max(1, total // LINE_BYTES)
    return (b"x" * (LINE_BYTES - 1) + b"\n") * rows, rows


def prefixed(total: int) -> tuple[bytes, int]:
    """Messages of 100 bytes behind a length of 4, and how many."""
    rows = max(1, total // (PREFIX_BYTES + MESSAGE_BYTES))
    return (MESSAGE_BYTES.to_bytes(PREFIX_BYTES, "big") + b"x" * MESSAGE_BYTES) * rows, rows


def record(order: str) -> np.dtype:
    """Eight fields in 64 bytes, as order entry protocols have them."""
    return np.dtype(
        [
            ("time", f"{order}u8"),
            ("price", f"{order}i8"),
            ("size", f"{order}u4"),
            ("left", f"{order}u4"),
            ("symbol", "S8"),
            ("fee", f"{order}f8"),
            ("account", f"{order}i4"),
            ("order", "S20"),
        ]
    )


def records(total: int, order: str) -> tuple[bytes, int]:
    """Records, and how many; whole batches of them."""
    dtype = record(order)
    rows = max(1, total // BATCH_BYTES) * (BATCH_BYTES // dtype.itemsize)
    made = np.zeros(BATCH_BYTES // dtype.itemsize, dtype)
    random_numbers = np.random.default_rng(SEED)
    for name in made.dtype.names:
        field = made.dtype[name]
        if field.kind == "S":
            made[name] = random_numbers.choice([b"ABCD", b"EFGHIJ", b"KLMNOPQR"], len(made))
        else:
            made[name] = random_numbers.integers(0, 1 << 31, len(made))
    return made.tobytes() * (rows // len(made)), rows


def _values() -> Iterator[tuple[object, ...]]:
    """Rows of the ten columns."""
    drawn = random.Random(SEED)
    time = datetime(2024, 5, 1, 9, 30)  # noqa: DTZ001 (exchanges' local time)
    for row in range(TEXT_ROWS):
        time += timedelta(microseconds=drawn.randrange(1_000_000))
        yield (
            time.isoformat(sep=" ", timespec="microseconds"),
            1_000_000_000 + row,
            drawn.randrange(100_000),
            drawn.choice(("AAPL", "MSFT", "GOOG", "BRK.B")),
            drawn.choice(("XNAS", "ARCX", "BATS")),
            drawn.choice(("buy", "sell")),
            round(drawn.uniform(1, 1000), 2),
            drawn.randrange(1, 10_000),
            round(drawn.uniform(0, 10), 4),
            drawn.random() < 0.5,
        )


def _repeated(block: bytes, total: int) -> tuple[bytes, int]:
    times = max(1, total // len(block))
    return block * times, times * TEXT_ROWS


def ndjson(total: int) -> tuple[bytes, int]:
    """Objects of ten fields, one a line, and how many."""
    import json  # noqa: PLC0415 (of this format only)

    rows = (json.dumps(dict(zip(TEXT_COLUMNS, row, strict=True))) for row in _values())
    return _repeated("".join(f"{row}\n" for row in rows).encode(), total)


def csv(total: int) -> tuple[bytes, int]:
    """The same rows as CSV, without a header."""
    rows = (
        ",".join(
            str(value).lower() if value in (True, False) and isinstance(value, bool) else str(value)
            for value in row
        )
        for row in _values()
    )
    return _repeated("".join(f"{row}\n" for row in rows).encode(), total)
