# SPDX-License-Identifier: Apache-2.0
"""A client in another language, with another gRPC and another Arrow: JavaScript."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from tests.conftest import eventually
from tests.connectors.flight_client.node import Client, packages
from tests.connectors.flight_client.tools import Feed, certificates, numbered
from zcrx_arrow.connectors.flight_ingest import ingest
from zcrx_arrow.connectors.flight_security import Tls
from zcrx_arrow.connectors.flight_server import serve

TOKEN = "correct-horse-battery-staple"
UNAUTHENTICATED, UNAVAILABLE = 16, 14  # gRPC's status codes


@pytest.fixture(scope="module")
def node():
    folder = packages()
    return lambda **wish: Client(folder, **wish)


def test_it_finds_and_reads_a_feed(node):
    rows = {
        "n": pa.array([1, 2, 3], pa.int32()),
        "text": pa.array(["a", None, "c" * 20], pa.string_view()),
        "bytes": pa.array([b"\x00\xff", b"", None], pa.binary_view()),
        "word": pa.array(["x", "y", "x"]).dictionary_encode(),
        "real": pa.array([0.5, None, -1.0]),
        "list": pa.array([[1], [], None], pa.list_(pa.int32())),
    }
    batch = pa.record_batch(list(rows.values()), names=list(rows))
    feed = Feed(batch.schema)
    with serve(feed, name="trades", keep=0) as server:
        assert node(call="list", location=server.location).result() == {"found": [["trades"]]}
        info = node(call="info", location=server.location, feed="trades").result()
        assert info["schema"][:4] == ["n: Int32", "text: Utf8", "bytes: Binary", "word: Utf8"]
        reading = node(call="get", location=server.location, ticket=info["ticket"], announce=True)
        assert reading.line() == {"joined": True}
        for _ in range(3):
            feed.put(batch)
            eventually(lambda: server.metrics().clients == 1)
        feed.put(None)
        got = reading.result()
        assert got["schema"] == info["schema"]
        assert len(got["rows"]) == 9
        assert got["rows"][:3] == got["rows"][6:]
        assert [row[:5] for row in got["rows"][:3]] == [
            [1, "a", "\x00\xff", "x", 0.5],
            [2, None, "", "y", None],
            [3, "c" * 20, None, "x", -1.0],
        ]
        assert got["metadata"][0] == {"batch": 0, "row": 0}
        assert server.metrics().sent_rows == 9


def test_batches_fit_its_messages(node):
    batch = numbered(0, 20_000, width=1000)  # 20 MB; gRPC of JavaScript takes 4 MiB
    with serve(pa.Table.from_batches([batch]), wait_for=1) as server:
        got = node(call="get", location=server.location, ticket="feed").result()
        assert [int(row[0]) for row in got["rows"]] == list(range(20_000))
        assert len(got["metadata"]) > 5


def test_it_is_told_why_it_may_not(node):
    with serve(Feed(), token=TOKEN) as server:
        wish = {"call": "info", "location": server.location, "feed": "feed"}
        assert node(**wish).result()["error"] == UNAUTHENTICATED
        assert node(**wish, token="wrong").result()["error"] == UNAUTHENTICATED
        assert node(**wish, token=TOKEN).result()["schema"] == ["n: Int64", "text: Utf8"]
        wish |= {"token": TOKEN, "feed": "other"}
        assert "no feed 'other'" in node(**wish).result()["details"]


def test_it_speaks_tls(node, tmp_path):
    pem = certificates(tmp_path)
    certificate, key = pem["server"]
    tls = Tls(certificate=certificate, key=key, client_ca=pem["ca"][0])
    with serve(Feed(), tls=tls) as server:
        location = f"grpc+tls://localhost:{server.port}"  # a name, as its TLS wants
        wish = {"call": "list", "location": location, "ca": pem["ca"][0]}
        names = dict(zip(("certificate", "key"), pem["client"], strict=True))
        assert node(**wish, **names).result() == {"found": [["feed"]]}
        assert node(**wish).result()["error"] == UNAVAILABLE


def test_it_puts(node):
    with ingest(accept=1) as source:
        wish = {"call": "put", "location": source.location, "feed": "feed"}
        putting = node(**wish, n=list(range(100)), text=["ab", "c"] * 50)
        table = pa.table(source)
        assert putting.result() == {"answers": [{"batches": 1, "rows": 100}]}
        assert table["n"].to_pylist() == list(range(100))
        assert table["text"].to_pylist() == ["ab", "c"] * 50
        assert source.connections()["close_reason"].to_pylist() == ["eof"]


def test_it_sees_the_server_close(node):
    server = serve(Feed())
    reading = node(call="get", location=server.location, ticket="feed", announce=True)
    assert reading.line() == {"joined": True}
    server.close()
    said = reading.result()
    assert said["error"] == UNAVAILABLE
    assert "closing" in said["details"]


def test_messages_with_a_wrong_byte_do_no_harm(node):
    """Each is refused, or is a valid batch of other values; and the server lives on."""
    batches = []
    with ingest() as source:
        pulling = threading.Thread(target=lambda: batches.extend(source))
        pulling.start()
        wish = {
            "location": source.location,
            "feed": "feed",
            "n": [1, 2, 3],
            "text": ["a", "b", "a"],
        }
        garbling = node(call="garble", **wish, **{"from": 0, "until": 400, "step": 3})
        refused = garbling.result()["refused"]
        found = source.metrics()
        assert found.accepted == 134
        assert 0 < refused == found.invalid + found.broken
        assert found.batches == 134 - refused
        assert node(call="put", **wish).result() == {"answers": [{"batches": 1, "rows": 3}]}
        eventually(lambda: len(batches) == found.batches + 1)
        assert batches[-1].to_pylist() == [
            {"n": n, "text": text} for n, text in zip([1, 2, 3], "aba", strict=True)
        ]
        for batch in batches:
            batch.validate(full=True)
            assert batch.to_pylist()
    pulling.join(10)
    assert not pulling.is_alive()
