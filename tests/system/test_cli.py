# SPDX-License-Identifier: Apache-2.0
"""The command as people run it: processes that talk over TCP."""

from __future__ import annotations

import json
import signal
import socket
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli import CLI, Receiver, run
from tests.conftest import ROOT

LINES = [f"{i},{'x' * (i % 90)}" for i in range(20_000)]


@pytest.fixture
def feed(tmp_path):
    path = tmp_path / "feed.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


def test_ipc_file(feed, tmp_path):
    path = tmp_path / "feed.arrow"
    receiver = Receiver("--framing", "lines", "--accept", "1", "--to", f"ipc:{path}")
    sent = json.loads(run("send", feed, receiver.address, "--json").stdout)
    summary = json.loads(receiver.end()[0])
    table = pa.ipc.open_file(path).read_all()
    assert table["payload"].to_pylist() == [line.encode() for line in LINES]
    assert summary["rows"] == len(LINES)
    assert summary["received_bytes"] == sent["bytes"] == feed.stat().st_size
    assert summary["connections"] == {"eof": 1}


def test_parquet_file_in_a_loop(feed, tmp_path):
    path = tmp_path / "feed.parquet"
    receiver = Receiver(
        "--framing", "delimited", "--delimiter", r"\n", "--accept", "1", "--to", f"parquet:{path}"
    )
    run("send", feed, receiver.address, "--loop", "3")
    receiver.end()
    assert pq.read_table(path)["payload"].to_pylist() == [line.encode() for line in LINES] * 3


def test_ndjson_on_stdout(feed):
    receiver = Receiver("--framing", "lines", "--accept", "1", "--to", "ndjson")
    with feed.open() as stdin:
        run("send", "-", receiver.address, stdin=stdin)
    out, err = receiver.end()
    assert [json.loads(line)["payload"] for line in out.splitlines()] == LINES
    assert json.loads(err.splitlines()[-1])["rows"] == len(LINES)


def test_exactly_so_many_rows(feed):
    receiver = Receiver("--framing", "lines", "--to", "ndjson", "--rows", "123")
    run("send", feed, receiver.address, "--lines-per-second", "100000", code=None)
    out, err = receiver.end()
    assert [json.loads(line)["payload"] for line in out.splitlines()] == LINES[:123]
    assert "123 rows" in json.loads(err.splitlines()[-1])["stopped"]


def test_so_many_bytes(feed):
    receiver = Receiver("--framing", "lines", "--to", "ndjson", "--bytes", "10 kB")
    run("send", feed, receiver.address, "--rate", "10 MB", code=None)
    out, _ = receiver.end()
    got = [len(json.loads(line)["payload"]) for line in out.splitlines()]
    assert sum(got) >= 10_000 > sum(got[:-1])


def test_so_many_seconds():
    receiver = Receiver("--to", "null", "--seconds", "0.2")
    assert "time limit" in json.loads(receiver.end()[0])["stopped"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_receive_sums_up(number, tmp_path):
    path = tmp_path / "feed.arrow"
    receiver = Receiver("--framing", "lines", "--to", f"ipc:{path}")
    with socket.create_connection(receiver.address.split(":")) as peer:
        peer.sendall(b"one\ntwo\n")
        peer.settimeout(1)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        receiver.process.send_signal(number)
        summary = json.loads(receiver.end()[0])
    assert summary["stopped"] == "stopped by Ctrl-C"
    assert summary["rows"] == 2
    assert pa.ipc.open_file(path).read_all().num_rows == 2


def test_connect_with_greeting(feed):
    sender = subprocess.Popen(
        [*CLI, "send", feed, "127.0.0.1:0", "--listen", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    port = json.loads(sender.stderr.readline())["address"][1]
    done = run("receive", "--connect", f"localhost:{port}", "--framing", "lines", "--to", "ndjson")
    assert len(done.stdout.splitlines()) == len(LINES)
    sender.communicate(timeout=60)
    assert sender.returncode == 0


def test_two_receivers_on_one_address():
    receiver = Receiver("--to", "null")
    done = run("receive", "--listen", receiver.address, code=1)
    assert "cannot listen on" in done.stderr
    assert "ss -ltnp" in done.stderr
    receiver.process.send_signal(signal.SIGINT)
    receiver.end()


ANY = ["receive", "--listen", "127.0.0.1:0"]
SEND = ["send", "/etc/hostname", "127.0.0.1:1"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["receive"], 2, "--listen"),
        (["receive", "--listen", "x", "--connect", "y"], 2, "one of"),
        (["receive", "--listen", "127.0.0.1:0", "--framing", "morse"], 2, "morse"),
        (["receive", "--listen", "127.0.0.1:0", "--to", "csv"], 2, "csv"),
        (["receive", "--listen", "127.0.0.1:0", "--area", "1"], 2, "area"),
        ([*ANY, "--framing", "length:u12"], 2, "--framing='length:u12': length='u12' must be"),
        ([*ANY, "--decode", "xml"], 2, "ndjson, csv, records:LAYOUT or arrow-ipc"),
        (["decode", "/no/such/file"], 1, "/no/such/file"),
        ([*SEND, "--format", "morse"], 2, "arrow-ipc"),
        (["receive", "--connect", "no-such-host.invalid:1"], 1, "resolved"),
        (["receive", "--listen", "127.0.0.1:0", "--to", "ipc:/no/such/folder/x"], 1, "folder"),
        (["send", "/no/such/file", "127.0.0.1:1"], 1, "No such file"),
        (["send", "/etc/hostname", "127.0.0.1:1"], 1, "cannot connect"),
        (["send", "/etc/hostname", "nonsense"], 2, "nonsense"),
        (["send", "-", "127.0.0.1:1", "--loop", "2"], 2, "standard input"),
    ],
)
def test_mistakes(words, code, said):
    done = run(*words, code=code)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_version_and_help():
    assert run("--version").stdout.startswith("zcrx-arrow 0.")
    for command in ("receive", "send", "decode", "demo"):
        assert "For example" in (text := run(command, "--help").stdout) or command == "demo", text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "receive",
            """raw lines delimited length:TYPE varint fixed:SIZE syslog arrow-ipc --preamble
            --drop-preamble counts-header keep-header unit= none ndjson csv records:LAYOUT
            --schema --on-error --on-drift --extra --keep --rejected discriminator""",
        ),
        ("decode", "length:TYPE records:LAYOUT --schema --rejected --to FILE"),
        (
            "send",
            """raw ndjson csv records:LAYOUT arrow-ipc payload length:TYPE varint fixed:SIZE syslog
            newline --compression --column --input-format --rows-per-second --batch-rows""",
        ),
    ],
)
def test_help_shows_everything(command, words):
    text = run(command, "--help").stdout
    assert [word for word in words.split() if word not in text] == []


def test_demo():
    result = json.loads(run("demo", "--json", "--loops", "1").stdout)
    assert result["whole"]
    assert result["rows"] == result["aggregated_rows"] == 336_776
    assert result["bytes"] == result["expected_bytes"]
    assert result["carriers"]["UA"]["flights"] == 58_665
