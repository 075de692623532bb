# SPDX-License-Identifier: Apache-2.0
"""Small parts of the command line."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from zcrx_arrow.cli.app import app
from zcrx_arrow.cli.common import human_bytes, printable
from zcrx_arrow.cli.framings import parse_delimiter
from zcrx_arrow.connectors.sink import FileSink, NdjsonSink, open_sink
from zcrx_arrow.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("lf", b"\n"),
        ("CRLF", b"\r\n"),
        ("nul", b"\0"),
        (r"\r\n", b"\r\n"),
        (r"\x1e", b"\x1e"),
        ("|", b"|"),
    ],
)
def test_delimiters(text, delimiter):
    assert parse_delimiter(text) == delimiter


@pytest.mark.parametrize("text", ["", "123456789", r"\x", "€" * 3])
def test_no_delimiters(text):
    with pytest.raises(ConfigError, match="delimiter"):
        parse_delimiter(text)


def test_payload_cannot_control_a_terminal():
    shown = printable(b"\x1b[2J\x07plain\xff\r\n", 60)
    assert shown.isprintable()
    assert "plain" in shown
    assert len(printable(b"x" * 1000, 20)) == 20


def test_human_bytes():
    assert [human_bytes(n) for n in (0, 1023, 1536, 5 << 30)] == [
        "0 B",
        "1,023 B",
        "1.5 KiB",
        "5.0 GiB",
    ]


def batch(*payloads):
    return pa.record_batch(
        {
            "payload": pa.array(payloads, pa.binary_view()),
            "received_at": pa.array([1] * len(payloads), pa.timestamp("ns", "UTC")),
        }
    )


def test_ndjson():
    out = io.StringIO()
    NdjsonSink(out).write(batch(b"text", b"\xff\x00"))
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["payload"] == "text"
    assert second["payload_base64"] == "/wA="
    assert first["received_at"].startswith("1970-01-01")


def test_file_appears_when_whole(tmp_path):
    path = tmp_path / "feed.arrow"
    sink = FileSink(path, batch().schema, "ipc")
    sink.write(batch(b"x"))
    assert not path.exists()
    sink.close()
    assert pa.ipc.open_file(path).read_all().num_rows == 1
    assert list(tmp_path.iterdir()) == [path]


def test_aborted_file_leaves_nothing(tmp_path):
    sink = FileSink(tmp_path / "feed.parquet", batch().schema, "parquet")
    sink.write(batch(b"x"))
    sink.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["", "csv", "ipc:", "ipc", "null:x"])
def test_no_sinks(target):
    with pytest.raises(ConfigError, match="--to="):
        open_sink(target, batch().schema, io.StringIO())


ANY = ["receive", "--listen", "127.0.0.1:0"]
SEND = ["send", "/etc/hostname", "127.0.0.1:1"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([*ANY, "--framing", "length:u12"], 2, "--framing='length:u12': length='u12' must be"),
        ([*ANY, "--framing", "length:u8,width=1"], 2, "'width' is unknown"),
        ([*ANY, "--framing", "fixed"], 2, "fixed:64"),
        ([*ANY, "--framing", "lines", "--delimiter", "lf"], 2, "--delimiter"),
        ([*ANY, "--preamble", "lines"], 2, "--preamble needs --framing"),
        ([*ANY, "--framing", "lines", "--preamble", "raw"], 2, "--preamble"),
        ([*ANY, "--framing", "lines", "--drop-preamble"], 2, "--drop-preamble needs"),
        ([*ANY, "--max-message", "1 MiB"], 2, "--max-message"),
        ([*ANY, "--decode", "xml"], 2, "ndjson, csv, records:LAYOUT or arrow-ipc"),
        ([*ANY, "--decode", "csv,no-header"], 2, "a schema is needed"),
        ([*ANY, "--decode", "ndjson", "--framing", "raw"], 2, "not Raw()"),
        ([*ANY, "--decode", "ndjson", "--on-error", "x"], 2, "fail, null, reject"),
        ([*ANY, "--decode", "records:a=u8", "--on-drift", "fail"], 2, "--on-drift is of no use"),
        ([*ANY, "--decode", "ndjson", "--schema", "{"], 2, "--schema: it is no JSON"),
        ([*ANY, "--decode", "ndjson", "--schema", '{"a": "int65"}'], 2, "'int65' is no type"),
        ([*ANY, "--decode", "ndjson", "--schema", "/etc/hostname"], 2, "/etc/hostname"),
        ([*ANY, "--decode", "ndjson", "--keep", "peer"], 2, "connection, position, received_at"),
        ([*ANY, "--decode", "ndjson", "--rejected", "/tmp/x"], 2, "--rejected needs"),
        ([*ANY, "--decode", "records:a=u16"], 2, "byte order"),
        ([*ANY, "--decode", 'records:{"layouts": []}'], 2, "'layouts' must be one of layout"),
        ([*ANY, "--decode", "records:/no/such.json"], 1, "/no/such.json"),
        ([*ANY, "--schema", "{}"], 2, "--schema is of no use with --decode none"),
        (["decode", "/no/such/file"], 1, "/no/such/file"),
        (["decode", "/etc/hostname", "--framing", "morse"], 2, "morse"),
        ([*SEND, "--format", "morse"], 2, "arrow-ipc"),
        ([*SEND, "--format", "csv", "--framing", "lines"], 2, "--framing is of no use"),
        ([*SEND, "--compression", "zstd"], 2, "--compression is of no use"),
        ([*SEND, "--format", "arrow-ipc", "--compression", "rar"], 2, "none, lz4, zstd"),
        ([*SEND, "--format", "lines", "--column", "x"], 2, "'x' must be one of"),
        ([*SEND, "--format", "lines", "--input-format", "xls"], 2, "parquet, ipc, ndjson"),
        ([*SEND, "--input-format", "csv"], 2, "--format raw"),
        ([*SEND, "--format", "ndjson", "--input-format", "parquet"], 1, "Parquet"),
    ],
)
def test_mistakes_name_the_option(words, code, said):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    assert said in done.stderr
