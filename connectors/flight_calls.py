# SPDX-License-Identifier: Apache-2.0
"""
What a Flight server of this project answers to calls that it does not serve.

pyarrow's own answer is a traceback, with the paths of the server's files.

Source: Arrow Flight RPC, format/Flight.proto; gRPC's status codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from pyarrow import flight

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Calls", "Invalid", "NotFound", "Unimplemented"]

_TEXT: Final = 100


class _OneLineError(Exception):
    """
    An error of which a client is told the message and the name of the class.

    For gRPC's codes that pyarrow has no Flight error for, and for ``get_schema``, which knows of no
    Flight errors. Of an exception that is none pyarrow tells the traceback, unless that cannot be
    formatted: this one cannot.
    """

    @property
    def __cause__(self) -> NoReturn:  # type: ignore[override] # whoever formats it looks here
        """Refuse to be formatted."""
        raise RuntimeError("this exception is for Flight clients only")

    def __str__(self) -> str:
        """Give the message; a KeyError would put it in quotes."""
        return str(self.args[0])


class Unimplemented(_OneLineError, NotImplementedError):  # noqa: N818 - clients are told the name
    """Becomes gRPC's UNIMPLEMENTED."""


class NotFound(_OneLineError, KeyError):  # noqa: N818
    """Becomes gRPC's NOT_FOUND."""


class Invalid(_OneLineError, ValueError):  # noqa: N818
    """Becomes gRPC's INVALID_ARGUMENT."""


class Calls(flight.FlightServerBase):  # type: ignore[misc] # pyarrow has no types
    """A server that does nothing; what one does, it overrides."""

    does = "nothing"
    """For what it does not do: the calls that it is for."""

    def list_flights(self, _context: Any, _criteria: bytes) -> Iterator[flight.FlightInfo]:
        """Refuse."""
        raise self._unserved("ListFlights")

    def get_flight_info(self, _context: Any, _descriptor: Any) -> flight.FlightInfo:
        """Refuse."""
        raise self._unserved("GetFlightInfo")

    def get_schema(self, _context: Any, _descriptor: Any) -> flight.SchemaResult:
        """Refuse."""
        raise self._unserved("GetSchema")

    def do_get(self, _context: Any, _ticket: flight.Ticket) -> flight.FlightDataStream:
        """Refuse."""
        raise self._unserved("DoGet")

    def do_put(self, _context: Any, _descriptor: Any, _reader: Any, _writer: Any) -> None:
        """Refuse."""
        raise self._unserved("DoPut")

    def do_exchange(self, _context: Any, _descriptor: Any, _reader: Any, _writer: Any) -> None:
        """Refuse."""
        raise self._unserved("DoExchange")

    def list_actions(self, _context: Any) -> list[flight.ActionType]:
        """There are none."""
        return []

    def do_action(self, _context: Any, action: flight.Action) -> Iterator[flight.Result]:
        """Refuse."""
        raise Unimplemented(f"there is no action {action.type[:_TEXT]!r} here")

    def _unserved(self, call: str) -> Unimplemented:
        return Unimplemented(f"this server does not do {call}: it is for {self.does}")
