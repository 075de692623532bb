# SPDX-License-Identifier: Apache-2.0
"""Records against numpy itself; and what all decoders promise: one schema, rows once, memory back."""

from __future__ import annotations

import asyncio
import decimal
import gc
import io
import struct
import threading

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import zcrx_arrow as zc
from tests.conftest import eventually
from tests.formats.peers import Pulling, ask, closed, with_a_bad_one
from zcrx_arrow import decoders as de
from zcrx_arrow import framing as fr
from zcrx_arrow.errors import ConfigError, FramingError

AREA = "1 MiB"
quick = settings(max_examples=100, deadline=None)


def decode(data, decoder, framing=None, **options):
    return zc.decode(bytes(data), decoder, framing, area=AREA, **options).read_all()


# --- records: whatever numpy has ---------------------------------------------------------------

SCALARS = [
    "?", "i1", "u1", "<i2", ">i2", "<u2", ">u2", "<i4", ">i4", "<u4", ">u4", "<i8", ">i8", "<u8", ">u8",
    "<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "S1", "S5", "S8", "S13", "V1", "V3", "V7", "V16", "S32", "V64", "S128", "V255",
    "<M8[s]", ">M8[ms]", "<M8[us]", ">M8[ns]", "<m8[s]", ">m8[ms]", "<m8[us]", ">m8[ns]",
]  # fmt: skip
NAMES = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4, unique=True)


@st.composite
def structs(draw, depth: int = 2) -> np.dtype:
    """Packed, aligned, or with fields anywhere, overlapping too."""
    names = draw(NAMES)
    formats = [draw(fields(depth - 1)) for _ in names]
    how = draw(st.sampled_from(["packed", "aligned", "anywhere"]))
    if how != "anywhere":
        return np.dtype({"names": names, "formats": formats}, align=how == "aligned")
    offsets = [draw(st.integers(0, 30)) for _ in names]
    size = max(at + np.dtype(each).itemsize for at, each in zip(offsets, formats, strict=True))
    return np.dtype(
        {
            "names": names,
            "formats": formats,
            "offsets": offsets,
            "itemsize": size + draw(st.integers(0, 9)),
        }
    )


def fields(depth: int):
    scalars = st.sampled_from(SCALARS).map(np.dtype)
    if not depth:
        return scalars
    inner = st.one_of(scalars, structs(depth))
    shapes = st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple)
    arrays = st.tuples(inner, shapes).map(np.dtype)
    return st.one_of(scalars, scalars, arrays, structs(depth))


def same(array: pa.Array, values: np.ndarray) -> None:
    """Whether a column is bit for bit what numpy reads."""
    dtype = values.dtype
    array.validate(full=True)
    assert len(array) == len(values)
    if dtype.kind in "SV":
        size, bits = dtype.itemsize, np.ascontiguousarray(values).tobytes()
        assert array.to_pylist() == [bits[at : at + size] for at in range(0, len(bits), size)]
        return
    if dtype.kind == "b":
        assert array.to_pylist() == (np.ascontiguousarray(values).view("u1") != 0).tolist()
        return
    native = np.ascontiguousarray(values).astype(dtype.newbyteorder("="))
    nat = np.isnat(native) if dtype.kind in "mM" else np.zeros(len(native), bool)
    assert array.is_null().to_pylist() == nat.tolist()
    got = np.frombuffer(array.buffers()[1], native.dtype)[array.offset : array.offset + len(array)]
    assert got[~nat].tobytes() == native[~nat].tobytes()


def compare(array: pa.Array, values: np.ndarray) -> None:
    """Take sub-arrays apart, then see whether it is the `same`."""
    if values.ndim > 1:
        assert array.type.list_size == values.shape[1]
        assert array.null_count == 0
        compare(array.flatten(), values.reshape(-1, *values.shape[2:]))
    elif values.dtype.names:
        array.validate(full=True)
        assert array.null_count == 0
        for at, name in enumerate(values.dtype.names):
            compare(array.field(at), values[name])
    else:
        same(array, values)


@settings(max_examples=250, deadline=None)
@given(structs(), st.data(), st.sampled_from([None, 1, 7, 100]))
def test_any_dtype(dtype, data, fragment):
    assume(dtype.itemsize)
    count = data.draw(st.integers(1, 20))
    stream = data.draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    table = decode(stream, de.Records(dtype), fragment=fragment)
    expected = np.frombuffer(stream, dtype)
    assert table.schema.names == list(dtype.names)
    assert table.num_rows == count
    for name in dtype.names:
        compare(table[name].combine_chunks(), expected[name])


@pytest.mark.parametrize("kind", SCALARS)
@pytest.mark.parametrize("lead", [0, 1, 3])
def test_each_scalar_unaligned(kind, lead):
    """More records than the core moves at a time, at odd addresses."""
    dtype = np.dtype(
        [("lead", f"V{lead}"), ("x", kind), ("end", "u1")] if lead else [("x", kind), ("end", "u1")]
    )
    stream = np.random.default_rng(7).bytes(1000 * dtype.itemsize)
    expected = np.frombuffer(stream, dtype)
    for fragment in (None, dtype.itemsize * 3 + 1):
        table = decode(stream, de.Records(dtype), fragment=fragment)
        compare(table["x"].combine_chunks(), expected["x"])
        assert table["end"].to_numpy().tolist() == expected["end"].tolist()


@pytest.mark.parametrize("kind", ["<M8[ns]", ">M8[s]", "<m8[us]", ">m8[ms]"])
def test_nat_is_null(kind):
    values = np.array([1, "NaT", -5, "NaT", 0], kind)
    dtype = np.dtype([("at", kind)])
    table = decode(values.tobytes(), de.Records(dtype))
    assert table["at"].is_null().to_pylist() == [False, True, False, True, False]
    assert table.schema.field("at").nullable
    ints = table["at"].cast(pa.int64()).to_pylist()
    assert ints == [1, None, -5, None, 0]


WIDE = [f"V{n}" for n in range(1, 9)]


@given(st.sampled_from(WIDE), st.sampled_from(["little", "big"]), st.data())
@quick
def test_integers_of_any_width(kind, order, data):
    size = int(kind[1:])
    top = 2 ** (8 * size - (size == 8)) - 1
    numbers = data.draw(
        st.lists(st.one_of(st.just(top), st.integers(0, top)), min_size=1, max_size=9)
    )
    stream = b"".join(b"!" + number.to_bytes(size, order) for number in numbers)
    dtype = np.dtype([("lead", "u1"), ("n", kind)])
    for wanted in (
        pa.int64(),
        pa.uint64(),
        pa.decimal128(20, 0),
        pa.timestamp("ns", "UTC"),
        pa.duration("us"),
    ):
        table = decode(stream, de.Records(dtype, types={"n": wanted}, byteorder=order))
        assert table.schema.field("n").type == wanted
        if pa.types.is_decimal(wanted):
            assert [int(each) for each in table["n"].to_pylist()] == numbers
        else:
            assert table["n"].combine_chunks().view(pa.int64()).to_pylist() == numbers


@given(
    st.sampled_from(["i1", ">i2", "<i4", ">i8", "u1", "<u2", ">u4", "<u8"]),
    st.integers(0, 6),
    st.data(),
)
@quick
def test_decimals(kind, scale, data):
    dtype = np.dtype([("x", kind)])
    info = np.iinfo(dtype["x"])
    numbers = data.draw(st.lists(st.integers(int(info.min), int(info.max)), min_size=1, max_size=9))
    numbers += [int(info.min), int(info.max)]
    stream = np.array([(number,) for number in numbers], dtype).tobytes()
    table = decode(stream, de.Records(dtype, types={"x": pa.decimal128(26, scale)}))
    table["x"].combine_chunks().validate(full=True)
    assert table["x"].to_pylist() == [decimal.Decimal(number).scaleb(-scale) for number in numbers]


@pytest.mark.parametrize("kind", ["i1", ">i2", "<i4", ">i8"])
@pytest.mark.parametrize("wanted", [pa.int64(), pa.duration("ns"), pa.timestamp("s")])
def test_a_sign_is_kept(kind, wanted):
    dtype = np.dtype([("x", kind)])
    low = int(np.iinfo(dtype["x"]).min)
    stream = np.array([(low,), (-1,), (0,), (5,)], dtype).tobytes()
    table = decode(stream, de.Records(dtype, types={"x": wanted}))
    assert table["x"].combine_chunks().view(pa.int64()).to_pylist() == [low, -1, 0, 5]


@given(st.sampled_from(["S1", "S8", "S20", "V8"]), st.data())
@quick
def test_text_is_trimmed(kind, data):
    size = int(kind[1:])
    texts = data.draw(st.lists(st.text(max_size=size), min_size=1, max_size=9))
    raw = [text.encode() for text in texts if len(text.encode()) <= size]
    pad = data.draw(st.sampled_from([b"\0", b" "]))
    stream = b"".join(text.ljust(size, pad) for text in raw)
    assume(raw)
    dtype = np.dtype([("s", kind)])
    trimmed = [text.rstrip(b"\0 ") for text in raw]
    table = decode(stream, de.Records(dtype, types={"s": pa.string()}))
    assert [each.encode() for each in table["s"].to_pylist()] == trimmed
    table["s"].combine_chunks().validate(full=True)
    table["s"].combine_chunks().validate(full=True)
    table = decode(stream, de.Records(dtype, types={"s": pa.binary()}))
    assert table["s"].to_pylist() == trimmed
    if size <= 12:
        for made in (pa.string_view(), pa.binary_view()):
            views = decode(stream, de.Records(dtype, types={"s": made}))["s"].combine_chunks()
            views.validate(full=True)
            assert views.type == made
            assert views.cast(pa.binary()).to_pylist() == trimmed


@pytest.mark.parametrize("made", [pa.string(), pa.string_view()])
def test_bad_text_among_many_good_ones(made):
    """Good records are taken by groups; those around a bad one, one by one."""
    dtype = np.dtype([("n", "<u4"), ("s", "S8")])
    rows = np.zeros(3000, dtype)
    rows["n"] = np.arange(3000)
    rows["s"] = [b"row%d" % n for n in range(3000)]
    bad = [0, 255, 256, 1000, 2047, 2999]
    rows["s"][bad] = b"ok\xff"
    replay = zc.decode(rows.tobytes(), de.Records(dtype, types={"s": made}, on_error="reject"))
    table = replay.read_all()
    assert table["n"].to_pylist() == [n for n in range(3000) if n not in bad]
    assert table["s"].cast(pa.string()).to_pylist() == [
        f"row{n}" for n in range(3000) if n not in bad
    ]
    assert replay.rejected.take()["position"].to_pylist() == [12 * n for n in bad]
    nulls = decode(rows.tobytes(), de.Records(dtype, types={"s": made}, on_error="null"))
    assert nulls["s"].is_null().to_pylist() == [n in bad for n in range(3000)]
    assert nulls["n"].to_pylist() == list(range(3000))


@pytest.mark.parametrize("made", [pa.string(), pa.string_view()])
def test_what_lies_before_bad_text_comes(made):
    """Those behind it are left out; pyarrow (26) cannot filter views."""
    dtype = np.dtype([("s", "S4"), ("two", "S4", (2,)), ("in", [("s", "S4")])])
    rows = np.zeros(600, dtype)
    rows["s"] = rows["two"] = rows["in"]["s"] = b"good"
    rows["s"][300] = b"bad\xff"
    types = {"s": made, "two": made, "in.s": made}
    with zc.decode(rows.tobytes(), de.Records(dtype, types=types)) as replay:
        got = []
        with pytest.raises(FramingError, match="'s' is not UTF-8"):
            got.extend(replay)
    table = pa.Table.from_batches(got)
    assert table.to_pylist() == [{"s": "good", "two": ["good"] * 2, "in": {"s": "good"}}] * 300


def test_records_of_many_mebibytes():
    """Bytes of a group of them are more than 32 bits count."""
    dtype = np.dtype([(f"f{n}", "S1048576") for n in range(16)])
    replay = zc.decode(bytes(dtype.itemsize), de.Records(dtype), area="64 MiB")
    assert replay.read_all().num_rows == 1


@pytest.mark.parametrize("kind", ["S256", "S300", "V70000"])
def test_long_bytes_are_not_trimmed_unless_asked_for(kind):
    dtype = np.dtype([("s", kind)])
    stream = b"ab".ljust(dtype.itemsize, b" ")
    assert decode(stream, de.Records(dtype))["s"].to_pylist() == [stream]


@given(
    st.sampled_from(["i1", "u1", ">i2", "<u4", ">i8", "<u8", ">f4", "<f8"]),
    st.integers(0, 255),
    st.data(),
)
@quick
def test_values_that_mean_null(kind, seed, data):
    dtype = np.dtype([("x", kind, (3,)), ("y", kind)])
    stream = np.random.default_rng(seed).bytes(40 * dtype.itemsize)
    values = np.frombuffer(stream, dtype).copy()
    plain = np.abs(np.nan_to_num(values["y"])) if values["y"].dtype.kind == "f" else values["y"]
    null = plain[data.draw(st.integers(0, 39))].item()
    values["y"][::3] = null
    values["x"][::2, 1] = null
    table = decode(values.tobytes(), de.Records(dtype, nulls={"x": null, "y": null}))
    bits = np.array(null, values["y"].dtype).tobytes()
    for got, column in (
        (table["y"].combine_chunks(), values["y"]),
        (table["x"].combine_chunks().flatten(), values["x"]),
    ):
        raw, size = column.tobytes(), len(bits)
        expected = [raw[at : at + size] == bits for at in range(0, len(raw), size)]
        assert got.is_null().to_pylist() == expected
        native = np.frombuffer(raw, column.dtype).astype(column.dtype.newbyteorder("="))
        mine = np.frombuffer(got.buffers()[1], native.dtype)[got.offset : got.offset + len(got)]
        live = ~np.array(expected)
        assert mine[live].tobytes() == native[live].tobytes()


def test_null_of_a_converted_field():
    dtype = np.dtype([("price", ">i8"), ("at", ">u8"), ("n", "V6")])
    most = {"price": 2**63 - 1, "at": 2**64 - 1, "n": 2**48 - 1}
    types = {"price": pa.decimal128(20, 4), "at": pa.timestamp("ns", "UTC"), "n": pa.int64()}
    stream = (
        struct.pack(">qQ", most["price"], most["at"])
        + b"\xff" * 6
        + struct.pack(">qQ", -1, 5)
        + b"\0" * 5
        + b"\x07"
    )
    table = decode(stream, de.Records(dtype, types=types, nulls=most, byteorder="big"))
    assert table["price"].to_pylist() == [None, decimal.Decimal("-0.0001")]
    assert table["at"].cast(pa.int64()).to_pylist() == [None, 5]
    assert table["n"].to_pylist() == [None, 7]


def test_times_of_day_are_within_a_day():
    dtype = np.dtype([("at", "V6")])
    types = {"at": pa.time64("ns")}
    day = 86_400 * 10**9
    good, bad = (day - 1).to_bytes(6, "big"), day.to_bytes(6, "big")
    how = {"types": types, "byteorder": "big"}
    table = decode(good, de.Records(dtype, **how))
    table["at"].combine_chunks().validate(full=True)
    with pytest.raises(FramingError, match="position 6"):
        decode(good + bad, de.Records(dtype, **how))
    table = decode(good + bad, de.Records(dtype, on_error="null", **how))
    assert table["at"].is_null().to_pylist() == [False, True]


# --- records: several layouts ------------------------------------------------------------------

A = np.dtype(
    [
        ("kind", "S1"),
        ("n", ">u4"),
        ("s", "S4"),
        ("in", [("x", "<i2"), ("y", "u1")]),
        ("v", "<f4", (2,)),
    ]
)
B = np.dtype([("kind", "S1"), ("m", "<i8"), ("n", ">u4"), ("flag", "?")])
C = np.dtype([("kind", "S1")])
LAYOUTS = {b"A": A, "B": B, 67: C}


def mixed(count: int, seed: int = 1) -> tuple[bytes, list[bytes]]:
    """Messages of three layouts, each with a length before it."""
    chance = np.random.default_rng(seed)
    messages = []
    for kind in chance.choice([b"A", b"B", b"C"], count).tolist():
        layout = {b"A": A, b"B": B, b"C": C}[kind]
        messages.append(kind + chance.bytes(layout.itemsize - 1))
    return b"".join(bytes([len(m)]) + m for m in messages), messages


@pytest.mark.parametrize("fragment", [None, 1, 50])
def test_a_union_of_layouts(fragment):
    stream, messages = mixed(1000)
    table = decode(
        stream, de.Records(LAYOUTS, keep=["position"]), fr.LengthPrefixed("u8"), fragment=fragment
    )
    assert table.schema.names == [
        "message_type",
        "kind",
        "n",
        "s",
        "in",
        "v",
        "m",
        "flag",
        "position",
    ]
    table.validate(full=True)
    assert table["message_type"].to_pylist() == [m[:1].decode() for m in messages]
    assert table["kind"].to_pylist() == [m[:1] for m in messages]
    positions = np.cumsum([1 + len(m) for m in messages]) - [len(m) for m in messages]
    assert table["position"].to_pylist() == positions.tolist()
    for letter, layout in ((b"A", A), (b"B", B)):
        mine = [at for at, m in enumerate(messages) if m[:1] == letter]
        expected = np.frombuffer(b"".join(messages[at] for at in mine), layout)
        for name in layout.names:
            compare(table[name].combine_chunks().take(pa.array(mine)), expected[name])
    others = [at for at, m in enumerate(messages) if m[:1] != b"A"]
    for name in ("s", "in", "v"):
        assert table[name].combine_chunks().take(pa.array(others)).null_count == len(others)


def test_only_some_layouts():
    stream, messages = mixed(500)
    table = decode(stream, de.Records(LAYOUTS, only=["B"], union=None), fr.LengthPrefixed("u8"))
    assert table.schema.names == ["kind", "m", "n", "flag"]
    rows = np.frombuffer(b"".join(m for m in messages if m[:1] == b"B"), B)
    assert table["m"].to_pylist() == rows["m"].tolist()
    assert table["n"].to_pylist() == rows["n"].tolist()


@pytest.mark.parametrize("policy", ["fail", "null", "reject"])
def test_messages_of_no_layout(policy):
    messages = [b"C", b"B" * 14, b"Z123", b"C", b"Bshort", b"", b"C!"]
    stream = b"".join(bytes([len(m)]) + m for m in messages)
    replay = zc.decode(
        stream, de.Records(LAYOUTS, on_error=policy), fr.LengthPrefixed("u8"), area=AREA
    )
    rows, error = [], None
    try:
        for batch in replay:
            rows += batch["kind"].to_pylist()
    except FramingError as found:
        error = found
    if policy != "reject":
        assert rows == [b"C", b"B"]
        assert "position 18: no layout for byte b'Z'" in str(error)
        return
    assert error is None
    assert rows == [b"C", b"B", b"C"]
    rejected = replay.rejected.take().to_pylist()
    assert [row["payload"] for row in rejected] == [b"Z123", b"Bshort", b"", b"C!"]
    assert [row["position"] for row in rejected] == [18, 25, 32, 33]
    assert [row["connection"] for row in rejected] == [1] * 4
    assert "no layout for byte b'Z'" in rejected[0]["reason"]
    assert "6 bytes, its layout 14" in rejected[1]["reason"]
    assert "0 bytes" in rejected[2]["reason"]
    assert "2 bytes, its layout 1" in rejected[3]["reason"]
    assert replay.decode_stats.rejected_rows == 4
    assert replay.decode_stats.rows == 3
    assert len(replay.rejected) == 0


@pytest.mark.parametrize("policy", ["fail", "null", "reject"])
def test_values_that_do_not_fit(policy):
    dtype = np.dtype([("s", "S4"), ("n", ">u8")])
    types = {"s": pa.string(), "n": pa.int64()}
    rows = [(b"ok", 1), (b"\xff\xfe", 2), (b"ok", 2**63), (b"\xc3\xa9", 2**63 - 1)]
    stream = b"".join(struct.pack(">4sQ", *row) for row in rows)
    replay = zc.decode(stream, de.Records(dtype, types=types, on_error=policy), area=AREA)
    if policy == "fail":
        assert next(replay).to_pylist() == [{"s": "ok", "n": 1}]
        with pytest.raises(FramingError, match="position 12: field 's' is not UTF-8"):
            next(replay)
        return
    table = replay.read_all()
    table.validate(full=True)
    good = [{"s": "ok", "n": 1}, {"s": "é", "n": 2**63 - 1}]
    if policy == "null":
        assert table.to_pylist() == [good[0], {"s": None, "n": 2}, {"s": "ok", "n": None}, good[1]]
        assert replay.decode_stats.nulled_rows == 2
    else:
        assert table.to_pylist() == good
        rejected = replay.rejected.take().to_pylist()
        assert [(row["position"], row["reason"]) for row in rejected] == [
            (12, "field 's' is not UTF-8"),
            (24, "field 'n' is larger than its type"),
        ]
        assert [row["payload"] for row in rejected] == [stream[12:24], stream[24:36]]


def test_longer_messages():
    layout = np.dtype([("n", ">u2")])
    stream = b"\x02\0\x01\x05\0\x02---\x03\0\x03-"
    table = decode(stream, de.Records(layout, longer=True), fr.LengthPrefixed("u8"))
    assert table["n"].to_pylist() == [1, 2, 3]
    with pytest.raises(FramingError, match="position 4: the record has 5 bytes, its layout 2"):
        decode(stream, de.Records(layout), fr.LengthPrefixed("u8"))
    table = decode(b"\0\x01--\0\x02--", de.Records(layout, longer=True), fr.FixedSize(4))
    assert table["n"].to_pylist() == [1, 2]


def test_longer_does_not_mean_shorter(run_python):
    """In a process of its own: nothing may be written behind what is there."""
    run_python("""
        import numpy as np, zcrx_arrow as zc
        from zcrx_arrow import decoders, framing
        layout = np.dtype([("a", "V16")])
        try:
            zc.decode(b"x" * 80_000, decoders.Records(layout, longer=True), framing.FixedSize(8)).read_all()
        except ValueError:
            pass
        else:
            raise SystemExit("no error")
    """)


def test_a_preamble_before_records():
    how = fr.Preamble(fr.LengthPrefixed("u8"), fr.FixedSize(2), drop=True)
    decoder = de.Records(np.dtype([("n", ">u2")]), keep=["position"])
    for fragment in (None, 1, 4, 5, 6):
        table = decode(b"\x03abc\0\x01\0\x02", decoder, how, fragment=fragment)
        assert table.to_pylist() == [{"n": 1, "position": 4}, {"n": 2, "position": 6}]


class Pairs(fr.Framing):
    """Two bytes a message."""

    def cut(self, data):
        return [(at, 2) for at in range(0, len(data) - 1, 2)], len(data) // 2 * 2


@pytest.mark.parametrize("fragment", [None, 1, 3])
def test_a_users_framing_before_records(fragment):
    decoder = de.Records(np.dtype([("n", ">u2")]), keep=True)
    table = decode(b"\0\x01\0\x02\0\x03!", decoder, Pairs(), fragment=fragment)
    assert table["n"].to_pylist() == [1, 2, 3]
    assert table["position"].to_pylist() == [0, 2, 4]
    assert table["connection"].to_pylist() == [1] * 3


class Sized(fr.Framing):
    """Four bytes of length before each message."""

    def cut(self, data):
        bounds, at = [], 0
        while len(data) - at >= 4:
            size = int.from_bytes(data[at : at + 4], "little")
            if len(data) - at - 4 < size:
                break
            bounds.append((at + 4, size))
            at += 4 + size
        return bounds, at


def test_a_users_framing_before_arrow_ipc():
    """Its messages do not lie in the receive memory, and are no batch of the core."""
    batch = pa.record_batch({"n": pa.array(range(1000))})
    messages = [batch.schema.serialize(), batch.serialize(), batch.serialize()]
    data = b"".join(len(each).to_bytes(4, "little") + bytes(each) for each in messages)
    replay = zc.decode(data, de.ArrowIpc(), Sized())
    assert replay.read_all()["n"].to_pylist() == [*range(1000)] * 2
    assert replay.decode_stats.in_place_bytes == 0


def test_whole_rows_outlast_a_selection():
    """Only what lacks columns goes with the query that it was decoded for."""
    data = b'{"a":1,"b":2}\n' * 5 + b"{oops}\n" + b'{"a":1,"b":2}\n' * 5
    with zc.decode(data, de.Ndjson(on_error="reject")) as replay:
        assert replay.schema.names == ["a", "b"]
        replay._select(["a"])
        first = next(replay)
        replay._select(None)
        rest = replay.read_all()
        assert first.num_rows + rest.num_rows == 10
        assert rest["b"].to_pylist() == [2] * rest.num_rows
        assert replay.metrics().discarded_rows == 0


# --- options -----------------------------------------------------------------------------------

N = np.dtype([("n", "<u4"), ("s", "S4")])
TEXT = pa.schema([("n", pa.int64())])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: de.Records("<u4"), "has no fields"),
        (lambda: de.Records([("a", "O")]), "Python objects"),
        (lambda: de.Records([("a", "U3")]), "which has no Arrow type"),
        (lambda: de.Records([("a", "c8")]), "which has no Arrow type"),
        (lambda: de.Records([("a", "M8[D]")]), "which has no Arrow type"),
        (lambda: de.Records([("a", "M8[10ns]")]), "which has no Arrow type"),
        (lambda: de.Records([("a", "g")]), "which has no Arrow type"),
        (lambda: de.Records([("a", "S0")]), "no bytes"),
        (lambda: de.Records([("a", "i4", (0,))]), "array of nothing"),
        (lambda: de.Records([("a", [("b", "i4")], (2, 0))]), "array of nothing"),
        (lambda: de.Records("nonsense"), "numpy makes no dtype"),
        (lambda: de.Records({}), "1 to 250 layouts"),
        (lambda: de.Records({b"AB": N}), "must be one byte"),
        (lambda: de.Records({256: N}), "must be one byte"),
        (lambda: de.Records({b"A": N}, only=[b"B"]), "that there is none for"),
        (lambda: de.Records({b"A": N}, only=[]), "that there is none for"),
        (lambda: de.Records({b"A": N}, discriminator=8), "discriminator"),
        (lambda: de.Records({b"A": N}, discriminator=-1), "discriminator"),
        (lambda: de.Records({b"A": N}, union="n"), "name of a field"),
        (
            lambda: de.Records({b"A": N, b"B": np.dtype([("n", "<u8")])}),
            "not the same type in every layout",
        ),
        (lambda: de.Records(N, types={"x": pa.int64()}), "types names 'x', which is no field"),
        (lambda: de.Records(N, nulls={"x": 1}), "nulls names 'x', which is no field"),
        (lambda: de.Records(N, nulls={"n": 2**32}), "does not fit"),
        (lambda: de.Records(N, nulls={"n": -(2**40)}), "does not fit"),
        (
            lambda: de.Records(N, types={"s": pa.string()}, nulls={"s": 1}),
            "needs a field that is a number",
        ),
        (lambda: de.Records([("b", "?")], nulls={"b": 1}), "needs a field that is a number"),
        (lambda: de.Records(N, types={"n": pa.int8()}), "cannot be made of"),
        (lambda: de.Records(N, types={"n": pa.string()}), "cannot be made of"),
        (lambda: de.Records(N, types={"s": pa.int64()}), "cannot be made of"),
        (lambda: de.Records([("s", "S13")], types={"s": pa.string_view()}), "too long for"),
        (lambda: de.Records(N, types={"n": pa.decimal128(9, 2)}), "needs decimal128 of 10 digits"),
        (lambda: de.Records([("v", "V9")], types={"v": pa.int64()}), "cannot be made of"),
        (lambda: de.Records(N, byteorder="middle"), "byteorder"),
        (lambda: de.Records(N, on_error="ignore"), "on_error"),
        (lambda: de.Records(N, keep=["payload"]), "keep="),
        (lambda: de.Records([("position", "u1")], keep=True), "have one of that name"),
        (lambda: de.Records({b"A": N, b"B": C}).framing, "a framing is needed"),
        (lambda: zc.decode(b"", de.Records(N), fr.FixedSize(7)), "does not fit records of"),
        (
            lambda: zc.decode(b"", de.Records(N, longer=True), fr.FixedSize(7)),
            "does not fit records of",
        ),
        (lambda: zc.decode(b"", de.Records(N), fr.Raw()), "needs a framing that finds messages"),
        (lambda: zc.decode(b"", "csv"), "decode must be one of"),
        (lambda: zc.decode(b"", de.Records(N), "lines"), "framing must be one of"),
        (lambda: zc.decode(b"", de.Records(N), fragment=0), "fragment=0"),
        (lambda: zc.decode(7, de.Records(N)), "data must be bytes"),
        (
            lambda: zc.listen("127.0.0.1:0", decode=de.Records(N), payload_type="large_binary"),
            "payload_type=",
        ),
        (lambda: de.Ndjson({"n": "int"}), "schema must be"),
        (lambda: de.Ndjson(TEXT, extra="allow"), "extra"),
        (lambda: de.Ndjson(TEXT, on_error="skip"), "on_error"),
        (lambda: de.Ndjson(TEXT, on_drift="null"), "on_drift"),
        (
            lambda: de.Ndjson(pa.schema([("connection", pa.int8())]), keep=True),
            "have one of that name",
        ),
        (lambda: de.Csv(header=False), "without a header a schema is needed"),
        (lambda: de.Csv(delimiter="ab"), "must be one ASCII character"),
        (lambda: de.Csv(delimiter="\n"), "must be one ASCII character"),
        (lambda: de.Csv(quote=""), "must be one ASCII character"),
        (lambda: de.Csv(delimiter="é"), "must be one ASCII character"),
        (lambda: de.Csv(delimiter='"'), "delimiter"),
        (lambda: de.ArrowIpc("n"), "schema must be"),
        (lambda: de.ArrowIpc(on_drift="null"), "on_drift"),
        (lambda: zc.decode(b"", de.ArrowIpc(), fr.Delimited()), "needs framing=ArrowIpc"),
        (lambda: de.Csv(pa.schema([("a", pa.list_(pa.int8()))])), "a"),
        (lambda: de.Csv(pa.schema([("a", pa.int8()), ("a", pa.int8())])), "a"),
        (lambda: de.Ndjson(pa.schema([("a", pa.int8()), ("a", pa.int8())])), "a"),
        (lambda: de.Ndjson(pa.schema([("a", pa.month_day_nano_interval())])), "a"),
    ],
)
def test_options_that_cannot_work(make, says):
    with pytest.raises(ConfigError, match=says) as found:
        made = make()
        if isinstance(made, de.Decoder):  # at the latest where bytes are given
            zc.decode(b"", made)
    assert "[E" not in str(found.value)


# --- all decoders, on the network --------------------------------------------------------------

SCHEMA = pa.schema([("n", pa.int64()), ("t", pa.string())])
RECORD = np.dtype([("n", "<i8"), ("t", "S8")])


def ipc(numbers, rows: int = 500) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        table = pa.table({"n": numbers, "t": [f"t{n}" for n in numbers]}, SCHEMA)
        writer.write_table(table, rows)
    return sink.getvalue()


FORMATS = {
    "records": (
        lambda: de.Records(RECORD, types={"t": pa.string()}),
        lambda numbers: b"".join(struct.pack("<q8s", n, b"t%d" % n) for n in numbers),
    ),
    "ndjson": (
        lambda: de.Ndjson(SCHEMA),
        lambda numbers: b"".join(b'{"n": %d, "t": "t%d"}\n' % (n, n) for n in numbers),
    ),
    "csv": (
        lambda: de.Csv(SCHEMA),
        lambda numbers: b"t,n\n" + b"".join(b"t%d,%d\n" % (n, n) for n in numbers),
    ),
    "ipc": (lambda: de.ArrowIpc(SCHEMA), ipc),
}
ALL = pytest.mark.parametrize("name", FORMATS)


def expected(numbers) -> list[dict]:
    return [{"n": n, "t": f"t{n}"} for n in numbers]


@ALL
def test_two_threads_get_each_row_once(name):
    make, encode = FORMATS[name]
    streams = [encode(range(n, 90_000, 3)) for n in range(3)]
    batching = zc.Batching(max_rows=512)
    with zc.listen(
        "127.0.0.1:0", decode=make(), accept=3, area="8 MiB", batching=batching
    ) as source:
        pulling = [Pulling(source), Pulling(source)]
        ask(source.address, *streams)
        parts = [each.all() for each in pulling]
    numbers = [n for part in parts for batch in part for n in batch["n"].to_pylist()]
    assert len(numbers) == 90_000
    assert sorted(numbers) == list(range(90_000))


@ALL
def test_tasks_and_a_thread_get_each_row_once(name):
    make, encode = FORMATS[name]
    got: list[int] = []

    async def take(source) -> None:
        async for batch in source:
            got.extend(batch["n"].to_pylist())

    async def both(source) -> None:
        await asyncio.gather(take(source), take(source))

    with zc.listen("127.0.0.1:0", decode=make(), accept=2, area="8 MiB") as source:
        feeding = threading.Thread(
            target=ask,
            args=(source.address, encode(range(0, 40_000, 2)), encode(range(1, 40_000, 2))),
        )
        feeding.start()
        asyncio.run(both(source))
        feeding.join()
    assert sorted(got) == list(range(40_000))


@ALL
def test_polars_and_duckdb(name):
    make, encode = FORMATS[name]
    for read in (
        lambda source: pl.DataFrame(source).sort("n").to_dicts(),
        lambda source: duckdb.sql("select * from source order by n").to_arrow_table().to_pylist(),
        lambda source: pa.table(source).sort_by("n").to_pylist(),
    ):
        with zc.listen("127.0.0.1:0", decode=make(), accept=2, area="8 MiB") as source:
            feeding = threading.Thread(
                target=ask,
                args=(source.address, encode(range(0, 5000, 2)), encode(range(1, 5000, 2))),
            )
            feeding.start()
            assert read(source) == expected(range(5000))
            feeding.join()


@ALL
@pytest.mark.parametrize("transport", ["copy"])
def test_who_holds_the_receive_memory(name, transport):
    make, encode = FORMATS[name]
    # Few chunks, large batches: what lies together is not copied out of a quarter of the area.
    with zc.listen(
        "127.0.0.1:0", decode=make(), accept=2, area="64 MiB", copy_out="never", transport=transport
    ) as source:
        pulling = Pulling(source)
        first = threading.Thread(target=ask, args=(source.address, encode(range(20_000))))
        first.start()
        first.join()
        eventually(lambda: sum(batch.num_rows for batch in pulling.batches) == 20_000)
        if name == "ipc":
            assert source.decode_stats.in_place_bytes > 0
            held = source.metrics().chunks_leased
            assert held > 0
            rows = [row for batch in pulling.batches for row in batch.to_pylist()]
            pulling.batches.clear()
            gc.collect()
            eventually(lambda: (gc.collect(), source.metrics().chunks_leased < held)[1])
        else:
            eventually(lambda: source.metrics().chunks_leased == 0)
            rows = [row for batch in pulling.batches for row in batch.to_pylist()]
        assert rows == expected(range(20_000))
        ask(source.address, encode(range(1)))
        pulling.all()
        assert source.metrics().lease_faults == 0
        pulling.batches.clear()


@ALL
def test_batches_outlive_their_source(name):
    make, encode = FORMATS[name]
    with zc.listen("127.0.0.1:0", decode=make(), accept=1, area="8 MiB") as source:
        feeding = threading.Thread(target=ask, args=(source.address, encode(range(3000))))
        feeding.start()
        batches = list(source)
        feeding.join()
    del source
    gc.collect()
    assert [row for batch in batches for row in batch.to_pylist()] == expected(range(3000))


BAD = {
    "records": (b"\x01" * 8 + b"\xff" * 8, 0, "field 't' is not UTF-8"),
    "ndjson": (b"garbage\n", 0, "JSON"),
    "csv": (b"1,2,3,4\n", 0, "columns"),
    "ipc": (b"GET / HTTP/1.1\r\n", None, "no Arrow IPC message"),
}


@ALL
def test_a_peer_that_talks_nonsense(name):
    make, encode = FORMATS[name]
    good = encode(range(20_000))
    before = encode(range(7))[: -8 if name == "ipc" else None]
    bad, _, says = BAD[name]
    keep = make()
    keep = {
        "records": lambda: de.Records(RECORD, types={"t": pa.string()}, keep=["connection"]),
        "ndjson": lambda: de.Ndjson(SCHEMA, keep=["connection"]),
        "csv": lambda: de.Csv(SCHEMA, keep=["connection"]),
        "ipc": lambda: de.ArrowIpc(SCHEMA, keep=["connection"]),
    }[name]()
    with zc.listen("127.0.0.1:0", decode=keep, accept=4, area="8 MiB") as source:
        batches, infos = with_a_bad_one(source, [good] * 3, before + bad)
        stats = source.decode_stats
    table = pa.Table.from_batches(batches)
    for info in infos[:3]:
        mine = table.filter(
            pa.array([each == info["id"] for each in table["connection"].to_pylist()])
        )
        assert mine.drop_columns("connection").to_pylist() == expected(range(20_000))
        assert (info["close_reason"], info["error"]) == ("eof", None)
    info = infos[3]
    assert info["close_reason"] == "framing"
    assert f"at position {len(before)}" in info["error"]
    assert says in info["error"]
    mine = [row for row in table.to_pylist() if row["connection"] == info["id"]]
    assert [row["n"] for row in mine] == list(range(7))
    assert stats.failed_connections == (name != "ipc")


def test_a_peer_with_an_unknown_message():
    good, messages = mixed(3000)
    before, seven = mixed(7, seed=5)
    decoder = de.Records(LAYOUTS, keep=["connection"])
    with zc.listen(
        "127.0.0.1:0", decode=decoder, framing=fr.LengthPrefixed("u8"), accept=3, area="8 MiB"
    ) as source:
        batches, infos = with_a_bad_one(source, [good] * 2, before + b"\x02Z!" + good)
    table = pa.Table.from_batches(batches)
    for info, sent in zip(infos, (messages, messages, seven), strict=True):
        mine = table.filter(
            pa.array([each == info["id"] for each in table["connection"].to_pylist()])
        )
        assert mine["kind"].to_pylist() == [m[:1] for m in sent]
    assert infos[2]["close_reason"] == "framing"
    assert infos[2]["error"] == f"at position {len(before) + 1}: no layout for byte b'Z'"


@ALL
def test_one_schema_for_life(name):
    make, encode = FORMATS[name]
    decoder = make()
    with zc.listen("127.0.0.1:0", decode=decoder, accept=2, area="8 MiB") as source:
        before = source.schema
        feeding = threading.Thread(
            target=ask, args=(source.address, encode(range(10)), encode(range(10)))
        )
        feeding.start()
        batches = list(source)
        feeding.join()
        assert before.names == ["n", "t"]
        assert source.schema == before
    assert {str(batch.schema) for batch in batches} == {str(before)}


def test_an_inferred_schema_is_that_of_the_first_rows():
    with zc.listen(
        "127.0.0.1:0", decode=de.Ndjson(on_error="reject", on_drift="reject"), accept=2
    ) as source:
        feeding = threading.Thread(target=ask, args=(source.address, b'{"a": 1, "b": null}\n'))
        feeding.start()
        assert source.schema == pa.schema([("a", pa.int64()), ("b", pa.string())])
        feeding.join()
        eventually(lambda: len(closed(source)) == 1)
        ask(source.address, b'{"a": 2}\n{"a": 2.5}\n{"a": 3, "b": "x"}\n{"c": 1}\n')
        table = pa.table(source)
        rejected = source.rejected.take().to_pylist()
    assert table.to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": None}, {"a": 3, "b": "x"}]
    assert [(row["connection"], row["position"], row["payload"]) for row in rejected] == [
        (2, 9, b'{"a": 2.5}'),
        (2, 39, b'{"c": 1}'),
    ]


@pytest.mark.parametrize("line", [b'{"position": 1}\n', b"position\n1\n"])
def test_a_peer_cannot_choose_names_that_are_kept(line):
    """It fails itself, not whoever pulls."""
    decoder = de.Ndjson(keep=True) if line.startswith(b"{") else de.Csv(keep=True)
    with zc.listen("127.0.0.1:0", decode=decoder, accept=2) as source:
        pulling = Pulling(source)
        ask(source.address, line)
        eventually(lambda: len(closed(source)) == 1 or not pulling.is_alive())
        ask(source.address, line.replace(b"position", b"n"))
        batches = pulling.all()
        assert [row["close_reason"] for row in source.connections().to_pylist()] == [
            "framing",
            "eof",
        ]
    assert [batch["n"].to_pylist() for batch in batches] == [[1]]


def test_no_schema_without_rows():
    with zc.listen("127.0.0.1:0", decode=de.Ndjson(), accept=1) as source:
        ask(source.address, b"\n\n")
        with pytest.raises(FramingError, match="no row came that tells the schema"):
            _ = source.schema
    with pytest.raises(FramingError, match="no row came that tells the schema"):
        zc.decode(b"", de.Csv()).read_all()


def test_rejected_rows_have_a_bound():
    decoder = de.Records(np.dtype([("t", "S2")]), types={"t": pa.string()}, on_error="reject")
    with zc.listen("127.0.0.1:0", decode=decoder, accept=1) as source:
        feeding = threading.Thread(target=ask, args=(source.address, b"\xff\xff" * 140_000 + b"ok"))
        feeding.start()
        rejected = refusals = 0
        rows = []
        while True:
            try:
                batch = source.next_batch("20 s")
            except zc.ZcrxError as error:
                assert "rejected rows wait to be taken" in str(error)  # noqa: PT017
                rejected += len(source.rejected.take())
                refusals += 1
                continue
            if batch is None:
                break
            rows += batch["t"].to_pylist()
        feeding.join()
        rejected += len(source.rejected.take())
    assert refusals
    assert (rejected, rows) == (140_000, ["ok"])
