# SPDX-License-Identifier: Apache-2.0
"""
Writes the seeds of all targets: python -m tests.fuzz.seeds.

Options are laid out as each target's choose() or check() takes them. What was found by fuzzing lies
beside the seeds and is not made here.
"""

from __future__ import annotations

import datetime as dt
import struct
from pathlib import Path

import pyarrow as pa

from tests.fuzz.harness import CORPUS

NATIVE = Path(__file__).parents[2] / "native" / "fuzz" / "corpus"

# --- fuzz_framing.c -----------------------------------------------------------------------------

RAW, DELIMITED, PREFIXED, VARINT, FIXED, SYSLOG, IPC = range(7)
BLOCKS, UNTERMINATED, PREAMBLE, DROP, SWAP, COUNTS, KEEP = (1 << bit for bit in range(7))
BINARY_VIEW, STRING_VIEW, LARGE_BINARY, LARGE_STRING = range(4)
EDGES = (255, 256, 1000, 4095, 4096, 4097, 5000, 8191, 8192, 65535, 65536, 70000, 1 << 20, 1 << 30)


def size(value: int) -> int:
    """As take_size() reads it."""
    return EDGES.index(value) + 256 - len(EDGES) if value in EDGES else value - 1


def framing(
    kind: int,
    flags: int,
    stream: bytes,
    *,
    first: int = DELIMITED,
    delimiter: bytes = b"\n",
    limit: int = 100,
    fixed: int = 16,
    width: int = 2,
    offset: int = 0,
    behind: int = 0,
    unit: int = 1,
    payload: int = BINARY_VIEW,
    rows: int = 7,
    chunks: int = 16,
    most: int = 4096,
    repeat: int = 1,
    seed: int = 1,
) -> bytes:
    """One input: options and a stream."""
    options = [
        kind + 7 * (first - 1),
        flags,
        len(delimiter) - 1,
        *delimiter.ljust(8, b"\0"),
        size(limit),
        size(fixed),
        width.bit_length() - 1,
        offset,
        size(behind + 1),
        size(unit),
        payload,
        size(rows),
        chunks - 8,
        size(most),
        repeat - 1,
        seed,
    ]
    return bytes(options) + stream


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def framings() -> dict[str, bytes]:
    lines = b"".join(b"line %d %s\n" % (i, b"x" * (7 * i % 60)) for i in range(60))
    text = "grüße, жизнь, 水, 🦀\nplain\n".encode()
    counted = b"".join(struct.pack(">H", n) + b"y" * n for n in (0, 1, 12, 13, 40, 90))
    dbn = b"".join(bytes([4]) + b"r" * 15 for _ in range(8))
    proto = b"".join(varint(n) + b"z" * n for n in (0, 5, 99, 100))
    syslog = b"<13>a line\n9 <14>count" + b"\n<15>empty next\n\n5 abcde<16>no end"
    stream = next(iter(arrow_streams().values()))
    return {
        "raw": framing(RAW, 0, lines),
        "raw-copied": framing(RAW, 0, lines, payload=LARGE_BINARY, repeat=20),
        "lines": framing(DELIMITED, UNTERMINATED, lines + b"no end"),
        "lines-partial": framing(DELIMITED, 0, lines + b"no end", repeat=9),
        "lines-over-the-limit": framing(DELIMITED, 0, lines, limit=40),
        "lines-of-the-limit": framing(DELIMITED, 0, b"12345\n1234\n12345", limit=5),
        "lines-many": framing(DELIMITED, 0, b"\n\na\n", repeat=32, rows=65536, most=65536),
        "lines-text": framing(DELIMITED, UNTERMINATED, text, payload=STRING_VIEW),
        "lines-no-text": framing(DELIMITED, 0, text + b"\xed\xa0\x80\n", payload=LARGE_STRING),
        "crlf": framing(DELIMITED, 0, lines.replace(b"\n", b"\r\n"), delimiter=b"\r\n"),
        "delimiter-of-itself": framing(DELIMITED, 0, b"aaaaabaaaa", delimiter=b"aa"),
        "delimiter-begins-twice": framing(DELIMITED, 0, b"xababacyababac", delimiter=b"ababac"),
        "delimiter-of-8": framing(DELIMITED, UNTERMINATED, b"one12345678two1234567", limit=4,
                                  delimiter=b"12345678"),
        "blocks-lines": framing(DELIMITED, BLOCKS | UNTERMINATED, lines, repeat=8),
        "blocks-over-the-limit": framing(DELIMITED, BLOCKS, lines, limit=50),
        "blocks-fixed": framing(FIXED, BLOCKS, lines, repeat=8),
        "u16": framing(PREFIXED, SWAP, counted),
        "u16-copied": framing(PREFIXED, SWAP, counted, payload=LARGE_BINARY + 8, repeat=16),
        "u16-text": framing(PREFIXED, SWAP, b"\0\2ab\0\2c\xc3\xbc\0\2\xc3x", payload=STRING_VIEW),
        "u8-dbn": framing(PREFIXED, COUNTS | KEEP, dbn, width=1, behind=15, unit=4),
        "u32-flag": framing(PREFIXED, 0, b"\0\3\0\0\0abc", width=4, offset=1),
        "u64-too-long": framing(PREFIXED, 0, b"\3" + bytes(7) + b"abc" + b"\xff" * 9, width=8),
        "u8-shorter-than-its-header": framing(PREFIXED, COUNTS, b"\4abc\1", width=1, behind=1),
        "header-of-5000": framing(PREFIXED, 0, b"\x0d" + b"h" * 4095 + b"m" * 13, width=1,
                                  behind=4095, chunks=8, repeat=16, rows=65536, most=8192),
        "varint": framing(VARINT, 0, proto),
        "varint-long-form": framing(VARINT, 0, b"\x81\x80\x80\x00a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        "fixed": framing(FIXED, 0, lines, fixed=13),
        "fixed-5000": framing(FIXED, 0, lines, fixed=5000, repeat=30, chunks=8),
        "syslog": framing(SYSLOG, UNTERMINATED, syslog),
        "syslog-no-count": framing(SYSLOG, 0, b"<1>a\n12x"),
        "syslog-count-too-long": framing(SYSLOG, 0, b"99999999999 a"),
        "ipc": framing(IPC, 0, stream, limit=65536),
        "ipc-limited": framing(IPC, 0, stream, limit=256),
        "ipc-no-marker": framing(IPC, 0, stream[:200] + b"\xff\xff\0", limit=65536),
        "preamble-line": framing(FIXED, PREAMBLE, b"hello\n" + lines),
        "preamble-dropped": framing(PREFIXED, PREAMBLE | DROP | SWAP, b"hello\n" + counted),
        "preamble-no-text": framing(DELIMITED, PREAMBLE | DROP, b"\0\3\xff\xfe\xfd" + text,
                                    first=PREFIXED, payload=STRING_VIEW, width=1, offset=1),
        "preamble-no-text-scattered": framing(
            DELIMITED,
            PREAMBLE | DROP,
            b"\0\x20" + b"\xff" * 32 + b"text\nmore\n",
            first=PREFIXED,
            payload=STRING_VIEW,
            width=1,
            offset=1,
            seed=11,
        ),
        "preamble-alone": framing(FIXED, PREAMBLE | DROP | UNTERMINATED, b"hello"),
        "preamble-before-blocks": framing(FIXED, PREAMBLE | BLOCKS, b"\3abc" + lines, width=1,
                                          first=PREFIXED),
    }  # fmt: skip


# --- fuzz_records.c -----------------------------------------------------------------------------

COPY, WIDE, BOOL, TEXT = range(4)
NULL_BAD, VALIDITY, IN_BLOCKS, SELECTED, ALL_ORIGINS = 1, 2, 4, 8, 0xF0
COPIED = (1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 64, 128, 255, 256, 300)


def records(
    options: int,
    shapes: list[bytes],
    layouts: list[bytes],
    rows: bytes,
    *,
    discriminator: int = 0,
    repeat: int = 1,
    few: int = 8,
) -> bytes:
    counts = (len(layouts) - 1) + 4 * (len(shapes) - 1)
    head = bytes([options, counts, discriminator, repeat - 1, few])
    return head + b"".join(shapes) + b"".join(layouts) + rows


def shape(kind: int, detail: int, *, elements: int = 1, null: int | None = None) -> bytes:
    options = kind | (elements - 1) << 2 | (null is not None) << 7
    behind = null.to_bytes(8, "little") if null is not None else b""
    return bytes([options, detail]) + behind


def copied(width: int, **more) -> bytes:
    return shape(COPY, COPIED.index(width), **more)


def layout(*fields: bytes, longer: bool = False, least: int = 1, has: int = 0xFF) -> bytes:
    return bytes([longer | (least - 1) << 1, has]) + b"".join(fields)


def field(*offsets: int, swap=False, signed=False, width=1, text: int | None = None) -> bytes:
    options = swap | signed << 1 | (width - 1) << 2
    return bytes([options, *([] if text is None else [text - 2]), *offsets])


def row(payload: bytes) -> bytes:
    size = len(payload) if len(payload) < 240 else 239 + len(payload) // 64
    return bytes([size]) + payload


def record_seeds() -> dict[str, bytes]:
    block = bytes([15]) + bytes(range(16)) * 64
    every = [copied(width) for width in (1, 2, 4, 8, 3, 16)]
    seeds = {
        "numbers-in-blocks": records(
            IN_BLOCKS,
            [copied(8), copied(4)],
            [layout(field(0), field(8, swap=True), least=16)],
            block,
            repeat=20,
        ),
        "all-widths": records(
            IN_BLOCKS, every, [layout(*(field(i) for i in range(6)), least=32)], block
        ),
        "all-widths-swapped": records(
            IN_BLOCKS | ALL_ORIGINS,
            every,
            [layout(*(field(i, swap=True) for i in range(6)), least=32)],
            block,
        ),
        "wide": records(
            VALIDITY,
            [shape(WIDE, 0), shape(WIDE, 1)],
            [layout(field(0, width=3, signed=True), field(3, width=7, swap=True), least=10)],
            row(b"\xff\xff\xff1234567") + row(b"short") + row(b"abcdefghij"),
            repeat=3,
        ),
        "range": records(
            0,
            [shape(WIDE, 2, null=2**64 - 1)],
            [layout(field(0, width=8))],
            row(b"\xff" * 8) + row(b"\0" * 7 + b"\x80") + row(b"\1" * 8),
        ),
        "range-to-null": records(
            NULL_BAD,
            [shape(WIDE, 3)],
            [layout(field(0, width=8))],
            row(b"\0" * 7 + b"\x80") + row(b"\1" * 8),
        ),
        "null-of-4": records(
            0,
            [copied(4, null=0x20202020)],
            [layout(field(0, swap=True))],
            row(b"    ") + row(b"abcd"),
        ),
        "bits": records(
            VALIDITY,
            [shape(BOOL, 0, elements=3), shape(BOOL, 0)],
            [layout(field(0, 1, 2), field(3))],
            row(b"\0\1\2\0") + row(b"\1\0\0\7"),
            repeat=90,
        ),
        "text": records(
            ALL_ORIGINS,
            [shape(TEXT, 1, elements=2), shape(TEXT, 0)],
            [layout(field(0, 6, text=6), field(12, text=8))],
            row("grüß  жиз\0\0\0bytes  \0".encode()[:20]) + row(b"\xff" * 20) + row(b" " * 20),
            few=4,
        ),
        "text-to-null": records(
            NULL_BAD,
            [shape(TEXT, 1)],
            [layout(field(0, text=4))],
            row(b"ab\xc3 ") + row(b"abcd"),
        ),
        "layouts": records(
            ALL_ORIGINS,
            [copied(2), shape(TEXT, 1), shape(WIDE, 0)],
            [
                layout(field(1), field(3, text=3), has=3),
                layout(field(1), field(3, width=5, signed=True), has=5, longer=True),
                layout(field(2, text=4), field(6, width=1), has=6),
            ],
            row(b"A12abc") + row(b"B12\xff\xff\xff\xff\xff and more") + row(b"C_text\1")
            + row(b"Skip") + row(b"D?") + row(b"") + row(b"A1"),
            repeat=30,
        ),
        "layouts-in-blocks": records(
            IN_BLOCKS | NULL_BAD,
            [copied(1), copied(2)],
            [layout(field(1), least=4, has=1), layout(field(2), least=4, has=2)],
            bytes([7]) + b"A123B123S123C123A12\0B123A\0\0\0B\0\0\0",
            repeat=50,
        ),
        "one-selected": records(
            SELECTED, [copied(3)], [layout(field(1))], row(b"A123") + row(b"X123"), discriminator=0
        ),
        "lists": records(
            0,
            [copied(4, elements=3), shape(WIDE, 1, elements=2)],
            [layout(field(0, 4, 8), field(12, 14, width=2, swap=True, signed=True), longer=True)],
            row(bytes(range(240, 256))) + row(bytes(range(20))),
            repeat=5,
        ),
    }  # fmt: skip
    for width in COPIED:
        seeds[f"copied-{width}"] = records(
            0,
            [copied(width)],
            [layout(field(1))],
            row(bytes(i % 251 for i in range(width + 1))) * 2,
        )
    return seeds


# --- fuzz_text.c --------------------------------------------------------------------------------

INT, UINT, REAL, BOOLEAN, TIME, DAY, STRING, VIEW = range(8)
QUOTES, EMPTY_NULL, ALL_NULLS, IGNORE = 2, 4, 24, 32
NULLABLE, ZONE, NO_ZONE = 1, 2, 4


def plain(
    columns: list[tuple[int, int, int, int]],
    content: str | bytes,
    *,
    values: int = 3,
    options: int = QUOTES | EMPTY_NULL | ALL_NULLS,
    half: int = 20,
    repeat: int = 1,
) -> bytes:
    """Columns: kind, place (7: nowhere), width (0 to 3), flags."""
    content = content if isinstance(content, bytes) else content.encode()
    counts = (len(columns) - 1) + 6 * (values - 1)
    head = bytes([counts, options, half & 255, half >> 8, repeat - 1])
    each = (bytes([kind, place << 5 | width << 3 | flags]) for kind, place, width, flags in columns)
    return head + b"".join(each) + content


def plain_texts() -> dict[str, bytes]:
    numbers = [(INT, 0, 3, NULLABLE), (REAL, 1, 0, NULLABLE), (VIEW, 2, 0, NULLABLE)]
    others = [(BOOLEAN, 0, 0, 0), (TIME, 1, 2, NO_ZONE), (STRING, 2, 0, 0)]
    small = [(UINT, 0, 0, 0), (REAL, 1, 1, 0), (DAY, 2, 0, NULLABLE)]
    return {
        "csv-numbers": plain(numbers, "1,2.5,x\n-3,1e-7,a text of more than twelve\n,,NA\n"),
        "csv-many": plain(numbers, "12345,0.125,ABC\n-1,17,\n", repeat=200, half=2000),
        "csv-others": plain(
            others, "true,2024-02-29 23:59:59.123456,x\r\nfalse,1999-12-31T00:00:00,\r\n"
        ),
        "csv-small": plain(small, "255,0.1,2024-01-31\n0,16777217,\n"),
        "csv-nowhere": plain([(INT, 7, 3, NULLABLE), (VIEW, 1, 0, 0)], "a,b\nc,d\n", values=2),
        "csv-one": plain([(STRING, 0, 0, 0)], "one\ntwo\n\nthree", values=1),
        "csv-not-ascii": plain(numbers, "1,2,жизнь\n3,4,\U0001f600\n5,6,ж\n"),
        "csv-not-utf8": plain(numbers, b"1,2,\xff\n"),
        "csv-quoted": plain(numbers, '"1",2,"x,y"\r\n-3,"1e-7",""\n', repeat=9, half=70),
        "csv-quotes-within": plain(numbers, '1,2,"x""y"\n'),
        "csv-long": plain(numbers, "1,2," + "y" * 300 + "\n", half=100, repeat=3),
        "json": plain(numbers, '{"a": 1, "b": 2.5, "name": "x"}\n{"a": null, "name": ""}\n{}\n'),
        "json-many": plain(numbers, '{"a":1,"b":-0.5,"name":"a text of more than twelve"}\n',
                           repeat=100, half=999),
        "json-other-order": plain(numbers, '{"a":1,"b":2}\n{"b":3,"a":4}\n \n{"name":"z"}\r\n'),
        "json-ignored": plain(numbers[:1], '{"z":"x","a":1,"y":1.5e3}\n{"x":true,"a":2}\n',
                              options=IGNORE),
        "json-others": plain(
            others, '{"a":true,"b":"2024-02-29T12:00:00.5","name":"ж"}\n', repeat=9
        ),
        "json-zone": plain([(TIME, 0, 3, ZONE | NO_ZONE)], '{"a":"2024-02-29T12:00:00.5Z"}\n'),
        "json-odd": plain(numbers, '{"a":1,"a":2}\n{"a":01}\n{"a":1.}\n{"name":"\\n"}\n'),
    }  # fmt: skip


# --- Arrow IPC ----------------------------------------------------------------------------------


def arrow_stream(*batches: pa.RecordBatch, **options) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)
    ) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def batch(**columns) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def arrow_streams() -> dict[str, bytes]:
    plain = batch(n=[1, None, 3], s=["a", "longer than a view's twelve", None], x=[1.5, None, 0.1])
    cities = [pa.array(names).dictionary_encode() for names in (["a", "b"], ["a", "b", "c", None])]
    when = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    ends = pa.array([2, 5], pa.int32())
    union = pa.UnionArray.from_dense(
        pa.array([0, 1, 0], pa.int8()),
        pa.array([0, 0, 1], pa.int32()),
        [pa.array([1, 2]), pa.array(["x"])],
    )
    nested = pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 0], pa.int8()), pa.array([{"k": "v"}, {"k": None}])
    )
    tight = pa.schema([("n", pa.int64()), ("s", pa.string()), ("x", pa.float64())])
    return {
        "plain": arrow_stream(plain),
        "two-batches": arrow_stream(plain, plain),
        "two-streams": arrow_stream(plain) * 2,
        "without-end": arrow_stream(plain)[:-8],
        "no-batch": arrow_stream(plain)[: arrow_stream(plain).find(b"\xff\xff\xff\xff", 8)],
        "empty-batch": arrow_stream(plain.slice(0, 0)),
        "narrower": arrow_stream(
            pa.RecordBatch.from_pydict(
                {"n": [1, 2], "x": [1.0, None]},
                pa.schema([("n", pa.int16()), ("x", pa.float32())]),
            )
        ),
        "not-its-schema": arrow_stream(batch(other=[True, None])),
        "exactly-its-schema": arrow_stream(plain.cast(tight)),
        "dictionary": arrow_stream(*(batch(city=each) for each in cities[:1] * 2)),
        "dictionary-delta": arrow_stream(
            *(batch(city=each) for each in cities), emit_dictionary_deltas=True
        ),
        "dictionary-replaced": arrow_stream(*(batch(city=each) for each in reversed(cities))),
        "dictionary-of-structs": arrow_stream(batch(d=nested)),
        "lz4": arrow_stream(batch(n=list(range(100)), s=["same"] * 100), compression="lz4"),
        "zstd": arrow_stream(batch(n=list(range(100)), s=["same"] * 100), compression="zstd"),
        "lists": arrow_stream(batch(v=[[1], [], None, [2, None]], m=[[{"a": 1}], [], None, []])),
        "structs": arrow_stream(batch(s=[{"a": 1, "b": {"c": "x"}}, None])),
        "map": arrow_stream(
            batch(m=pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())))
        ),
        "union": arrow_stream(batch(u=union)),
        "run-ends": arrow_stream(
            batch(r=pa.RunEndEncodedArray.from_arrays(ends, pa.array([7, None])))
        ),
        "views": arrow_stream(
            batch(
                v=pa.array(["short", "a string of more than twelve", None], pa.string_view()),
                b=pa.array([b"", b"x" * 20, None], pa.binary_view()),
            )
        ),
        "list-views": arrow_stream(batch(v=pa.array([[1, 2], None, []], pa.list_view(pa.int8())))),
        "fixed-sizes": arrow_stream(
            batch(
                f=pa.array([[1, 2], None], pa.list_(pa.int16(), 2)),
                b=pa.array([b"abc", None], pa.binary(3)),
                d=pa.array([None, 5], pa.decimal128(20, 3)),
            )
        ),
        "times": arrow_stream(
            batch(t=[when, None], d=[when.date(), None], s=[dt.timedelta(1), None])
        ),
        "nulls-and-bits": arrow_stream(batch(z=pa.nulls(9), b=[True, None, False] * 3)),
        "large": arrow_stream(
            batch(
                s=pa.array(["x", None], pa.large_string()),
                v=pa.array([[1], None], pa.large_list(pa.int8())),
            )
        ),
    }


def arrow_messages() -> dict[str, bytes]:
    """Single messages, for fuzz_ipc.c."""
    found = {"end": b"\xff\xff\xff\xff\0\0\0\0"}
    for name, stream in arrow_streams().items():
        if name in ("two-batches", "two-streams", "without-end", "no-batch"):
            continue
        reader = pa.ipc.MessageReader.open_stream(stream)
        for message in reader:
            sink = pa.BufferOutputStream()
            message.serialize_to(sink)
            kind = message.type.replace(" ", "-")
            if kind != "schema" or name in ("plain", "structs", "dictionary"):
                found.setdefault(f"{name}-{kind}", sink.getvalue().to_pybytes())
    return found


# --- text, records ------------------------------------------------------------------------------

NDJSON, CSV, CSV_BARE = 0, 1, 3
QUOTED = 4


def text(kind: int, policy: int, which: int, content: str | bytes, cut: int = 0x50) -> bytes:
    content = content if isinstance(content, bytes) else content.encode()
    return bytes([kind, policy, which, cut]) + content


def texts() -> dict[str, bytes]:
    long = "".join(f'{{"a":{i},"b":"{"x" * (i % 50)}"}}\n' for i in range(60))
    return {
        "ndjson": text(NDJSON, 0, 0, '{"a":1,"b":"x"}\n{"b":null,"a":-2}\n{"a":3}'),
        "ndjson-long": text(NDJSON, 0, 0, long),
        "ndjson-bad-lines": text(NDJSON, 0, 0, '{"a":1}\nnot json\n{"a":"x"}\n[1]\n{"a":2}\n'),
        "ndjson-blank": text(NDJSON, 0, 0, '\n \r\n{"a":1}\r\n\t\n' + " " * 70 + '\n{"a":2}\n'),
        "ndjson-drift": text(NDJSON, 0, 0, '{"a":1}\n{"a":2,"c":{"d":[1]}}\n'),
        "ndjson-drift-ignored": text(NDJSON, 1, 0, '{"a":1,"c":[{}]}\n{"a":2}\n'),
        "ndjson-to-null": text(NDJSON, 2, 0, '{"a":"x","b":"y"}\n{"a":1.5}\n{"a":true}\n{'),
        "ndjson-fails": text(NDJSON, 4, 0, '{"a":1}\n{"a":"x"}\n{"a":3}\n'),
        "ndjson-not-null": text(NDJSON, 0, 2, '{"a":1,"c":1e3}\n{"b":true}\n{"a":null}\n'),
        "ndjson-times": text(NDJSON, 0, 3, '{"b":"2026-01-02T03:04:05Z","a":"1.50","c":"x"}\n'),
        "ndjson-nested": text(NDJSON, 0, 4, '{"a":[1,null],"b":{"a":"x","b":[1.5]}}\n{"a":[]}\n'),
        "ndjson-inferred": text(NDJSON, 0, 5, '{"q":1,"r":[{"s":"2026-01-02"}]}\n{"q":2}\n'),
        "ndjson-inferred-late": text(NDJSON, 0, 5, 'rubbish\n{"q":1}\n{"q":"x"}\n'),
        "ndjson-two-in-a-line": text(NDJSON, 0, 0, '{"a":1}{"a":2}\n{"a":\n3}\n'),
        "ndjson-not-utf8": text(NDJSON, 0, 0, b'{"b":"\xff\xfe"}\n{"b":"\xc3\xbc\\ud800"}\n'),
        "ndjson-nul": text(NDJSON, 0, 0, b'{"b":"\\u0000"}\n\0\n{"a":1}\0\n'),
        "ndjson-null-for-a-row": text(NDJSON, 0, 0, '{"a":1}\nnull\n{"a":2}null\n{"b":"} null"}\n'),
        "ndjson-null-alone": text(NDJSON, 0, 5, " null"),
        "ndjson-nulls-first": text(NDJSON, 0, 5, '{"a":[null,1]}\n{"a":[null]}\n'),
        "ndjson-nested-nulls": text(
            NDJSON, 0, 4, '{"a":[null,null],"b":null}\n{"b":{"b":[null,1]}}\n'
        ),
        "ndjson-twice": text(NDJSON, 0, 0, '{"a":1,"a":2}\n{"a":99999999999999999999}\n'),
        "csv": text(CSV + QUOTED, 0, 1, 'a\nx\n\n"y, z"\n'),
        "csv-columns": text(CSV, 0, 4, "a,b\n1,x\n2,\n,y\n"),
        "csv-bad-lines": text(CSV, 0, 4, "a,b\n1\nx,y\n3,z,4\n5,w\n"),
        "csv-quoted": text(CSV + QUOTED, 0, 4, 'b,a\n"q ""r""",1\n"s\nt",2\n"u,3\n'),
        "csv-carriage-returns": text(CSV, 0, 4, "a,b\r\n1,x\r2,y\n3,z\r\n"),
        "csv-header-missing": text(CSV, 6, 4, "a\n1\n2\n"),
        "csv-header-drift": text(CSV, 0, 4, "a,b,c\n1,x,y\n2,x,y\n"),
        "csv-header-drift-ignored": text(CSV, 1, 4, "a,b,c\n1,x,y\n2,x,y\n"),
        "csv-header-twice": text(CSV, 0, 4, "a,a\n1,2\n"),
        "csv-header-alone": text(CSV, 0, 4, "a,b"),
        "csv-inferred": text(CSV, 0, 0, "p,q\n1,2026-01-02\n2,2026-01-03\nx,y\n"),
        "csv-to-null": text(CSV, 2, 2, "a,b,c\n1,true,2.5\n2,maybe,x\n,true,1\n"),
        "csv-bare": text(CSV_BARE, 0, 0, "1,x\n2,y\n3\n"),
        "csv-bare-times": text(CSV_BARE, 0, 3, "2026-01-02 03:04:05,1.25,x\nnever,2,y\n"),
        "csv-bare-two-rows": text(CSV_BARE + QUOTED, 0, 1, '1\r2\n"a\nb"\n \n'),
        "csv-not-utf8": text(CSV_BARE, 0, 1, b"\xff\n\xc3\xbc\n\0\n"),
        "csv-small": text(CSV_BARE, 0, 129, "255,a long text of more than twelve,0.1\n,,-1e-9\n"),
        "csv-zones": text(CSV_BARE, 0, 130, "2024-02-29T23:59:59.123456Z,-32768,x\n,7,y\n"),
        "csv-days": text(CSV_BARE, 0, 128, "2024-02-29,2024-02-29 00:00:01,18446744073709551615\n"),
        "ndjson-small": text(NDJSON, 0, 128, '{"a": 255, "b": "ж", "c": 1e-9}\n{"a": 0}\n'),
        "ndjson-zones": text(NDJSON, 1, 129, '{"a": "2024-02-29T23:59:59.5Z", "b": -1, "z": []}\n'),
    }


def recorded() -> dict[str, bytes]:
    plain = b"".join(
        bytes(range(16)) + struct.pack("<I", i) + struct.pack(">q", -i) + b"text" + bytes(9 + i % 2)
        + b"\1" for i in range(9)
    )  # fmt: skip
    nested = struct.pack(">xxhfhf4sqBxxx", 1, 2.5, 3, 4.5, b"ab \0", -(2**63), 1) * 3
    small = b"\x0aA123texts " + b"\x0cA   \xff\xff\xff\xff\xff\xff.."
    kinds = (
        b"\x0aA123text  \x0eB" + b"\xff" * 8 + b"ab123" + b"\x01C" + b"\0" + b"\x0a\x00123texts."
    )
    cut = 0x50
    return {
        "plain": bytes([0, 0, cut]) + plain,
        "plain-partial": bytes([0, 2, cut]) + plain[:-3],
        "nested": bytes([1, 0, cut]) + nested,
        "nested-bad-text": bytes([1, 1, cut]) + nested.replace(b"ab", b"\xff\xfe"),
        "small-longer": bytes([2, 0, cut]) + small,
        "small-fails": bytes([2, 2, cut]) + small,
        "kinds": bytes([3, 0, cut]) + kinds,
        "kinds-to-null": bytes([3, 1, cut]) + kinds[:-11],
        "only-one": bytes([4, 0, cut]) + b"A123texts.B123texts.A\0\0\0\xff\xff    C123text  ",
    }


def write(folder: Path, seeds: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in seeds.items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    write(NATIVE / "framing", framings())
    write(NATIVE / "records", record_seeds())
    write(NATIVE / "ipc", arrow_messages())
    write(NATIVE / "text", plain_texts())
    write(CORPUS / "ipc", {name: b"\0\x2a" + made for name, made in arrow_streams().items()})
    write(
        CORPUS / "ipc",
        {
            f"{name}-widened": b"\x0b\x2a" + arrow_streams()[name]
            for name in ("plain", "narrower", "exactly-its-schema")
        },
    )
    write(CORPUS / "text", texts())
    write(CORPUS / "records", recorded())
