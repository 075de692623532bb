# SPDX-License-Identifier: Apache-2.0
"""Every wire format from a file over TCP to a file, by processes."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
from decimal import Decimal

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq
import pytest

from tests.cli import CLI, Receiver, run
from tests.conftest import ROOT

ROWS = 3000
PAYLOADS = [b"%d " % i + bytes(range(65, 65 + i % 50)) for i in range(1, ROWS)]
LAYOUT = {
    "layout": [
        ["at", "<u8"],
        ["price", ">i8"],
        ["size", "<u4"],
        ["", "|V4"],
        ["symbol", "S8"],
        ["ok", "|b1"],
        ["wide", "|V3"],
        ["level", [["px", "<f8"], ["n", ">u2"]], 2],
    ],
    "types": {
        "at": "timestamp[ns, UTC]",
        "price": "decimal128(19, 4)",
        "symbol": "string",
        "wide": "uint64",
    },
    "nulls": {"size": 0xFFFFFFFF},
    "byteorder": "big",
}


def trades() -> pa.Table:
    level = pa.struct([("px", pa.float64()), ("n", pa.uint16())])
    return pa.table(
        {
            "at": pa.array(range(10**18, 10**18 + ROWS), pa.timestamp("ns", "UTC")),
            "price": pa.array(
                [Decimal(i - 99).scaleb(-4) for i in range(ROWS)], pa.decimal128(19, 4)
            ),
            "size": pa.array([None if i % 7 == 0 else i for i in range(ROWS)], pa.uint32()),
            "symbol": pa.array([f"S{i % 9}" for i in range(ROWS)]),
            "ok": pa.array([i % 2 == 0 for i in range(ROWS)]),
            "wide": pa.array([i * 1000 for i in range(ROWS)], pa.uint64()),
            "level": pa.array(
                [[{"px": i / 2, "n": i % 9}, {"px": -1.0, "n": 5}] for i in range(ROWS)],
                pa.list_(level, 2),
            ),
        }
    )


def listed() -> pa.Table:
    """Without what pyarrow does not read from JSON: lists of fixed size."""
    at = trades().schema.get_field_index("level")
    kind = pa.list_(trades().schema.field(at).type.value_type)
    return trades().set_column(at, "level", trades()["level"].cast(kind))


def flat() -> pa.Table:
    return trades().drop_columns(["level", "price"])


@pytest.fixture
def folder(tmp_path):
    pq.write_table(trades(), tmp_path / "trades.parquet")
    pq.write_table(flat(), tmp_path / "flat.parquet")
    (tmp_path / "trade.json").write_text(json.dumps(LAYOUT))
    payloads = pa.table({"n": range(len(PAYLOADS)), "payload": pa.array(PAYLOADS, pa.binary())})
    with pa.ipc.new_file(tmp_path / "payloads.arrow", payloads.schema) as writer:
        writer.write_table(payloads)
    return tmp_path


def passed(folder, file, sending, receiving) -> pa.Table:
    """Send a file, receive it as an Arrow IPC file."""
    out = folder / "out.arrow"
    receiver = Receiver("--accept", 1, "--to", f"ipc:{out}", *receiving)
    sent = json.loads(run("send", folder / file, receiver.address, "--json", *sending).stdout)
    summary = json.loads(receiver.end()[0])
    table = pa.ipc.open_file(out).read_all()
    assert summary["rows"] == sent["rows"] == table.num_rows
    assert summary["received_bytes"] == sent["bytes"]
    assert summary["connections"] == {"eof": 1}
    return table


@pytest.mark.parametrize(
    ("sending", "receiving"),
    [
        ("lines", "lines"),
        (r"delimited:\x00", r"delimited:\x00"),
        ("delimited:crlf", "delimited:crlf,whole"),
        ("length:u16be", "length:u16be"),
        (
            "length:u32le,offset=3,header=9,counts-header",
            "length:u32le,offset=3,header=9,counts-header",
        ),
        ("varint", "varint,max=4 KiB"),
        ("syslog", "syslog"),
    ],
)
def test_payloads(folder, sending, receiving):
    table = passed(folder, "payloads.arrow", ["--format", sending], ["--framing", receiving])
    assert table["payload"].to_pylist() == PAYLOADS


def test_kept_headers_go_back_as_they_came(folder):
    first = passed(
        folder,
        "payloads.arrow",
        ["--format", "length:u16be"],
        ["--framing", "length:u16be,keep-header"],
    )
    pq.write_table(first, folder / "kept.parquet")
    framing = "length:u16be,keep-header"
    again = passed(folder, "kept.parquet", ["--format", framing], ["--framing", "length:u16be"])
    assert again["payload"].to_pylist() == PAYLOADS


def test_fixed_size_and_syslog_lines(folder):
    fixed = [b"%08d" % i for i in range(100)]
    pq.write_table(pa.table({"x": pa.array(fixed, pa.binary(8))}), folder / "fixed.parquet")
    table = passed(folder, "fixed.parquet", ["--format", "fixed:8"], ["--framing", "fixed:8"])
    assert table["payload"].to_pylist() == fixed
    lines = [f"<{i}>message" for i in range(100)]
    (folder / "app.log").write_text("\n".join(lines))
    table = passed(folder, "app.log", ["--format", "syslog,newline"], ["--framing", "syslog"])
    assert table["payload"].cast(pa.string()).to_pylist() == lines


@pytest.mark.parametrize("framing", [None, "length:u16be"])
def test_records(folder, framing):
    records = f"records:{folder / 'trade.json'}"
    more = ["--framing", framing] if framing else []
    table = passed(
        folder, "trades.parquet", ["--format", records, *more], ["--decode", records, *more]
    )
    assert table.to_pylist() == trades().to_pylist()


def test_records_of_several_layouts(folder):
    layout = {
        "layout": {
            "A": [["kind", "S1"], ["price", "<i8"]],
            "D": [["kind", "S1"], ["why", "S5"]],
        },
        "types": {"why": "string"},
    }
    rows = [{"message_type": "AD"[i % 2], "kind": b"AD"[i % 2 : i % 2 + 1]} for i in range(1000)]
    for i, row in enumerate(rows):
        odd = i % 2
        row.update(price=None if odd else i, why="x" * (i % 6) if odd else None)
    pq.write_table(pa.Table.from_pylist(rows), folder / "mixed.parquet")
    words = ["--framing", "length:u8"]
    records = f"records:{json.dumps(layout)}"
    table = passed(
        folder, "mixed.parquet", ["--format", records, *words], ["--decode", records, *words]
    )
    assert table.to_pylist() == rows


@pytest.mark.parametrize("framing", [None, "length:u32be"])
def test_ndjson(folder, framing):
    pq.write_table(listed(), folder / "listed.parquet")
    schema = ["--schema", folder / "listed.parquet"]
    more = ["--framing", framing] if framing else []
    table = passed(
        folder,
        "listed.parquet",
        ["--format", "ndjson", *more],
        ["--decode", "ndjson", *schema, *more, "--keep", "position,connection"],
    )
    assert table.drop_columns(["position", "connection"]).to_pylist() == trades().to_pylist()
    assert table["connection"].unique().to_pylist() == [1]


@pytest.mark.parametrize("options", ["csv", "csv,delimiter=tab"])
def test_csv(folder, options):
    schema = ["--schema", folder / "flat.parquet"]
    table = passed(folder, "flat.parquet", ["--format", options], ["--decode", options, *schema])
    assert table.to_pylist() == flat().to_pylist()


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_arrow_ipc(folder, compression):
    words = ["--format", "arrow-ipc", "--compression", compression, "--batch-rows", 500]
    table = passed(folder, "trades.parquet", words, ["--decode", "arrow-ipc"])
    assert table.equals(trades())


def test_arrow_ipc_with_dictionaries_that_change(folder):
    for name, values in (("a", "xyx"), ("b", "zyz")):
        pq.write_table(
            pa.table({"d": pa.array(list(values)).dictionary_encode()}), folder / f"{name}.parquet"
        )
    out = folder / "out.arrow"
    receiver = Receiver("--accept", 2, "--to", f"ipc:{out}", "--decode", "arrow-ipc")
    for name in "ab":
        run("send", folder / f"{name}.parquet", receiver.address, "--format", "arrow-ipc")
    summary = json.loads(receiver.end()[0])
    table = pa.ipc.open_file(out).read_all()
    assert table["d"].to_pylist() == list("xyxzyz")
    assert 0 <= summary["in_place_share"] <= 1


@pytest.mark.parametrize("kind", ["ndjson", "csv", "arrows", "log"])
def test_input_files_and_standard_input(folder, kind):
    table = pa.table({"a": range(500), "payload": [f"line {i}" for i in range(500)]})
    path = folder / f"feed.{kind}"
    if kind == "ndjson":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    elif kind == "csv":
        pacsv.write_csv(table, path)
    elif kind == "arrows":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    else:
        path.write_text("".join(f"{line}\n" for line in table["payload"].to_pylist()))
    receiver = Receiver("--accept", 2, "--to", "ndjson", "--framing", "varint")
    run("send", path, receiver.address, "--format", "varint")
    known = {"arrows": "ipc", "log": "lines"}.get(kind, kind)
    with path.open() as stdin:
        words = ["--format", "varint", "--input-format", known]
        run("send", "-", receiver.address, *words, stdin=stdin)
    got = [json.loads(line)["payload"] for line in receiver.end()[0].splitlines()]
    assert got == table["payload"].to_pylist() * 2


def test_a_loop_is_one_stream_and_rows_have_a_pace(folder):
    schema = '{"symbol": "string", "size": "uint32"}'
    decode = ["--decode", "csv", "--schema", schema, "--extra", "ignore", "--to", "null"]
    receiver = Receiver("--accept", "1", *decode)
    words = ["--format", "csv", "--loop", "3", "--rows-per-second", "20000", "--json"]
    sent = json.loads(run("send", folder / "flat.parquet", receiver.address, *words).stdout)
    summary = json.loads(receiver.end()[0])
    assert summary["rows"] == sent["rows"] == 3 * ROWS
    assert summary["failed_connections"] == summary["drifts"] == 0
    assert 0.4 < sent["seconds"] < 5


def test_preamble(folder):
    table = b"".join(struct.pack("<H", len(each)) + each for each in PAYLOADS)
    (folder / "feed.bin").write_bytes(b"MAGIC\x00\x00\x00\x04meta" + table)
    words = ["--preamble", "length:u32be,offset=5", "--drop-preamble", "--framing", "length:u16le"]
    receiver = Receiver("--accept", 1, "--to", f"parquet:{folder / 'out.parquet'}", *words)
    # "MAGIC" and a length of four bytes, counted by a header of nine
    run("send", folder / "feed.bin", receiver.address)
    receiver.end()
    got = pq.read_table(folder / "out.parquet")["payload"].to_pylist()
    assert got == PAYLOADS


BAD = ['{"a": 1}', '{"a": "x"}', "nothing", '{"a": 2, "b": 3}', '{"a": 4}']


def test_rejected_rows_go_to_a_file(folder):
    (folder / "bad.ndjson").write_text("\n".join(BAD) + "\n")
    words = ["--decode", "ndjson", "--schema", '{"a": "int64"}', "--to", "ndjson"]
    words += ["--on-error", "reject", "--on-drift", "reject"]
    receiver = Receiver("--accept", 1, *words, "--rejected", folder / "aside.ndjson")
    run("send", folder / "bad.ndjson", receiver.address)
    out, err = receiver.end()
    assert [json.loads(line) for line in out.splitlines()] == [{"a": 1}, {"a": 4}]
    aside = [json.loads(line) for line in (folder / "aside.ndjson").read_text().splitlines()]
    assert [row["payload"] for row in aside] == BAD[1:4]
    assert [row["position"] for row in aside] == [9, 20, 28]
    assert all(row["reason"] and row["connection"] == 1 for row in aside)
    assert json.loads(err.splitlines()[-1])["rejected_rows"] == 3


def test_more_rejected_rows_than_wait_to_be_taken(folder):
    (folder / "bad.txt").write_text("xx\n" * 200_000 + "abcd\n")
    words = ["--decode", "records:a=u32le", "--framing", "lines", "--on-error", "reject"]
    words += ["--max-rows", 1000]
    receiver = Receiver("--accept", 1, *words, "--to", "null")
    run("send", folder / "bad.txt", receiver.address)
    summary = json.loads(receiver.end()[0])
    assert (summary["rows"], summary["rejected_rows"]) == (1, 200_000)


def test_null_and_fail(folder):
    (folder / "bad.ndjson").write_text("\n".join(BAD[:2]) + "\n")
    words = ["--decode", "ndjson", "--schema", '{"a": "int64"}', "--to", "ndjson", "--accept", 1]
    receiver = Receiver(*words, "--on-error", "null")
    run("send", folder / "bad.ndjson", receiver.address)
    out, err = receiver.end()
    assert [json.loads(line) for line in out.splitlines()] == [{"a": 1}, {"a": None}]
    assert json.loads(err.splitlines()[-1])["nulled_rows"] == 1
    receiver = Receiver(*words)
    run("send", folder / "bad.ndjson", receiver.address, code=None)
    out, err = receiver.end()
    assert [json.loads(line) for line in out.splitlines()] == [{"a": 1}]
    summary = json.loads(err.splitlines()[-1])
    assert summary["connections"] == {"framing": 1}
    assert summary["errors"][0].startswith("connection 1: at position 9: ")


def test_limits_of_decoded_rows(folder):
    words = ["--decode", "arrow-ipc", "--to", f"ipc:{folder / 'out.arrow'}"]
    receiver = Receiver(*words, "--rows", 777)
    run("send", folder / "trades.parquet", receiver.address, "--format", "arrow-ipc", code=None)
    receiver.end()
    table = pa.ipc.open_file(folder / "out.arrow").read_all()
    assert table.equals(trades().slice(0, 777))
    receiver = Receiver(*words, "--bytes", "20 kB")
    feed = ["--format", "arrow-ipc", "--batch-rows", 100, "--rate", "100 kB"]
    run("send", folder / "trades.parquet", receiver.address, *feed, code=None)
    summary = json.loads(receiver.end()[0])
    assert "bytes received" in summary["stopped"]
    assert 20_000 <= summary["received_bytes"] < 60_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_no_row_tells_the_schema(number, folder):
    out = folder / "out.arrow"
    receiver = Receiver("--decode", "ndjson", "--to", f"ipc:{out}")
    with socket.create_connection(receiver.address.split(":")) as peer:
        peer.sendall(b'{"a": ')
        peer.settimeout(0.5)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        receiver.process.send_signal(number)
        stdout, err = receiver.end()
    assert json.loads(stdout)["stopped"] == "stopped by Ctrl-C"
    assert "was not written" in err
    assert list(folder.glob("*out*")) == []


def test_interrupted_send_ends_its_stream(folder):
    receiver = Receiver("--accept", 1, "--to", "ndjson", "--decode", "arrow-ipc")
    words = ["--format", "arrow-ipc", "--loop", "0", "--rows-per-second", "5000", "--json"]
    sender = subprocess.Popen(
        [*CLI, "send", folder / "trades.parquet", receiver.address, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert json.loads(receiver.process.stdout.readline())["symbol"] == "S0"
    sender.send_signal(signal.SIGINT)
    out, err = sender.communicate(timeout=30)
    summary = json.loads(receiver.end()[1].splitlines()[-1])
    assert sender.returncode == 0
    assert "stopped by Ctrl-C" in err
    assert summary["rows"] == json.loads(out)["rows"] > 0


def test_live_view_of_decoded_rows(folder):
    receiver = Receiver("--accept", 1, "--to", "live", "--decode", "arrow-ipc")
    run("send", folder / "trades.parquet", receiver.address, "--format", "arrow-ipc")
    out, err = receiver.end()
    assert json.loads(out.splitlines()[-1])["rows"] == ROWS
    assert "last row" in out + err
    assert '{"at": "2001-09-09 01:46:40' in out + err


# --- without a network -------------------------------------------------------------------------


def test_decode_a_file(folder):
    (folder / "feed.ndjson").write_text("".join(f'{{"a": {i}}}\n' for i in range(1000)))
    out = folder / "out.parquet"
    words = ["--decode", "ndjson", "--to", f"parquet:{out}", "--json"]
    summary = json.loads(run("decode", folder / "feed.ndjson", *words).stdout)
    assert summary["rows"] == 1000
    assert pq.read_table(out)["a"].to_pylist() == list(range(1000))
    with (folder / "feed.ndjson").open() as stdin:
        done = run("decode", "-", "--framing", "lines", "--rows", "3", stdin=stdin)
    assert [json.loads(line)["position"] for line in done.stdout.splitlines()] == [0, 9, 18]


def test_decode_stops_where_it_cannot_read(folder):
    (folder / "feed.ndjson").write_text('{"a": 1}\n{"a": "x"}\n')
    words = ["--decode", "ndjson", "--schema", '{"a": "int64"}']
    done = run("decode", folder / "feed.ndjson", *words, code=1)
    assert json.loads(done.stdout) == {"a": 1}
    assert "at position 9" in done.stderr
    done = run("decode", folder / "feed.ndjson", *words, "--on-error", "reject")
    assert "1 rejected row" in done.stderr


def test_decoded_json_can_be_read_back(folder):
    stream = folder / "feed.arrows"
    with pa.ipc.new_stream(stream, trades().schema) as writer:
        writer.write_table(trades())
    done = run("decode", stream, "--decode", "arrow-ipc")
    (folder / "out.ndjson").write_text(done.stdout)
    options = pajson.ParseOptions(explicit_schema=listed().schema)
    again = pajson.read_json(folder / "out.ndjson", parse_options=options)
    assert again.to_pylist() == trades().to_pylist()


# --- what cannot be sent -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "delimited:1"], "row 0 cannot be sent: it holds the delimiter"),
        (["--format", "length:u8,unit=4"], "no multiple of unit=4"),
        (["--format", "fixed:8"], "bytes, not 8"),
        (["--format", "syslog,newline"], "begins with a digit"),
        (["--format", "records:payload=S8"], "column 'payload' has"),
        (["--format", "records:n=u8"], "column 'n'"),
        (["--format", "records:m=u8"], "there is no column 'm'"),
        (["--format", "payload", "--column", "n"], "--column='n' must be one of"),
    ],
)
def test_what_does_not_fit_is_not_sent(folder, words, said):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run("send", folder / "payloads.arrow", f"127.0.0.1:{port}", *words, code=None)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
