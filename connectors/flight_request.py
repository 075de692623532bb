# SPDX-License-Identifier: Apache-2.0
"""
What a client asks a Flight server of this project for.

A ticket, or a descriptor's command, is the name of a feed in UTF-8, for what comes from now on; or
a JSON object: ``{"feed": "trades", "last": "5 s"}`` for what has come in the last 5 seconds and
then what comes. A descriptor may also be a path of one part, the name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Self

from pyarrow import flight

from zcrx_arrow.config import parse_duration
from zcrx_arrow.errors import ConfigError

__all__ = ["Request", "refusal"]

_MAX_BYTES: Final = 4096
_MAX_TEXT: Final = 500
_KEYS: Final = {"feed", "last", "acks"}


def refusal(why: str, code: str) -> flight.FlightServerError:
    """Make the error that refuses a call; `code` is for programs, in its ``extra_info``."""
    # A client may have put into its ticket what cannot be sent back to it; and errors are headers,
    # of which clients take some KiB.
    text = why if len(why) <= _MAX_TEXT else f"{why[:_MAX_TEXT]}..."
    said = text.encode("utf-8", "backslashreplace").decode()
    return flight.FlightServerError(said, code.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A ticket or descriptor, read."""

    feed: str
    last: float | None = None
    """Seconds of the past to begin with; DoGet."""
    acks: bool = False
    """Whether every batch is to be acknowledged; DoPut."""

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """
        Read a ticket or a command.

        Raises
        ------
        flight.FlightServerError
            If it cannot be understood.
        """
        if len(data) > _MAX_BYTES:
            raise refusal(f"a ticket has at most {_MAX_BYTES} bytes", "invalid")
        try:
            text = data.decode()
            if not text.startswith("{"):
                return cls(feed=text)
            return cls._of_object(json.loads(text))
        except (ValueError, OverflowError, RecursionError) as error:
            raise refusal(f"the ticket cannot be read: {error}", "invalid") from None

    @classmethod
    def of_descriptor(cls, descriptor: flight.FlightDescriptor) -> Self:
        """
        Read a descriptor.

        Raises
        ------
        flight.FlightServerError
            If it cannot be understood.
        """
        if descriptor.descriptor_type == flight.DescriptorType.CMD:
            return cls.of_bytes(descriptor.command)
        path = descriptor.path
        if descriptor.descriptor_type != flight.DescriptorType.PATH or len(path) != 1:
            raise refusal("a descriptor is a path of one part, the feed's name", "invalid")
        return cls(feed=path[0].decode("utf-8", "replace"))

    @classmethod
    def _of_object(cls, given: dict[str, Any]) -> Self:
        unknown = set(given) - _KEYS
        if unknown:
            raise ConfigError(f"unknown keys {', '.join(sorted(unknown))}")
        feed, last, acks = given.get("feed"), given.get("last"), given.get("acks", False)
        if not isinstance(feed, str) or not isinstance(acks, bool):
            raise ConfigError("'feed' must be text, and 'acks' true or false")
        seconds = None if last is None else parse_duration(last, "last")
        return cls(feed=feed, last=seconds, acks=acks)

    def ticket(self) -> bytes:
        """Give the ticket that asks for the same."""
        if self.last is None and not self.feed.startswith("{"):
            return self.feed.encode()
        return json.dumps({"feed": self.feed, "last": self.last}).encode()

    def check_name(self, name: str) -> None:
        """
        See that it is this feed that is asked for.

        Raises
        ------
        flight.FlightServerError
            If it is another one.
        """
        if self.feed != name:
            raise refusal(f"there is no feed {self.feed!r} here, but {name!r}", "not-found")
