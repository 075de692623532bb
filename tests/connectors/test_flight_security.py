# SPDX-License-Identifier: Apache-2.0
"""Who may come in: TLS, tokens, certificates; and where nobody may listen by mistake."""

from __future__ import annotations

import socket

import pyarrow as pa
import pytest
from pyarrow import flight

from tests.connectors.flight_client.tools import SCHEMA, Feed, Reading, certificates, numbered
from zcrx_arrow.connectors.flight_ingest import ingest
from zcrx_arrow.connectors.flight_security import Tls
from zcrx_arrow.connectors.flight_server import serve
from zcrx_arrow.errors import ConfigError, ZcrxError

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("pem"))


@pytest.fixture
def tls(pem):
    certificate, key = pem["server"]
    return Tls(certificate=certificate, key=str(key))


def with_token(token) -> flight.FlightCallOptions:
    return flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + token.encode())])


def roots(pem) -> bytes:
    return pem["ca"][0].read_bytes()


def identity(pem, name) -> dict:
    certificate, key = (path.read_bytes() for path in pem[name])
    return {"tls_root_certs": roots(pem), "cert_chain": certificate, "private_key": key}


def test_a_token_opens_every_call():
    feed = Feed()
    with serve(feed, token=TOKEN) as server, flight.connect(server.location) as client:
        path = flight.FlightDescriptor.for_path("feed")
        right = with_token(TOKEN)
        assert client.get_flight_info(path, right).schema == SCHEMA
        assert len(list(client.list_flights(options=right))) == 1
        reading = Reading(server.location, options=right)
        feed.put(numbered(0, 10), None)
        assert reading.done().numbers == list(range(10))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer wrong",
        "Bearer ",
        "Bearer",
        "",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        TOKEN,
        f"Token {TOKEN}",
        "Basic nonsense!",
        "Basic dXNlcjp3cm9uZw==",
    ],
)
def test_a_wrong_token_opens_none(header):
    feed = Feed()
    headers = [] if header is None else [(b"authorization", header.encode())]
    options = flight.FlightCallOptions(headers=headers)
    with serve(feed, token=TOKEN) as server, flight.connect(server.location) as client:
        path = flight.FlightDescriptor.for_path("feed")
        for call in (
            lambda: client.get_flight_info(path, options),
            lambda: client.get_schema(path, options),
            lambda: list(client.list_flights(options=options)),
            lambda: client.do_get(flight.Ticket("feed"), options).read_all(),
            lambda: list(client.do_action("x", options)),
        ):
            # pyarrow's get_schema() makes an OSError of it.
            with pytest.raises((flight.FlightUnauthenticatedError, OSError)) as error:
                call()
            assert "Unauthenticated" in str(error.value)
            assert TOKEN not in str(error.value)
        assert server.metrics().joined == 0


def test_more_than_one_token_opens_none():
    headers = [(b"authorization", b"Bearer " + t.encode()) for t in (TOKEN, "other")]
    with serve(Feed(), token=TOKEN) as server, flight.connect(server.location) as client:
        with pytest.raises(flight.FlightUnauthenticatedError):
            list(client.list_flights(options=flight.FlightCallOptions(headers=headers)))
        odd = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer \xff\xfe")])
        with pytest.raises((flight.FlightError, pa.ArrowException)):
            list(client.list_flights(options=odd))
        assert list(client.list_flights(options=with_token(TOKEN)))


def test_a_client_may_log_in_with_the_token_as_password():
    with serve(Feed(), token=TOKEN) as server, flight.connect(server.location) as client:
        pair = client.authenticate_basic_token("anybody", TOKEN)
        options = flight.FlightCallOptions(headers=[pair])
        assert len(list(client.list_flights(options=options))) == 1
        with pytest.raises(flight.FlightUnauthenticatedError):
            client.authenticate_basic_token("anybody", "wrong")


def test_a_wrong_token_puts_nothing():
    with ingest(token=TOKEN, schema=SCHEMA) as source:
        with flight.connect(source.location) as client:
            path = flight.FlightDescriptor.for_path("feed")
            with pytest.raises(flight.FlightError):
                writer, _ = client.do_put(path, SCHEMA, with_token("wrong"))
                writer.write_batch(numbered(0, 1))
                writer.close()
            writer, _ = client.do_put(path, SCHEMA, with_token(TOKEN))
            writer.write_batch(numbered(5, 1))
            writer.close()
        assert source.next_batch("5 s")["n"].to_pylist() == [5]
        assert source.metrics().accepted == 1


def test_tls(pem, tls):
    feed = Feed()
    with serve(feed, tls=tls, token=TOKEN) as server:
        assert server.location.startswith("grpc+tls://")
        reading = Reading(server.location, options=with_token(TOKEN), tls_root_certs=roots(pem))
        feed.put(numbered(0, 10), None)
        assert reading.done().numbers == list(range(10))
        plain = server.location.replace("grpc+tls", "grpc")
        options = flight.FlightCallOptions(timeout=5)
        for client in (
            flight.connect(plain),
            flight.connect(server.location, tls_root_certs=pem["stranger"][0].read_bytes()),
        ):
            with pytest.raises((flight.FlightUnavailableError, flight.FlightTimedOutError)):
                list(client.list_flights(options=options))
            client.close()


def test_client_certificates(pem):
    certificate, key = pem["server"]
    tls = Tls(certificate=certificate, key=key, client_ca=roots(pem))
    feed = Feed()
    with serve(feed, "localhost:0", tls=tls) as server:
        reading = Reading(server.location, **identity(pem, "client"))
        feed.put(numbered(0, 10), None)
        assert reading.done().numbers == list(range(10))
        options = flight.FlightCallOptions(timeout=5)
        for who in (identity(pem, "stranger"), {"tls_root_certs": roots(pem)}):
            with (
                flight.connect(server.location, **who) as client,
                pytest.raises((flight.FlightUnavailableError, flight.FlightTimedOutError)),
            ):
                list(client.list_flights(options=options))
        assert server.metrics().joined == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "", "[::]"])
def test_others_are_not_let_in_by_mistake(host, pem, tls):
    certificate, key = pem["server"]
    for make in (lambda **o: serve(Feed(), f"{host}:0", **o), lambda **o: ingest(f"{host}:0", **o)):
        for options, _missing in (
            ({}, r"no TLS \(tls=\) and a token"),
            ({"token": TOKEN}, r"no TLS \(tls=\)$"),
            ({"tls": tls}, "no a token|no a token"),
        ):
            with pytest.raises(ConfigError, match="can be reached from other machines"):
                make(**options)
        for options in (
            {"tls": tls, "token": TOKEN},
            {"tls": Tls(certificate=certificate, key=key, client_ca=pem["ca"][0])},
            {"insecure": True},
        ):
            with make(**options):
                pass


def test_insecure_is_logged(caplog):
    with serve(Feed(), "0.0.0.0:0", insecure=True):
        assert "listening on 0.0.0.0 without TLS" in caplog.text


def test_certificates_that_cannot_be_used(pem, tmp_path):
    certificate, key = pem["server"]
    with pytest.raises(ConfigError, match="key must be"):
        Tls(certificate=certificate, key=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="cannot be used"):
        Tls(certificate=certificate, key=pem["client"][1])
    with pytest.raises(ConfigError, match="cannot be used"):
        Tls(certificate=b"nonsense", key=key)
    with pytest.raises(ConfigError, match="client_ca"):
        Tls(certificate=certificate, key=key, client_ca=b"nonsense")
    with pytest.raises(ConfigError, match="wants tls="):
        serve(Feed(), "grpc+tls://127.0.0.1:0")
    with pytest.raises(ConfigError, match="one without TLS"):
        serve(Feed(), "grpc+tcp://127.0.0.1:0", tls=Tls(certificate=certificate, key=key))
    assert "BEGIN" not in repr(Tls(certificate=certificate, key=key))


def test_a_port_that_is_taken():
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ZcrxError, match="cannot listen on"),
    ):
        ingest(other.getsockname())


def test_other_loopback_addresses_need_nothing():
    for location in ("127.0.0.2:0", "grpc://[::1]:0", "localhost:0"):
        feed = Feed()
        with serve(feed, location) as server:
            reading = Reading(server.location)
            assert server.clients()["peer"].to_pylist()[0].rpartition(":")[0] in (
                "127.0.0.1",
                "127.0.0.2",
                "[::1]",
            )
            feed.put(numbered(0, 1), None)
            assert reading.done().numbers == [0]
