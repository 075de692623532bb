# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow top`` in a real terminal, and without one."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.cli import CLI, run
from tests.conftest import ROOT, eventually
from tests.terminal import LINE, Feed, Terminal
from zcrx_arrow.cli.pictures import area_picture, size_bucket, size_picture, spark
from zcrx_arrow.source import ChunkState


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def start(*options: str, **more):
        command = [*CLI, "top", "--listen", "127.0.0.1:0", "--json", *options]
        opened.append(Terminal(tmp_path, command, **more))
        return opened[-1]

    yield start
    for each in opened:
        each.end()


@pytest.fixture
def feed():
    feeds = []

    def start(address, **options) -> Feed:
        feeds.append(Feed(address, **options))
        return feeds[-1]

    yield start
    for each in feeds:
        each.end()


def test_a_live_picture_and_its_keys(terminal, feed):
    top = terminal("--framing", "lines", "--interval", "0.2")
    top.shows(r"0 connections.*q quit")
    first = feed(top.address)
    top.shows(r" 1 +127\.0\.0\.1:\d+ +open")
    second = feed(top.address, pause=0.05)
    top.shows(r"[1-9][\d,]* rows/s.*2 connections")
    # Rates by connection: the one that sends five times as much comes first, with its trend.
    top.shows(r" 1 +127\.0\.0\.1:\d+ +open +0\.\d\d +[1-9].*[▁-█].* 2 +127\.0\.0\.1:\d+ +open")
    top.shows(r"area: 2,048 chunks of 128\.0 KiB.*[▒█░].*kernel's")
    top.shows(r"batches +[^\n]*[▁-█]{3}[^\n]*\n[^\n]*rows +[^\n]*[▁-█]{3}")

    top.press("p")
    top.shows("the picture stands still")
    still = top.screen()
    received = r"([\d,]+) rows   "
    eventually(lambda: top.screen() == still, 5)
    before = re.search(received, still).group(1)
    assert re.search(received, top.screen()).group(1) == before
    top.press("p")
    eventually(lambda: re.search(received, top.screen()).group(1) != before)

    second.end()
    top.shows(r" 2 +127\.0\.0\.1:\d+ +eof")
    top.press("x")  # does nothing
    top.press("q")
    summary = json.loads(
        top.shows(r'(\{"stopped".*?\}.*?\}).*ended with 0').group(1).replace("\n", "")
    )
    assert summary["stopped"] == "stopped by q"
    assert summary["rows"] > 2000
    # The terminal is as it was before: lines, and an echo of what is typed.
    top.shows(r"[^-]icanon")
    top.shows(r"[^-]echo ")
    first.end()


def test_it_fits_a_small_terminal(terminal, feed):
    top = terminal("--framing", "lines", "--interval", "0.2", size=(80, 24))
    feeds = [feed(top.address) for _ in range(6)]
    top.shows(r"6 connections.*3 of 6 connections.*q quit")
    assert all(len(line) <= 80 for line in top.screen().splitlines())
    for each in feeds:
        each.over.set()
    top.press("C-c")
    top.shows("stopped by Ctrl-C.*ended with 0")


def start_plain(*options: str, framing=("--framing", "lines")):
    process = subprocess.Popen(
        [*CLI, "top", "--listen", "127.0.0.1:0", "--json", *framing, *options],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, told(process, "listening")


def told(process: subprocess.Popen, event: str) -> tuple[str, int]:
    """Give the address that belongs to an event on stderr."""
    for line in process.stderr:
        said = json.loads(line)
        if said.get("event") == event and "address" in said:
            return tuple(said["address"])
    raise AssertionError(f"it ended with {process.wait(20)} and never said {event}")


def end_plain(process: subprocess.Popen) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "\x1b" not in out
    return out, err


def test_once_prints_one_picture_and_ends(feed):
    process, address = start_plain("--once", "--interval", "0.3")
    feed(address)
    out, _ = end_plain(process)
    assert out.count("rows/s") == 2  # in the head and above the connections
    assert not re.search(r"^│ 0 rows/s", out, re.MULTILINE), out
    assert json.loads(out.splitlines()[-1])["stopped"] == "seen once"


def test_once_of_a_feed_that_ends_at_once():
    process, address = start_plain("--once", "--accept", "1")
    with socket.create_connection(address) as peer:
        peer.sendall(LINE * 7)
    out, _ = end_plain(process)
    assert out.count("rows a batch") == 1
    assert "7 rows" in out


def test_without_a_terminal_a_picture_an_interval(feed, tmp_path):
    path = tmp_path / "feed.parquet"
    process, address = start_plain(
        "--interval", "0.1", "--rows", "50000", "--to", f"parquet:{path}"
    )
    feed(address)
    out, _ = end_plain(process)
    summary = json.loads(out.splitlines()[-1])
    assert summary["rows"] == 50_000 == pq.read_metadata(path).num_rows
    assert out.count("rows a batch") >= 2
    totals = [int(n.replace(",", "")) for n in re.findall(r"Gb/s   ([\d,]+) rows", out)]
    assert totals == sorted(totals)
    assert totals[-1] >= 50_000


def test_a_decoded_feed(feed):
    process, address = start_plain("--rows", "1000", framing=("--decode", "ndjson"))
    feed(address, piece=b'{"a": 1}\n' * 100)
    out, _ = end_plain(process)
    summary = json.loads(out.splitlines()[-1])
    assert summary["rows"] == 1000
    assert summary["rejected_rows"] == 0


def test_it_does_all_that_receive_can(feed, tmp_path):
    """All options are those of `receive`; one that is not looked at would be an error."""
    process, address = start_plain(
        *("--metrics", "127.0.0.1:0", "--log", "json", "--to", f"rolling:{tmp_path}/feed"),
        *("--rows", "3000", "--max-delay", "1 ms"),
    )
    with socket.create_connection(told(process, "metrics")) as peer:
        peer.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"zcrx_arrow" in b"".join(iter(lambda: peer.recv(65536), b""))
    feed(address)
    out, _ = end_plain(process)
    assert json.loads(out.splitlines()[-1])["rows"] == 3000
    assert sum(pq.read_metadata(path).num_rows for path in tmp_path.rglob("*.parquet")) == 3000


def test_its_reader_goes_away(feed):
    process, address = start_plain("--interval", "0.1")
    feed(address)
    assert process.stdout.readline()
    process.stdout.close()
    code = process.wait(60)
    with process.stderr:
        assert code == 0, process.stderr.read()


def test_sigterm_ends_it():
    process, _ = start_plain("--interval", "0.1")
    assert "127.0.0.1" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, _ = end_plain(process)
    assert json.loads(out.splitlines()[-1])["stopped"] == "stopped by Ctrl-C"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--listen"),
        (["--listen", "127.0.0.1:0", "--to", "ndjson"], "--to='ndjson' must be"),
        (["--listen", "127.0.0.1:0", "--to", "live"], "--to='live' must be"),
        (["--listen", "127.0.0.1:0", "--interval", "0"], "interval"),
        (["--listen", "127.0.0.1:0", "--decode", "xml"], "ndjson, csv"),
        (["--listen", "127.0.0.1:0", "--rejected", "/tmp/x"], "--rejected needs"),
    ],
)
def test_mistakes(words, said):
    done = run("top", *words, code=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def text_of(picture) -> list[str]:
    console = Console(width=200, color_system=None, file=sys.stdout)
    with console.capture() as captured:
        console.print(picture)
    return captured.get().splitlines()


def test_the_area_as_characters():
    free, offered, leased = ChunkState.FREE, ChunkState.OFFERED, ChunkState.LEASED
    states = np.array([free, offered, leased, offered | leased, free], np.uint8)
    picture, group = area_picture(states, 3, 2)
    assert group == 1
    assert text_of(picture) == ["·░█", "▒·"]
    many = np.zeros(1000, np.uint8)
    many[777] = leased
    picture, group = area_picture(many, 10, 2)
    assert group == 50
    assert [line.find("▒") for line in text_of(picture)] == [-1, 5]  # one among fifty is seen
    assert text_of(area_picture(np.full(1001, leased, np.uint8), 10, 2)[0]) == ["█" * 10] * 2
    assert text_of(area_picture(np.zeros(0, np.uint8), 10, 2)[0]) == [""]


def test_sizes_and_rates_as_bars():
    assert [size_bucket(n) for n in (0, 1, 2, 3, 4, 65535, 65536, 10**9)] == [
        0,
        0,
        1,
        1,
        2,
        15,
        16,
        16,
    ]
    batches, rows, names = text_of(size_picture([8, 0, 1] + [0] * 14))
    assert batches.split() == ["batches", "███", "▁▁▁"]
    assert rows.split() == ["rows", "███", "▄▄▄"]
    assert names.split()[-1] == "64k"
    assert text_of(spark([0, 1, 8, 4], 6)) == ["   ▁█▄"]
    assert text_of(spark([], 3)) == ["   "]


def test_its_picture_needs_no_pandas(run_python):
    done = run_python("""
        import sys

        class Missing:
            def find_spec(self, name, *_):
                if name.partition(".")[0] == "pandas":
                    raise ImportError(name)

        sys.meta_path.insert(0, Missing())

        import socket
        from rich.console import Console
        import zcrx_arrow as zc
        from zcrx_arrow.cli.top_view import TopView

        lines = zc.framing.Delimited()
        with zc.listen("127.0.0.1:0", framing=lines) as source:
            with socket.create_connection(source.address) as sender:
                sender.sendall(b"a line\\n")
                source.next_batch(30)
                Console(width=100).print(TopView(source).render())
    """)
    assert "open" in done.stdout
