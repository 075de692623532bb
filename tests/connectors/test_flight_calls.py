# SPDX-License-Identifier: Apache-2.0
"""Calls that a server does not serve, and feeds that it does not have: told in one line."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pyarrow import flight

from tests.connectors.flight_client.tools import SCHEMA, Feed
from zcrx_arrow.connectors.flight_calls import Unimplemented
from zcrx_arrow.connectors.flight_ingest import ingest
from zcrx_arrow.connectors.flight_server import serve

FEED = flight.FlightDescriptor.for_path("feed")
TOKEN = "correct-horse-battery-staple"


def put(client, options=None):
    writer, answers = client.do_put(FEED, SCHEMA, options)
    try:
        answers.read()
    finally:
        writer.close()


def exchange(client, options=None):
    writer, reader = client.do_exchange(FEED, options)
    with writer:
        reader.read_all()


CALLS = {
    "ListFlights": lambda client: list(client.list_flights()),
    "GetFlightInfo": lambda client: client.get_flight_info(FEED),
    "GetSchema": lambda client: client.get_schema(FEED),
    "DoGet": lambda client: client.do_get(flight.Ticket("feed")),
    "DoPut": put,
    "DoExchange": exchange,
}


def serving(**options):
    return serve(Feed(), **options)


def refused(call, server, kind) -> str:
    with flight.connect(server.location) as client, pytest.raises(kind) as raised:
        call(client)
    said = str(raised.value)
    assert "Traceback" not in said
    assert ".py" not in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("opened", "name", "does"),
    [
        (serving, "DoPut", "DoGet of its feed"),
        (serving, "DoExchange", "DoGet of its feed"),
        (ingest, "ListFlights", "DoPut to its feed"),
        (ingest, "GetFlightInfo", "DoPut to its feed"),
        (ingest, "GetSchema", "DoPut to its feed"),
        (ingest, "DoGet", "DoPut to its feed"),
        (ingest, "DoExchange", "DoPut to its feed"),
    ],
)
def test_a_call_that_is_not_served(opened, name, does):
    with opened() as server:
        said = refused(CALLS[name], server, pa.ArrowNotImplementedError)
        assert f"this server does not do {name}: it is for {does}" in said


@pytest.mark.parametrize("opened", [serving, ingest])
def test_there_are_no_actions(opened):
    with opened() as server:
        with flight.connect(server.location) as client:
            assert list(client.list_actions()) == []
        for name in ("CancelFlightInfo", "x" * 100_000, "\n"):
            said = refused(
                lambda client, name=name: list(client.do_action(flight.Action(name, b""))),
                server,
                pa.ArrowNotImplementedError,
            )
            assert f"there is no action {name[:100]!r} here" in said


@pytest.mark.parametrize(
    "descriptor",
    [FEED, flight.FlightDescriptor.for_command(b'{"feed": "feed", "last": "1 s"}')],
)
def test_a_schema_is_what_the_info_says(descriptor):
    with serve(Feed()) as server, flight.connect(server.location) as client:
        found = client.get_schema(descriptor).schema
        assert found.equals(client.get_flight_info(descriptor).schema, check_metadata=True)
        assert found == SCHEMA


@pytest.mark.parametrize(
    ("descriptor", "kind", "why"),
    [
        (flight.FlightDescriptor.for_path("x"), KeyError, "there is no feed 'x' here, but 'feed'"),
        (flight.FlightDescriptor.for_path("a", "b"), ValueError, "a path of one part"),
        (flight.FlightDescriptor.for_path("x" * 100_000), KeyError, "xxx..."),
        (flight.FlightDescriptor.for_path("\n\u20ac" * 2000), KeyError, "there is no feed"),
        (flight.FlightDescriptor.for_command(b"{"), ValueError, "the ticket cannot be read"),
    ],
)
def test_a_schema_that_is_not_there(descriptor, kind, why):
    with serve(Feed()) as server:
        assert why in refused(lambda client: client.get_schema(descriptor), server, kind)
        said = refused(
            lambda client: client.get_flight_info(descriptor), server, flight.FlightServerError
        )
        assert why in said


@pytest.mark.parametrize("opened", [serving, ingest])
@pytest.mark.parametrize("name", CALLS)
def test_nobody_is_told_what_there_is_without_the_token(opened, name):
    with opened(token=TOKEN) as server:
        # pyarrow's get_schema() makes an OSError of it.
        kind = OSError if name == "GetSchema" else flight.FlightUnauthenticatedError
        assert "must be 'Bearer' and the token" in refused(CALLS[name], server, kind)


def test_the_message_is_all_that_there_is_to_it():
    assert str(Unimplemented("not here")) == "not here"
