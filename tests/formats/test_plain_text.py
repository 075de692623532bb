# SPDX-License-Identifier: Apache-2.0
"""What the core reads of text itself is what pyarrow's parsers read, and it reads all that is plain."""

from __future__ import annotations

import datetime as dt
import gc
import json
import math
import re
import socket
import struct

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

import zcrx_arrow as zc
from zcrx_arrow.decoders import _plain
from zcrx_arrow.decoders._text import TextAtWork

NULLS = ["", "NA", "null", "-999"]
VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
TYPES = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float32(), pa.float64(), pa.bool_(), pa.date32()),
    *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.timestamp("us", "UTC"), pa.timestamp("ns", "Europe/Berlin")),
    *(pa.string(), pa.binary(), pa.string_view(), pa.binary_view()),
]


# --- values -------------------------------------------------------------------------------------


def numbers(kind: pa.DataType) -> st.SearchStrategy[str]:
    """Numbers as programs write them."""
    if pa.types.is_floating(kind):
        width = kind.bit_width
        return st.one_of(
            st.floats(allow_nan=False, allow_infinity=False, width=width).map(repr),
            st.decimals(-(10**6), 10**6, places=4).map(str),
            st.integers(-(2**70), 2**70).map(str),
            st.tuples(st.integers(0, 10**18), st.integers(0, 10**18)).map(
                lambda p: f"{p[0]}.{p[1]}"
            ),
        )
    signed = pa.types.is_signed_integer(kind)
    low = -(1 << kind.bit_width - 1) if signed else 0
    high = low + (1 << kind.bit_width) - 1
    return st.one_of(st.integers(low, high), st.sampled_from([low, high])).map(str)


@st.composite
def times(draw, kind: pa.DataType) -> str:
    digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[kind.unit]
    day = draw(st.dates(dt.date(1678, 1, 1), dt.date(2261, 12, 31)).map(dt.date.isoformat))
    clock = draw(st.times().map(lambda each: each.isoformat("seconds")))
    fraction = draw(st.integers(0, digits).map(lambda n: "." + "807654321"[:n] if n else ""))
    return f"{day}{draw(st.sampled_from(' T'))}{clock}{fraction}{'Z' if kind.tz else ''}"


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters='\r\n",', exclude_categories=["Cs"]),
    max_size=40,
)
ODD_WORDS = """
    0x1f +1 1. .5 - --1 1e 1e5 1E-7 1e400 1e-400 inf nan 007 -0 00 0.0 -0.0 1_0 128 256 -129 32768
    65536 2147483648 4294967296 9223372036854775808 -9223372036854775809 18446744073709551615
    18446744073709551616 1111111111111111111 11111111111111111111 999999999999999999999999999999
    0.111111111111111111111111111111 True true false 1 0 NULL NA null -999 xxxxxxxxxxxxx 2024-02-30
    2024-02-29 2024-01-01 24:00:00 2024-13-01T00:00:00 2024-01-01T24:00:00 2024-01-01T00:60:00
    2024-01-01T00:00:00. 2024-01-01T00:00:00.1 2024-01-01T00:00:00.1234567890 2024-01-01T00:00:00Z
    2024-01-01T00:00:00.5+01:00 1677-12-31T23:59:59 2262-01-01T00:00:00
"""
ODD = st.sampled_from([*ODD_WORDS.split(), "", " 1", "1 "])


def values(kind: pa.DataType) -> st.SearchStrategy[str]:
    """The text of a value of a type, usually."""
    if pa.types.is_timestamp(kind):
        usual = times(kind)
    elif pa.types.is_date32(kind):
        usual = st.dates(dt.date(1678, 1, 1), dt.date(2261, 12, 31)).map(dt.date.isoformat)
    elif pa.types.is_boolean(kind):
        usual = st.sampled_from(["true", "false"])
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        usual = numbers(kind)
    else:
        usual = TEXTS
    return usual


@st.composite
def tables(draw, types=TYPES):
    """Draw a schema, and texts of values for its columns: mostly all plain, at times one that is odd."""
    kinds = draw(st.lists(st.sampled_from(types), min_size=1, max_size=5))
    schema = pa.schema([pa.field(f"c{at}", kind) for at, kind in enumerate(kinds)])
    rows = draw(st.lists(st.tuples(*(values(kind) for kind in kinds)), min_size=1, max_size=30))
    if not draw(st.integers(0, 3)):
        row, column = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(kinds) - 1))
        changed = list(rows[row])
        changed[column] = draw(ODD)
        rows[row] = tuple(changed)
    return schema, rows * draw(st.sampled_from([1, 1, 1, 40]))


def same_bits(array: pa.Array, other: pa.Array) -> None:
    """Compare also the signs of zeros, and what views hold."""
    array.validate(full=True)
    assert array.type == other.type
    assert array.equals(other)
    if pa.types.is_float64(array.type):
        for mine, theirs in zip(array.to_pylist(), other.to_pylist(), strict=True):
            assert mine is theirs is None or struct.pack("d", mine) == struct.pack("d", theirs)


# --- CSV ----------------------------------------------------------------------------------------


def by_pyarrow(text: bytes, schema: pa.Schema, names: list[str], delimiter: str) -> pa.Table:
    readable = pa.schema([field.with_type(VIEWS.get(field.type, field.type)) for field in schema])
    table = pacsv.read_csv(
        pa.BufferReader(text),
        pacsv.ReadOptions(column_names=names, use_threads=False, block_size=1 << 30),
        pacsv.ParseOptions(delimiter=delimiter),
        pacsv.ConvertOptions(
            column_types=readable,
            include_columns=schema.names,
            include_missing_columns=True,
            null_values=NULLS,
            strings_can_be_null=True,
        ),
    )
    columns = [
        column.combine_chunks().cast(field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def csv_of(rows, delimiter: str, end: str) -> bytes:
    return "".join(delimiter.join(row) + end for row in rows).encode()


@st.composite
def quoted(draw, rows, delimiter: str):
    """Put quotes around all values, some, or those that need them; texts get what needs them."""
    how = draw(st.sampled_from(["all", "some", "needed", "needed"]))
    within = draw(st.sampled_from(["", delimiter, f"{delimiter}x" * 40]))
    made = []
    for row in rows:
        values = [value + within if draw(st.integers(0, 20)) == 20 else value for value in row]
        made.append(
            [
                f'"{value}"'
                if how == "all" or delimiter in value or (how == "some" and draw(st.booleans()))
                else value
                for value in values
            ]
        )
    return made


@settings(max_examples=400, deadline=None)
@given(
    made=tables(),
    delimiter=st.sampled_from(",;|\t"),
    end=st.sampled_from(["\n", "\n", "\n", "\r\n"]),
    last=st.booleans(),
    data=st.data(),
)
def test_csv_as_pyarrow_reads_it(made, delimiter, end, last, data):
    schema, rows = made
    if data.draw(st.booleans()):
        rows = data.draw(quoted(rows[:40], delimiter))
    assume(not any(delimiter in value for row in rows for value in row if value[:1] != '"'))
    text = csv_of(rows, delimiter, end)
    text = text if last else text.removesuffix(end.encode())
    wanted = data.draw(st.permutations(range(len(schema))))[: data.draw(st.integers(1, 5))]
    wanted = pa.schema([schema.field(at) for at in wanted])
    reader = _plain.csv(wanted, schema.names, delimiter, '"', NULLS)
    batch = reader.read(pa.py_buffer(text))
    event("read" if batch is not None else "refused")
    if batch is None:
        return
    table = by_pyarrow(text, wanted, schema.names, delimiter)
    assert batch.num_rows == sum(bool(line.strip(b"\r")) for line in text.split(b"\n"))
    for name in wanted.names:
        same_bits(batch.column(name), table.column(name).combine_chunks())


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_plain_csv_is_not_refused(kind):
    """Else all of the above could be compared with nothing."""
    plain = {
        "timestamp": "2024-02-29 12:34:56" + ("Z" if getattr(kind, "tz", None) else ""),
        "date32": "2024-02-29",
        "bool": "true",
        "string": "ж and more than twelve bytes",
        "binary": "b",
    }
    value = next((text for name, text in plain.items() if str(kind).startswith(name)), "12")
    text = f"{value},7\n,8\n".encode() * 5000
    schema = pa.schema([("a", kind), ("b", pa.int64())])
    batch = _plain.csv(schema, schema.names, ",", '"', NULLS).read(pa.py_buffer(text))
    assert batch is not None
    table = by_pyarrow(text, schema, schema.names, ",")
    for name in schema.names:
        same_bits(batch.column(name), table.column(name).combine_chunks())
    assert batch.column("a").null_count == 5000


@pytest.mark.parametrize(
    "text",
    [
        b'1,"x""y"\n',
        b'1,"x" \n',
        b'1, "x"\n',
        b'1,"x"y\n',
        b'1,x"y"\n',
        b'1,"x\n',
        b'1,x"\n',
        b'1,"\n',
        b'1,"x\ny"\n',
        b'1,"' + b"x" * 64 + b'\n2,y"\n',
        b'1,"' + b"x" * 59 + b'"y\n',
        b'1,"' + b"x" * 60 + b'"y\n',
        b"1,x,2\n",
        b"1\n",
        b"1,x\n\n2,y\n",
        b"1,x\n2\ny,3\n",
        b"1,x\r2,y\n",
        b"1,x\r\r\n",
        b"1,\xff\n",
        b"\xef\xbb\xbf1,x\n",
        b"1,x\n2,y,z\n3\n",
        b"1,x\n" * 3000 + b"2\n" + b"1,x\n" * 3000,
        b"9223372036854775808,x\n",
    ],
)
def test_csv_that_is_not_plain_is_refused(text):
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert _plain.csv(schema, schema.names, ",", '"', NULLS).read(pa.py_buffer(text)) is None


def test_what_is_null_is_not_put_where_there_may_be_none():
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False), ("b", pa.string())])
    reader = _plain.csv(schema, schema.names, ",", '"', NULLS)
    assert reader.read(pa.py_buffer(b"1,x\n")) is not None
    assert reader.read(pa.py_buffer(b",x\n")) is None
    assert _plain.csv(schema, ["b"], ",", '"', NULLS).read(pa.py_buffer(b"x\n")) is None


@pytest.mark.parametrize("before", range(60, 70))
@pytest.mark.parametrize("within", [0, 1, 50, 64, 65, 200])
def test_quotes_about_the_edge_of_a_block(before, within):
    schema = pa.schema([("a", pa.string()), ("b", pa.string())])
    rows = [("x" * before, "y," * within), ("z", ""), (",", "1")]
    text = "".join(f'{a},"{b}"\n' if a != "," else f'"{a}",{b}\r\n' for a, b in rows).encode()
    reader = _plain.csv(schema, schema.names, ",", '"', [])
    for repeated in (text, text * 10):
        batch = reader.read(pa.py_buffer(repeated))
        assert [tuple(row.values()) for row in batch.to_pylist()[:3]] == rows
        assert batch.num_rows == 3 * (len(repeated) // len(text))


@pytest.mark.parametrize("columns", [1, 2, 7, 64, 1000])
def test_rows_of_any_width(columns):
    """Also where a row is a good part of what is looked at in one go."""
    names = [f"c{at}" for at in range(columns)]
    rows = [[str(row * columns + at) for at in range(columns)] for row in range(20_000 // columns)]
    wanted = pa.schema([(names[0], pa.int64()), (names[-1], pa.string())][: min(columns, 2)])
    reader = _plain.csv(wanted, names, ",", None, NULLS)
    batch = reader.read(pa.py_buffer(csv_of(rows, ",", "\n")))
    assert batch.column(0).to_pylist() == [int(row[0]) for row in rows]
    if columns > 1:
        assert batch.column(1).to_pylist() == [row[-1] for row in rows]


# --- NDJSON -------------------------------------------------------------------------------------

JSON_TYPES = [kind for kind in TYPES if not pa.types.is_date32(kind)]


def is_text(kind: pa.DataType) -> bool:
    return not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


NESTED = [
    *('"z":{"q":[1]}', '"z": 1', '"z":"\\u0041"', "?", '"z":[]', '"z":[{}, [ ]]', '"z":[1,]'),
    *('"z":{"q":{"a":1.5e-3,"b":"\\ud83d\\ude00"}}', '"z":"\\ud83d"', '"z":[1e400]', '"z":{"a"}'),
    *('"z":[nan]', '"z":{"a":1,"a":2}', '"z":[01]', '"z":[-]', '"z":"a\\qb"', '"z":[true false]'),
]


@st.composite
def objects(draw):
    """Draw a schema and lines of objects, of which some lack members, or have them elsewhere."""
    schema, rows = draw(tables(JSON_TYPES))
    ascii_only = draw(st.booleans())
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :\t")]))
    shuffle = draw(st.sampled_from([0, 0, 1]))
    lines = []
    for row in rows:
        members = [
            json.dumps(field.name)
            + colon
            + (json.dumps(value, ensure_ascii=ascii_only) if is_text(field.type) else value)
            for field, value in zip(schema, row, strict=True)
            if value or is_text(field.type)
        ]
        if shuffle and draw(st.integers(0, 5)) == 0:
            members = draw(st.permutations(members))[: draw(st.integers(0, len(members)))]
        if draw(st.integers(0, 60)) == 60:
            members.append(draw(st.sampled_from(NESTED)))
        lines.append("{" + comma.join(members) + "}")
    return schema, lines


def json_by_pyarrow(text: bytes, schema: pa.Schema, ignore: bool) -> pa.Table:
    table = pajson.read_json(
        pa.BufferReader(text),
        pajson.ReadOptions(use_threads=False, block_size=1 << 30),
        pajson.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore" if ignore else "error"
        ),
    )
    return table.select(schema.names)


@settings(max_examples=400, deadline=None)
@given(
    made=objects(),
    end=st.sampled_from(["\n", "\n", "\n", "\r\n", " \n", "\n \n"]),
    ignore=st.booleans(),
    data=st.data(),
)
def test_objects_as_pyarrow_reads_them(made, end, ignore, data):
    schema, lines = made
    text = (end.join(lines) + data.draw(st.sampled_from([end, ""]))).encode()
    wanted = schema
    if ignore:
        some = data.draw(st.permutations(range(len(schema))))[: data.draw(st.integers(1, 5))]
        wanted = pa.schema([schema.field(at) for at in some])
    reader = _plain.ndjson(wanted, ignore_others=ignore)
    batch = reader.read(pa.py_buffer(text))
    event("read" if batch is not None else "refused")
    if batch is None:
        return
    assert batch.num_rows == len(lines)
    table = json_by_pyarrow(text, wanted, ignore)
    for name in wanted.names:
        same_bits(batch.column(name), table.column(name).combine_chunks())


@pytest.mark.parametrize("kind", JSON_TYPES, ids=str)
def test_plain_objects_are_not_refused(kind):
    value = "12"
    if pa.types.is_timestamp(kind):
        value = '"2024-02-29T12:34:56Z"'
    elif pa.types.is_boolean(kind):
        value = "true"
    elif is_text(kind):
        value = '"ж and more than twelve bytes"'
    text = f'{{"a": {value}, "b": 7}}\n{{"b":8,"a":null}}\n{{"b":9}}\n'.encode() * 5000
    schema = pa.schema([("a", kind), ("b", pa.int64())])
    batch = _plain.ndjson(schema, ignore_others=False).read(pa.py_buffer(text))
    assert batch is not None
    table = json_by_pyarrow(text, schema, ignore=False)
    for name in schema.names:
        same_bits(batch.column(name), table.column(name).combine_chunks())
    assert batch.column("a").null_count == 10_000


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[1]",
        b"null",
        b'{"a":1',
        b'{"a":1}}',
        b'{"a":1}{"a":2}',
        b'{"a":1,}',
        b'{,"a":1}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":.5}',
        b'{"a":+1}',
        b'{"a":1e}',
        b'{"a":"1"}',
        b'{"a":1.5}',
        b'{"a":1,"a":2}',
        b'{"a":nul}',
        b'{"a":nullx}',
        b'{"a" 1}',
        b"{a:1}",
        b'{"a":1 "b":"x"}',
        b'{"b":"\\x"}',
        b'{"b":"\\u12g4"}',
        b'{"b":"\\udc00"}',
        b'{"b":"\\ud800\\u0041"}',
        b'{"a\\n":1}',
        b'{"b":"\x01"}',
        b'{"b":"\xff"}',
        b'{"b":"x}',
        b'{"b":x}',
        b'{"c":1e999}',
        b'{"c":"\\ud800"}',
        b'{"c":truex}',
        b'{"c":[1,]}',
        b'{"c":[1 2]}',
        b'{"c":[}',
        b'{"c":{"d"}}',
        b'{"c":{"d":1,}}',
        b'{"c":{"d":"\\ud800"}}',
        b'{"c":{1:2}}',
        b'{"c":[{]}}',
        b'{"a":[1]}',
        b'{"c":' + b"[" * 65 + b"]" * 65 + b"}",
        b'{"\\u0061":1}',
        b'{"a":1}\x00',
    ],
)
@pytest.mark.parametrize("before", [0, 50])
def test_objects_that_are_not_plain_are_refused(line, before):
    """Wherever they stand."""
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    text = b'{"a":1,"b":"x"}\n' * before + line + b"\n" + b'{"a":1,"b":"x"}\n' * before
    reader = _plain.ndjson(schema, ignore_others=True)
    batch = reader.read(pa.py_buffer(text))
    if not line:  # a blank line is no row
        assert batch.num_rows == 2 * before
    else:
        assert batch is None


def test_members_that_nobody_knows():
    schema = pa.schema([("a", pa.int64())])
    line = (
        b'{"a":1,"z":"x","y":-1.5e3,"x":true,"w":null,"v":"\\u00e9","u":[],"t":{},'
        b'"s":[ 1 , {"a" : [[], "\\ud83d\\ude00"]} , null ], "r": ' + b"[" * 60 + b"]" * 60 + b"}\n"
    )
    text = pa.py_buffer(line)
    assert _plain.ndjson(schema, ignore_others=False).read(text) is None
    assert _plain.ndjson(schema, ignore_others=True).read(text).to_pylist() == [{"a": 1}]


def test_more_members_than_are_remembered():
    names = [f"m{at}" for at in range(200)]
    schema = pa.schema([(names[0], pa.int64()), (names[150], pa.int64())])
    line = json.dumps({name: at for at, name in enumerate(names)}).encode() + b"\n"
    batch = _plain.ndjson(schema, ignore_others=True).read(pa.py_buffer(line * 3))
    assert batch.to_pylist() == [{"m0": 0, "m150": 150}] * 3


ESCAPES = [*'"\\/bfnrt', "u0041", "u00e9", "u0000", "u20AC", "ud83d\\ude00", "uD83D\\uDE00"]


UNESCAPED = TEXTS.map(lambda text: text.replace("\\", ""))


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.binary()], ids=str)
@settings(deadline=None)
@given(
    texts=st.lists(
        st.lists(st.one_of(st.sampled_from(ESCAPES).map("\\{}".format), UNESCAPED), max_size=6).map(
            "".join
        ),
        min_size=1,
        max_size=20,
    )
)
def test_escapes(kind, texts):
    """They are what Python's parser takes them for, and pyarrow's."""
    texts = [re.sub(r"[\x00-\x1f]", "", text) for text in texts]
    text = "".join(f'{{"a":"{each}","b":"{each}"}}\n' for each in texts).encode()
    schema = pa.schema([("a", kind)])
    batch = _plain.ndjson(schema, ignore_others=True).read(pa.py_buffer(text))
    table = json_by_pyarrow(text, schema, ignore=True)
    same_bits(batch.column("a"), table.column("a").combine_chunks())
    if kind == pa.string():
        assert batch.column("a").to_pylist() == [json.loads(f'"{each}"') for each in texts]


# --- both ---------------------------------------------------------------------------------------


@settings(max_examples=2000, deadline=None)
@given(
    value=st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(0, 10**15).map(lambda n: n / 10**4),
    )
)
@example(5e-324)
@example(2.2250738585072011e-308)
@example(9007199254740993.0)
@example(1.7976931348623157e308)
def test_doubles_come_back(value):
    """Bit for bit, as Python writes the shortest text that means them."""
    schema = pa.schema([("a", pa.float64())])
    for text, reader in (
        (f"{value!r}\n", _plain.csv(schema, ["a"], ",", None, [])),
        (f'{{"a":{value!r}}}\n', _plain.ndjson(schema, ignore_others=False)),
    ):
        batch = reader.read(pa.py_buffer(text.encode()))
        if batch is None:
            # exponents of more than 250 are left to others
            assert reader._read is not None
            assert "{" in text
            assert abs(math.frexp(value)[1]) > 800
        else:
            assert struct.pack("d", batch.column(0)[0].as_py()) == struct.pack("d", value)


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_what_is_never_plain_is_seldom_tried(form):
    schema = pa.schema([("a", pa.string())])
    plain, odd = (b"x\n", b'"x""y"\n') if form == "csv" else (b'{"a":"x"}\n', b'{"a":"x"}}\n')
    reader = (
        _plain.csv(schema, ["a"], ",", '"', [])
        if form == "csv"
        else _plain.ndjson(schema, ignore_others=False)
    )
    tried = 0
    read = reader._read

    def counting(*arguments):
        nonlocal tried
        tried += 1
        return read(*arguments)

    reader._read = counting
    for _ in range(5000):
        assert reader.read(pa.py_buffer(odd)) is None
    assert tried < 5000 / 15
    came = [reader.read(pa.py_buffer(plain)) is not None for _ in range(600)]
    assert all(came[16:])  # and once it is plain again, it is read here again


@pytest.mark.parametrize("policy", ["reject", "null"])
@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_bad_rows_among_plain_ones(form, policy):
    """The whole is read by pyarrow then, and the rows are the same ones."""
    schema = pa.schema([("a", pa.int64()), ("b", pa.string_view())])
    rows = [(str(at), f"text number {at}") for at in range(2000)]
    rows[777] = ("never", "x")
    if form == "csv":
        text, decoder = csv_of(rows, ",", "\n"), zc.decoders.Csv
    else:
        lines = (f'{{"a":{a if a != "never" else "true"},"b":"{b}"}}\n' for a, b in rows)
        text, decoder = "".join(lines).encode(), zc.decoders.Ndjson
    options = {"header": False} if form == "csv" else {}
    replay = zc.decode(text, decoder(schema, on_error=policy, **options))
    got = [row for batch in replay for row in batch.to_pylist()]
    wanted = [{"a": at, "b": b} for at, (_, b) in enumerate(rows)]
    if policy == "reject":
        del wanted[777]
        assert len(replay.rejected.take()) == 1
    else:
        wanted[777] = {"a": None, "b": "x"}
    assert got == wanted


def test_a_header_whose_first_name_is_empty():
    """As data frames are written with their index."""
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    decoder = zc.decoders.Csv(schema, extra="ignore")
    rows = [row for each in zc.decode(b",a,b\n0,1,x\n1,2,y\n", decoder) for row in each.to_pylist()]
    assert rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_names_of_a_header_are_taken_as_they_are(bom, end):
    names = ["007", "true", "1.50", "1e5", "2024-01-01T00:00:00", " x", "y,z", 'a "b"', "ж", "NA"]
    header = ",".join(
        f'"{n.replace(chr(34), chr(34) * 2)}"' if "," in n or '"' in n else n for n in names
    )
    text = bom + header.encode() + end + b",".join([b"1"] * len(names)) + end
    schema = pa.schema([(name, pa.int64()) for name in names])
    rows = [row for each in zc.decode(text, zc.decoders.Csv(schema)) for row in each.to_pylist()]
    assert rows == [dict.fromkeys(names, 1)]


@pytest.mark.parametrize(
    "header", [b'"a,b\n1,2\n', b"\xff,b\n1,2\n", b"a\rb\n1\n", b'"a"x,b\n1,2\n']
)
def test_a_header_that_is_none(header):
    replay = zc.decode(header, zc.decoders.Csv(pa.schema([("a", pa.int64())])))
    with pytest.raises(zc.errors.FramingError, match="no header"):
        list(replay)


def test_nothing_is_kept_of_connections_that_are_gone():
    """What a peer says in its header is its own choice, and may be long."""
    decoder = zc.decoders.Csv(pa.schema([("a", pa.int64())]), extra="ignore")
    with zc.listen("127.0.0.1:0", decode=decoder, accept=5) as source:
        for at in range(5):
            header = ",".join(["a", *(f"x{at}_{n}" for n in range(50))])
            with socket.create_connection(source.address) as peer:
                peer.sendall(f"{header}\n{at}{',' * 50}\n".encode())
        assert sorted(row["a"] for batch in source for row in batch.to_pylist()) == [0, 1, 2, 3, 4]
        works = [each for each in gc.get_objects() if isinstance(each, TextAtWork)]
        mine = [each for each in works if each._decoder is decoder]
        assert mine
        assert not any(each._plain or each.states for each in mine)
