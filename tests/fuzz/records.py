# SPDX-License-Identifier: Apache-2.0
"""
Any bytes as records of several layouts: each comes out, is rejected, or is behind a failure.

Input: three bytes of options, then the stream.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tests.fuzz.replays import Outcome, alike, run
from zcrx_arrow import decoders, framing

POLICIES = ("reject", "null", "fail")
PLAIN = np.dtype([("id", "V16"), ("a", "<u4"), ("b", ">i8"), ("c", "S5"), ("d", "<f8"), ("e", "?")])
NESTED = np.dtype(
    {
        "names": ["pair", "text", "at", "flag"],
        "formats": [(np.dtype([("x", ">i2"), ("y", "<f4")]), (2,)), "S4", "<M8[ns]", "u1"],
        "offsets": [2, 14, 18, 26],
    }
)
SMALL = np.dtype([("kind", "S1"), ("n", "V3"), ("text", "S6")])
OTHER = np.dtype([("kind", "S1"), ("big", ">u8"), ("text", "S2"), ("n", "V3")])
TYPES = {"n": pa.int64(), "text": pa.string(), "big": pa.timestamp("ns")}
U8 = framing.LengthPrefixed("u8", max_message=200)


def _decoder(which: int, policy: str, keep):
    """Give a decoder, its framing and the layout that every record has, if there is one."""
    options = {"on_error": policy, "keep": keep}
    match which % 5:
        case 0:
            return decoders.Records(PLAIN, **options), None, PLAIN
        case 1:
            types = {"text": pa.string(), "flag": pa.bool_()}
            return decoders.Records(NESTED, types=types, **options), None, None
        case 2:
            types = {"text": pa.string(), "n": pa.decimal128(20, 3)}
            options |= {"nulls": {"n": 0x202020}, "longer": True}
            return decoders.Records(SMALL, types=types, **options), U8, None
        case 3:
            layouts = {b"A": SMALL, b"B": OTHER, 0: SMALL}
            return decoders.Records(layouts, types=TYPES, **options), U8, None
        case _:
            layouts = {b"A": SMALL, b"B": SMALL}
            types = {"text": pa.string(), "n": pa.uint64()}
            options |= {"only": [b"A"], "union": None}
            return decoders.Records(layouts, types=types, **options), None, None


def _starts(stream: bytes, decoder, frames) -> list[int]:
    """Where whole records begin."""
    if frames is None:
        size = decoder.framing.bytes
        return list(range(0, len(stream) - size + 1, size))
    starts, at = [], 0
    while at < len(stream) and stream[at] <= 200 and at + 1 + stream[at] <= len(stream):
        starts.append(at + 1)
        at += 1 + stream[at]
    return starts


def _account(stream: bytes, outcome: Outcome, starts: list[int], *, all_of_them: bool) -> None:
    expected = [start for start in starts if start < outcome.limit]
    seen = outcome.positions
    if all_of_them:
        assert expected == seen, f"records begin at {expected}, seen are {seen}"
    else:
        assert set(seen) <= set(expected), f"records begin at {expected}, seen are {seen}"
    for position, _, payload in outcome.rejected:
        assert stream[position : position + len(payload)] == payload, "what was rejected"


def _compare(stream: bytes, outcome: Outcome, layout) -> None:
    """Numpy reads the same."""
    for row in outcome.rows:
        record = np.frombuffer(stream, layout, 1, row["position"])[0]
        for name, (kind, offset, *_) in layout.fields.items():
            at = row["position"] + offset
            # Numpy leaves trailing NULs out.
            raw = stream[at : at + kind.itemsize]
            expected = raw if kind.kind in "SV" else record[name].item()
            assert repr(row[name]) == repr(expected), f"{name}: {row[name]} and {expected}"


def check(data: bytes) -> None:
    """Try one input."""
    which, policy, cut = (data + bytes(3))[:3]
    stream = data[3:]
    policy = POLICIES[policy % 3]
    decoder, frames, layout = _decoder(which, policy, ("position",))
    whole = run(stream, decoder, framing=frames)
    starts = _starts(stream, decoder, frames)
    _account(stream, whole, starts, all_of_them=which % 5 != 4)
    if layout is not None:
        _compare(stream, whole, layout)
    split = run(stream, decoder, framing=frames, fragment=1 + cut // 4, max_rows=1 + cut % 4)
    alike(whole, split, "cut otherwise")
    plain = run(stream, _decoder(which, policy, ())[0], framing=frames)
    for row in whole.rows:
        del row["position"]
    alike(whole, plain, "without positions")
