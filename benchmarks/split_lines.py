# SPDX-License-Identifier: Apache-2.0
"""The baseline of the framing case: bytes.split and pyarrow, from memory."""

from __future__ import annotations

import json
import sys
import time

import pyarrow as pa

from benchmarks.feeds import LINE_BYTES
from benchmarks.probe import say

BLOCK_LINES = 10_000  # about 1 MB: a batch, and what a cache holds


def main() -> None:
    """Cut blocks of lines until the total is reached."""
    total = json.loads(sys.argv[1])["total"]
    block = (b"x" * (LINE_BYTES - 1) + b"\n") * BLOCK_LINES
    blocks = max(1, total // len(block))
    rows = 0
    started = time.perf_counter()
    for _ in range(blocks):
        lines = block.split(b"\n")
        lines.pop()
        rows += len(pa.array(lines, pa.binary()))
    seconds = time.perf_counter() - started
    if rows != blocks * BLOCK_LINES:
        raise AssertionError(rows)
    say(bytes=blocks * len(block), seconds=seconds, rows=rows)


main()
