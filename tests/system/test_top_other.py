# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow top --of``: a picture of another program, from its metrics endpoint."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import urlopen

import numpy as np
import pytest
from rich.console import Console

import zcrx_arrow as zc
from tests.cli import CLI, run
from tests.conftest import ROOT, eventually
from tests.terminal import LINE, Feed, Terminal
from zcrx_arrow import framing
from zcrx_arrow.cli.top_other import Endpoint, Other
from zcrx_arrow.cli.top_view import TopView
from zcrx_arrow.connectors import openmetrics, snapshots
from zcrx_arrow.errors import ConfigError, ZcrxError

LINES = framing.Delimited()


@contextmanager
def receiver(*options: str):
    """A program that receives; gives its process, and the addresses that it says."""
    words = ("--to", "null", "--metrics", "127.0.0.1:0", "--json", *options)
    process = subprocess.Popen(
        [*CLI, "receive", "--listen", "127.0.0.1:0", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = [json.loads(process.stderr.readline()) for _ in range(2)]
        yield process, *(tuple(each["address"]) for each in said)
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate(timeout=30)


def url(address) -> str:
    return f"http://{address[0]}:{address[1]}"


@contextmanager
def served(sources, address="127.0.0.1:0", **options):
    with openmetrics.serve_metrics(sources, address, **options) as server:
        yield url(server.address)


@pytest.fixture
def listening():
    with zc.listen("127.0.0.1:0", framing=LINES, area="4 MiB") as source:
        yield source


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def start(*options: str, **more):
        opened.append(Terminal(tmp_path, [*CLI, "top", "--json", *options], **more))
        return opened[-1]

    yield start
    for each in opened:
        each.end()


def test_another_program_is_seen_until_it_ends(terminal):
    with receiver("--framing", "lines") as (process, address, endpoint):
        top = terminal("--of", url(endpoint), "--interval", "0.2")
        top.shows(r"0 connections.*q quit")
        feeds = [Feed(address)]
        top.shows(r" 1 +127\.0\.0\.1:\d+ +open")
        feeds.append(Feed(address, pause=0.05))
        top.shows(r"[1-9][\d,]* rows/s.*2 connections")
        top.shows(r" 1 +127\.0\.0\.1:\d+ +open +0\.\d\d +[1-9].*[▁-█].* 2 +127\.0\.0\.1:\d+ +open")
        top.shows(r"area: 2,048 chunks of 128\.0 KiB.*[▒█░].*kernel's")
        top.shows(r"batches +[^\n]*[▁-█]{3}[^\n]*\n[^\n]*rows +[^\n]*[▁-█]{3}")
        assert f"{address[0]}:{address[1]} · copy" in top.screen()
        top.press("p")
        top.shows("the picture stands still")
        still = top.screen()
        eventually(lambda: top.screen() == still, 5)
        top.press("p")
        eventually(lambda: "stands still" not in top.screen())
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        summary = json.loads(
            top.shows(r'(\{"stopped".*?\}).*ended with 0').group(1).replace("\n", "")
        )
        assert summary["stopped"] == "the program has ended"
        assert summary["rows"] > 1000
        top.shows(r"[^-]icanon")
        for feed in feeds:
            feed.end()


def test_q_ends_the_picture_and_not_the_program(terminal):
    with receiver("--framing", "lines") as (process, _, endpoint):
        top = terminal("--of", url(endpoint))
        top.shows("q quit")
        top.press("q")
        top.shows(r"stopped by q.*ended with 0")
        assert process.poll() is None


def test_without_a_terminal_once():
    with receiver("--framing", "lines") as (_, address, endpoint):
        feed = Feed(address)
        done = run("top", "--of", f"{endpoint[0]}:{endpoint[1]}", "--once", "--interval", "0.3")
        feed.end()
    assert done.stdout.count("rows a batch") == 1
    assert re.search(r"│ [1-9][\d,]* rows/s", done.stdout)
    assert "seen once" in done.stderr


def test_a_decoded_feed_counts_its_rows():
    with (
        receiver("--decode", "ndjson") as (_, address, endpoint),
        socket.create_connection(address) as peer,
    ):
        peer.sendall(b'{"a": 1}\n' * 500)
        found = Endpoint(url(endpoint))
        eventually(lambda: found.read().metrics.rows == 500)
        assert found.read().decoded
        done = run("top", "--of", url(endpoint), "--once")
    assert "500 rows" in done.stdout
    assert done.stdout.count("rows/s") == 1  # in the head only: connections count blocks


def test_a_program_that_hangs_is_an_error():
    with receiver() as (process, _, endpoint):
        os.kill(process.pid, signal.SIGSTOP)
        done = run("top", "--of", url(endpoint), "--once", code=1)
    assert "has not answered for 5 s" in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_answers():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
    done = run("top", "--of", url(address), code=1)
    assert "nothing that can be watched answers" in done.stderr
    assert "--metrics" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"not found", "is no endpoint of zcrx-arrow"),
        (200, b"# HELP some_other_program\n", "is no endpoint of zcrx-arrow"),
        (200, b'{"status": "up"}', "not what zcrx-arrow tells"),
        (200, b"[]", "not what zcrx-arrow tells"),
        (200, b'{"kind": "zcrx-arrow top", "version": 99}', "version 99"),
        (200, b'{"kind": "zcrx-arrow top", "version": 1}', "cannot be read"),
        (200, b'{"kind": "zcrx-arrow top", "version": 1, "sources": [3]}', "cannot be read"),
        (200, b'{"kind": "zcrx-arrow top", "version": 1, "sources": []}', "has no source"),
    ],
)
def test_what_answers_is_something_else(status, body, said):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with pytest.raises(ZcrxError, match=said):
                Endpoint(url(server.server_address)).read()
        finally:
            server.shutdown()
            thread.join()


def test_what_speaks_no_http():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with server.accept()[0] as peer:
                peer.recv(1000)
                peer.sendall(b"220 mail.invalid\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ZcrxError, match="nothing that can be watched"):
            Endpoint(url(server.getsockname())).read()
        thread.join()


def test_one_of_several_sources(listening):
    with zc.listen("127.0.0.1:0") as other, served({"a": listening, "b c": other}) as address:
        with pytest.raises(ConfigError, match="has 2 sources") as raised:
            Endpoint(address).read()
        assert f"{address}#a, {address}#b%20c" in str(raised.value)
        assert Endpoint(f"{address}#b%20c").read().address == other.address
        assert Endpoint(f"{address}/metrics#a").read().address == listening.address
        with pytest.raises(ConfigError, match="has no source 'z'"):
            Endpoint(f"{address}#z").read()


def test_a_snapshot_is_what_the_source_says(listening):
    with served(listening) as address, socket.create_connection(listening.address) as peer:
        peer.sendall(LINE * 10)
        held = listening.next_batch("20 s")
        found = Endpoint(address).read()
        assert found.metrics == listening.metrics()
        assert np.array_equal(found.area, listening.area_map())
        (row,) = found.connections
        assert row["peer"] == "{}:{}".format(*peer.getsockname())
        assert (row["bytes"], row["rows"], row["close_reason"]) == (len(LINE) * 10, 10, None)
        assert (found.transport, found.chunk_bytes) == ("copy", listening.chunk_bytes)
        assert not found.decoded
        listening.close()
        assert Endpoint(address).read().connections[0]["close_reason"] == "local"
        del held


def test_peers_are_named_to_other_machines_only_if_that_was_said(listening):
    with (
        socket.create_connection(listening.address),
        socket.create_connection(listening.address),
    ):
        eventually(lambda: listening.metrics().connections == 2)
        for options, told in (
            ({"public": True}, 0),
            ({"public": True, "connections": 1}, 1),
            ({}, 2),
        ):
            host = "0.0.0.0:0" if options else "127.0.0.1:0"
            with served(listening, host, **options) as address:
                found = Endpoint(address.replace("0.0.0.0", "127.0.0.1")).read()
            assert len(found.connections) == len(found.metrics.connection_bytes) == told
            assert found.more_connections == 2 - told


def test_what_another_program_says_is_text(listening):
    """Neither markup nor what moves a cursor."""
    with served(listening) as address, socket.create_connection(listening.address):
        eventually(lambda: listening.metrics().connections)
        found = Endpoint(address).read().as_dict()
    found |= {"transport": "[/]\x1b[2J", "address": ["[/red]", 1]}
    found["connections"][0] |= {"peer": "[/]\x1b[2J", "close_reason": "[bold]\x1b[2J"}
    (odd,) = snapshots.read_document({"kind": "zcrx-arrow top", "version": 1, "sources": [found]})
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(TopView(Other(odd)).render())
    assert "\x1b" not in captured.get()
    assert captured.get().count("[/]?[2J") == 2
    assert "[bold]?[2J" in captured.get()
    assert "[/red]:1" in captured.get()


def test_the_numbers_stay_where_they_were(listening):
    with served(listening) as address:
        for path in ("/metrics", "/", "/whatever"):
            with urlopen(address + path, timeout=20) as answer:
                assert b"zcrx_arrow_rows_total" in answer.read()
        with urlopen(address + snapshots.PATH, timeout=20) as answer:
            assert answer.headers["content-type"] == "application/json"


def test_a_source_that_cannot_be_looked_at_is_left_out(listening):
    class Broken:
        def metrics(self):
            raise RuntimeError("not now")

        area_map = connections = metrics

    with served({"good": listening, "bad": Broken()}) as address:
        assert Endpoint(address).read().name == "good"


@pytest.mark.parametrize(
    "text", ["https://x:1", "http://", "http://x:port", "ftp://x", "http://x:99999"]
)
def test_what_is_no_endpoint(text):
    with pytest.raises(ConfigError, match="must be http://HOST:PORT"):
        Endpoint(text)


@pytest.mark.parametrize(
    "words", [["--listen", ":0"], ["--to", "null"], ["--decode", "ndjson"], ["--rows", "3"]]
)
def test_options_of_a_feed_of_its_own_are_refused(words):
    done = run("top", "--of", "http://127.0.0.1:1", *words, code=2)
    assert f"{words[0]} is of no use with --of" in done.stderr
