# SPDX-License-Identifier: Apache-2.0
"""
Any bytes as an Arrow IPC stream: an error or batches that are valid, never a crash.

Input: two bytes of options, then the stream.
"""

from __future__ import annotations

import random

import pyarrow as pa

from tests.fuzz.replays import alike, run
from zcrx_arrow import decoders

DRIFTS = ("fail", "widen", "reject")
SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string()), ("x", pa.float64())])
WORDS = (0, 1, 2, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def check(data: bytes) -> None:
    """Try one input."""
    options, cut = (data + bytes(2))[:2]
    stream = data[2:]
    decoder = decoders.ArrowIpc(
        SCHEMA if options & 1 else None,
        on_drift=DRIFTS[options // 2 % 3],
        max_expanded="1 MiB",
        keep=("position",) if options & 8 else (),
    )
    whole = run(stream, decoder)
    split = run(stream, decoder, fragment=1 + cut, max_rows=1 + cut % 3)
    alike(whole, split, "cut otherwise")


def _messages(stream: bytearray) -> list[tuple[int, int]]:
    """Where messages begin, roughly, and where their bodies do."""
    found, at = [], stream.find(b"\xff\xff\xff\xff")
    while at >= 0 and at + 8 <= len(stream):
        size = int.from_bytes(stream[at + 4 : at + 8], "little")
        found.append((at, min(at + 8 + size, len(stream))))
        at = stream.find(b"\xff\xff\xff\xff", at + 8)
    return found


def mutate(data: bytes, most: int, seed: int) -> bytes | None:
    """Change a word of some message or its place; None: as libFuzzer would."""
    chance = random.Random(seed)
    stream = bytearray(data)
    messages = _messages(stream)
    if not messages or chance.random() < 0.3:
        return None
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        begin, body = chance.choice(messages)
        if chance.random() < 0.1:
            other, _ = chance.choice(messages)
            stream[begin:body] = stream[other : other + body - begin]
            continue
        if chance.random() < 0.7 and body > begin + 12:
            at = begin + 4 * chance.randrange(1, (body - begin) // 4)
        else:
            at = body + 4 * chance.randrange(16)
        width = chance.choice((1, 2, 4))
        old = int.from_bytes(stream[at : at + width], "little")
        value = chance.choice((*WORDS, old + 1, old - 1, old + 8, old ^ 1 << chance.randrange(32)))
        stream[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(stream[:most])
