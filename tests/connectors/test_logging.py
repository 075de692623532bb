# SPDX-License-Identifier: Apache-2.0
"""Log records: a text for people, fields for programs, and lines of JSON."""

from __future__ import annotations

import json
import logging
import re
import socket
from contextlib import suppress
from subprocess import PIPE, Popen
from urllib.request import urlopen

import pyarrow as pa
import pytest

import zcrx_arrow as zc
from tests.cli import CLI, run
from tests.conftest import ROOT, eventually
from zcrx_arrow import decoders, logs
from zcrx_arrow._events import PREFIX
from zcrx_arrow.connectors import rolling


@pytest.fixture
def told(caplog):
    """Fields of the records so far, by event."""
    caplog.set_level(logging.DEBUG, "zcrx_arrow")

    def find(event: str) -> list[dict]:
        return [
            {
                name.removeprefix(PREFIX): value
                for name, value in vars(record).items()
                if name.startswith(PREFIX)
            }
            for record in list(caplog.records)
            if getattr(record, "zcrx_event", None) == event
        ]

    return find


def test_a_connection_from_its_beginning_to_its_end(told, send):
    with zc.listen("127.0.0.1:0", framing=zc.framing.Delimited(), accept=1) as source:
        send(source.address, b"one\ntwo\n").join()
        assert sum(batch.num_rows for batch in source) == 2
        connections = source.connections().to_pylist()
    name = f"{source.address[0]}:{source.address[1]}"
    (transport,) = told("transport")
    assert transport == {
        "event": "transport",
        "source": name,
        "transport": source.transport,
        "chunk_bytes": source.chunk_bytes,
    }
    (opened,) = told("connection_opened")
    assert (opened["connection"], opened["peer"]) == (1, connections[0]["peer"])
    (closed,) = told("connection_closed")
    assert closed["source"] == name
    assert closed["reason"] == "eof"
    assert (closed["bytes"], closed["rows"], closed["partial_bytes"]) == (8, 2, 0)
    assert opened["at_ns"] <= closed["at_ns"]
    assert "error" not in closed
    assert told("ended")


def test_what_a_peer_did_wrong(told, send, caplog):
    small = zc.framing.Delimited(max_message=4)
    with (
        zc.listen("127.0.0.1:0", framing=small, limits=zc.Limits(connections=1)) as source,
        socket.create_connection(source.address) as peer,
    ):
        eventually(lambda: source.metrics().connections == 1)
        with socket.create_connection(source.address) as second:
            assert not second.recv(1)
        peer.sendall(b"far too long\n")
        eventually(lambda: told("connection_closed"))
    (refused,) = told("connection_refused")
    assert refused["limit"] == 1
    (closed,) = told("connection_closed")
    assert closed["reason"] == "framing"
    assert "4" in closed["error"]
    assert "connection 1 closed (framing: " in caplog.text


def test_what_a_decoder_says(told, send, caplog):
    decoder = decoders.Ndjson(pa.schema([("a", pa.int64())]))
    with zc.listen("127.0.0.1:0", decode=decoder, accept=1) as source:
        send(source.address, b'{"a": 1}\n{"b": 2}\n').join()
        list(source)
    (drift,) = told("schema_drift")
    assert drift["connection"] == 1
    (failed,) = told("decode_failed")
    assert (failed["connection"], failed["position"]) == (1, 9)
    assert f"connection 1 is closed, at position 9: {failed['reason']}" in caplog.text


def test_reconnects(told):
    with socket.create_server(("127.0.0.1", 0)) as server:
        again = zc.Reconnect(first_delay="1 ms", attempts=2)
        source = zc.connect(server.getsockname(), reconnect=again, connect_timeout="1 s")
        with source:
            server.accept()[0].close()
            peer = server.accept()[0]
            eventually(lambda: told("reconnected"))
            server.close()
            peer.close()
            eventually(lambda: told("gave_up"))
    (reconnected,) = told("reconnected")
    assert (reconnected["connection"], reconnected["resumes"]) == (2, 1)
    assert reconnected["seconds"] > 0
    assert [each["attempt"] for each in told("dial_failed")] == [1, 2]
    assert told("gave_up")[0]["attempt"] == 2


def test_pauses(told):
    with (
        zc.listen("127.0.0.1:0", limits=zc.Limits(queue_batches=1), area="4 MiB") as source,
        socket.create_connection(source.address) as peer,
    ):
        peer.setblocking(False)

        def full():
            with suppress(BlockingIOError):
                peer.send(b"x" * 65536)
            return told("paused")

        eventually(full)
        eventually(lambda: (source.next_batch("20 s"), told("resumed"))[1])
    assert told("resumed")[0]["seconds"] > 0


def test_every_event_and_field_is_documented(told, send, tmp_path):
    rolling.write(zc.frame(b"abc"), tmp_path)
    (finished,) = told("file_finished")
    assert (finished["rows"], finished["source"]) == (1, str(tmp_path))
    page = (ROOT / "docs/connectors/metrics.md").read_text()
    for event, fields in logs.EVENTS.items():
        assert f"`{event}`" in page
        assert set(fields) <= set(logs.FIELDS)
    sources = [*(ROOT / "zcrx_arrow").rglob("*.py"), *(ROOT / "connectors").glob("*.py")]
    text = "\n".join(path.read_text() for path in sources)
    used = set(re.findall(r'_events\.(?:info|warning|error)\(\s*"(\w+)"', text))
    used |= set(re.findall(r'logging\.[A-Z]+,\s+"(\w+)"', text))
    assert used == set(logs.EVENTS)


def test_the_place_in_the_code_is_the_events_own(caplog, send):
    caplog.set_level(logging.DEBUG, "zcrx_arrow")
    with zc.listen("127.0.0.1:0", accept=1) as source:
        send(source.address, b"x").join()
        list(source)
    names = {record.zcrx_event: record.filename for record in caplog.records}
    assert names["transport"] == "_core.py"
    assert names["connection_opened"] == "_supervisor.py"


# --- JSON ----------------------------------------------------------------------------------------


def formatted(**extra) -> dict:
    record = logging.makeLogRecord(
        {"name": "n", "levelname": "INFO", "msg": "said %s", "args": ("this",), "created": 0.5}
        | extra
    )
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    assert line.isascii()
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_record_is_a_line():
    assert formatted(zcrx_event="paused", zcrx_connection=3, other="ä", _theirs=1) == {
        "time": "1970-01-01T00:00:00.500000+00:00",
        "level": "INFO",
        "logger": "n",
        "message": "said this",
        "event": "paused",
        "connection": 3,
        "other": "ä",
    }


def test_what_json_has_not_is_text():
    path, odd = ROOT, object()
    found = formatted(
        zcrx_file=path, odd=odd, nan=float("nan"), deep={1: [float("inf")]}, message_="a\x1b[31m\nb"
    )
    assert found["file"] == str(path)
    assert found["odd"] == str(odd)
    assert found["nan"] == "nan"
    assert found["deep"] == {"1": ["inf"]}
    assert found["message_"] == "a\x1b[31m\nb"


def test_a_field_does_not_hide_a_member():
    found = formatted(zcrx_level="x", zcrx_message="y")
    assert (found["level"], found["zcrx_level"], found["zcrx_message"]) == ("INFO", "x", "y")


def test_exceptions():
    with pytest.raises(ValueError, match="invalid") as caught:
        int("x")
    found = formatted(exc_info=(caught.type, caught.value, caught.tb))
    assert found["exception"].startswith("Traceback")


# --- the command line ----------------------------------------------------------------------------


def test_the_command_logs_json():
    words = ("--to", "null", "--accept", "1", "--log", "json", "--json")
    with Popen(
        [*CLI, "receive", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", *words],
        cwd=ROOT,
        stdout=PIPE,
        stderr=PIPE,
        text=True,
    ) as process:
        said: list[dict] = []
        while not said or said[-1]["event"] != "metrics":
            said.append(json.loads(process.stderr.readline()))
        (host, port), metrics = (said[at]["address"] for at in (-2, -1))
        with urlopen(f"http://127.0.0.1:{metrics[1]}/metrics", timeout=20) as answer:
            assert b"zcrx_arrow_received_bytes_total{" in answer.read()
        with socket.create_connection((host, port)) as peer:
            peer.sendall(b"a\nb\n")
        out, err = process.communicate(timeout=60)
    said += [json.loads(line) for line in err.splitlines()]
    assert json.loads(out)["received_bytes"] == 4
    assert [each["event"] for each in said] == [
        "transport",
        "listening",
        "metrics",
        "connection_opened",
        "connection_closed",
    ]
    assert all(each["level"] == "INFO" for each in (said[0], *said[3:]))


def test_the_command_refuses_other_logs():
    done = run("receive", "--listen", "127.0.0.1:0", "--log", "xml", code=2)
    assert "--log='xml' must be text or json" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.0.0.0:0", "without TLS or a password"),
        ("127.0.0.1:0,private", "'private' is unknown"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:0,connections=some", "no whole number"),
    ],
)
def test_the_command_refuses_other_endpoints(text, message):
    done = run("receive", "--listen", "127.0.0.1:0", "--metrics", text, code=2)
    assert message in done.stderr
