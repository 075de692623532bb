# SPDX-License-Identifier: Apache-2.0
"""
Any bytes as NDJSON or CSV, cut anywhere: every line comes out, is rejected, or is behind a failure;
and the core reads nothing that pyarrow alone would read otherwise.

Input: four bytes of options, then the text.
"""

from __future__ import annotations

from unittest import mock

import pyarrow as pa

from tests.fuzz.replays import Outcome, alike, run
from zcrx_arrow import decoders

POLICIES = ("reject", "null", "fail")
DRIFTS = ("reject", "widen", "fail")
SCHEMAS = (
    pa.schema([("a", pa.int64()), ("b", pa.string())]),
    pa.schema([("a", pa.string())]),
    pa.schema([pa.field("a", pa.int32(), nullable=False), ("b", pa.bool_()), ("c", pa.float64())]),
    pa.schema([("b", pa.timestamp("ns")), ("a", pa.decimal128(10, 2)), ("c", pa.binary())]),
)
MORE = (
    pa.schema([("a", pa.uint8()), ("b", pa.string_view()), ("c", pa.float32())]),
    pa.schema([("a", pa.timestamp("us", "UTC")), ("b", pa.int16()), ("c", pa.binary_view())]),
    pa.schema([("c", pa.date32()), ("b", pa.timestamp("s")), ("a", pa.uint64())]),
)
NESTED = pa.schema(
    [
        ("a", pa.list_(pa.int64())),
        ("b", pa.struct([("a", pa.string()), ("b", pa.list_(pa.float64()))])),
    ]
)


_MORE = 128


def _decoder(kind: int, policy: int, which: int, keep) -> decoders.Decoder:
    options = {
        "extra": "ignore" if policy & 1 else "drift",
        "on_error": POLICIES[policy // 2 % 3],
        "on_drift": DRIFTS[policy // 6 % 3],
        "keep": keep,
    }
    if kind % 4 == 0:
        schemas = MORE[:2] if which >= _MORE else (*SCHEMAS, NESTED, None)
        return decoders.Ndjson(schemas[which % len(schemas)], **options)
    header = kind % 4 < 3
    schemas = MORE if which >= _MORE else SCHEMAS
    schema = schemas[which % len(schemas)] if which % 5 or not header else None
    return decoders.Csv(schema, header=header, quote='"' if kind & 4 else None, **options)


def _starts(text: bytes, blank: bytes) -> list[int]:
    """Where lines begin that are rows."""
    starts, at = [], 0
    for line in text.split(b"\n"):
        if line.strip(blank):
            starts.append(at)
        at += len(line) + 1
    return starts


def _account(text: bytes, outcome: Outcome, *, header: bool, blank: bytes) -> None:
    starts = _starts(text, blank)
    if header:
        behind = text.find(b"\n") + 1 or len(text)
        starts = [start for start in starts if start >= behind]
    limit = outcome.limit
    seen = outcome.positions
    assert [start for start in starts if start < limit] == seen, (
        f"lines begin at {starts}, seen are {seen}, {outcome.failure}"
    )
    for position, _, payload in outcome.rejected:
        assert text[position : position + len(payload)] == payload, "what was rejected"


def check(data: bytes) -> None:
    """Try one input."""
    kind, policy, which, cut = (data + bytes(4))[:4]
    text = data[4:]
    decoder = _decoder(kind, policy, which, ("position",))
    header = isinstance(decoder, decoders.Csv) and kind % 4 < 3
    blank = b"\r" if isinstance(decoder, decoders.Csv) else b" \t\r"
    whole = run(text, decoder)
    _account(text, whole, header=header, blank=blank)
    split = run(text, decoder, fragment=1 + cut // 4, max_rows=1 + cut % 4)
    _account(text, split, header=header, blank=blank)
    if decoder.schema is None:
        return  # each has taken its schema from other rows
    alike(whole, split, "cut otherwise")
    with mock.patch.object(type(decoder), "plain", return_value=None):
        general = run(text, decoder)
    alike(whole, general, "by pyarrow alone")
    without = run(text, _decoder(kind, policy, which, ()))
    for row in whole.rows:
        del row["position"]
    alike(whole, without, "without positions")
