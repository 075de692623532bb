# SPDX-License-Identifier: Apache-2.0
"""
What serves a feed over Flight: the calls, the threads, and their end.

Source: Arrow Flight RPC, format/Flight.proto.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from pyarrow import flight

from zcrx_arrow.config import parse_duration
from zcrx_arrow.connectors.flight_calls import Calls, Invalid, NotFound
from zcrx_arrow.connectors.flight_ending import end, hang_up, open_server
from zcrx_arrow.connectors.flight_fanout import Fanout
from zcrx_arrow.connectors.flight_policy import Policy, ReaderEndedError
from zcrx_arrow.connectors.flight_pump import Pump
from zcrx_arrow.connectors.flight_request import Request, refusal
from zcrx_arrow.connectors.flight_stream import as_flight, batches_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zcrx_arrow.connectors.flight_security import Endpoint
    from zcrx_arrow.connectors.flight_wire import Wire

__all__ = ["Serving"]

_log = logging.getLogger("zcrx_arrow.flight")
_STEP_S: Final = 0.25
_GRACE_S: Final = 2.0  # for a client that was told that its stream ends, and does not read it


class _Flight(Calls):
    """The calls; everything they need is in the engine."""

    does = "DoGet of its feed, ListFlights, GetFlightInfo and GetSchema"

    def __init__(self, engine: Serving, **options: Any) -> None:
        self._engine = engine
        super().__init__(**options)

    def list_flights(self, _context: Any, criteria: bytes) -> Iterator[flight.FlightInfo]:
        """Give the feed, if its name begins with the criteria."""
        if self._engine.name.encode().startswith(criteria):
            yield self._engine.info(flight.FlightDescriptor.for_path(self._engine.name))

    def get_flight_info(
        self, _context: Any, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        """Tell the schema, and the ticket to get the feed with."""
        return self._engine.info(descriptor)

    def get_schema(self, _context: Any, descriptor: flight.FlightDescriptor) -> flight.SchemaResult:
        """Tell the schema."""
        try:
            return flight.SchemaResult(self._engine.info(descriptor).schema)
        except flight.FlightServerError as error:
            kind = NotFound if error.extra_info == b"not-found" else Invalid
            raise kind(str(error)) from None

    def do_get(self, context: Any, ticket: flight.Ticket) -> flight.FlightDataStream:
        """Stream the feed."""
        return self._engine.stream(context, Request.of_bytes(ticket.ticket))


class Serving:
    """Everything of a server but what its user holds; its threads refer to this."""

    def __init__(
        self, source: Any, name: str, policy: Policy, wire: Wire, endpoint: Endpoint, wait_for: int
    ) -> None:
        self.name, self._wire, self._wait_for = name, wire, wait_for
        self.fanout = Fanout(policy)
        self.error: BaseException | None = None
        self.refused = self.hung_up = 0
        self._keep_s = parse_duration(policy.keep)
        self._owner = os.getpid()
        self._closing = threading.Event()
        self._close_lock = threading.Lock()
        self._pump = Pump(source, wire.pieces, self.fanout.publish, self._ended, self._begin)
        try:
            self._server = open_server(functools.partial(_Flight, self), endpoint)
        except BaseException:
            self._pump.release()
            raise
        self.port: int = self._server.port
        self._host = endpoint.host
        self._keeper = threading.Thread(
            target=self._look_after, name="zcrx-flight-keeper", daemon=True
        )

    def start(self) -> None:
        """Begin to pull."""
        self._keeper.start()
        self._pump.start()

    # --- the feed ----------------------------------------------------------------------------

    def _begin(self) -> bool:
        while not self._closing.is_set():
            if self.fanout.wait_for_readers(self._wait_for, _STEP_S):
                return True
        return False

    def _ended(self, failure: BaseException | None) -> None:
        if failure is None or self._closing.is_set():
            self.fanout.finish()
            return
        self.error = failure
        _log.error("the feed %r has failed: %s", self.name, failure)
        self.fanout.finish(f"the feed has failed: {failure}")

    def _look_after(self) -> None:
        """Let go of old batches, and of clients that do not read that they were dropped."""
        while not self._closing.wait(_STEP_S):
            self.fanout.expire()
            for reader in self.fanout.lost(time.monotonic() - _GRACE_S):
                self.hung_up += hang_up(self.port, reader.peer, host=self._host)

    # --- calls -------------------------------------------------------------------------------

    def info(self, descriptor: flight.FlightDescriptor) -> flight.FlightInfo:
        """Describe the feed."""
        request = Request.of_descriptor(descriptor)
        request.check_name(self.name)
        # No location: where the client is already.
        endpoint = flight.FlightEndpoint(request.ticket(), [])
        return flight.FlightInfo(self._wire.schema, descriptor, [endpoint], -1, -1)

    def stream(self, context: Any, request: Request) -> flight.GeneratorStream:
        """Add a client."""
        request.check_name(self.name)
        if request.last is not None and request.last > self._keep_s:
            raise refusal(f"this feed keeps {self._keep_s:g} s, not {request.last:g} s", "invalid")
        try:
            reader = self.fanout.join(context.peer(), request.last)
        except ReaderEndedError as error:
            raise as_flight(error) from None
        if reader is None:
            self.refused += 1
            raise flight.FlightUnavailableError("there are too many clients", b"full")
        return flight.GeneratorStream(self._wire.schema, batches_of(self.fanout, reader, context))

    # --- the end -----------------------------------------------------------------------------

    def close(self, timeout: float) -> None:
        """End everything; if the feed has ended by itself, clients get so long for the rest."""
        if os.getpid() != self._owner:  # the connections are the parent's
            return
        with self._close_lock:
            if self._closing.is_set():
                return
            try:
                if self.fanout.finished:  # by itself: clients may get the rest
                    self.fanout.wait_until_left(timeout)
            finally:  # Ctrl-C while waiting closes it too: nobody would do it later
                self._closing.set()
                self.fanout.abort("the server is closing")
                self._pump.stop()
                self._keeper.join()
                end(self._server, _GRACE_S, self._host)
