# SPDX-License-Identifier: Apache-2.0
"""Small parts of the command line."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pytest

from zcrx_arrow.cli.common import human_bytes, parse_delimiter, printable
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
