# SPDX-License-Identifier: Apache-2.0
"""The thread that logs what happens to a source, and dials again when asked to."""

from __future__ import annotations

import errno
import logging
import os
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from zcrx_arrow import _events
from zcrx_arrow import address as addresses
from zcrx_arrow._native import ffi, lib
from zcrx_arrow.config import Reconnect, parse_duration
from zcrx_arrow.errors import ZcrxError

if TYPE_CHECKING:
    import socket

__all__ = ["CLOSE_REASONS", "Dialer", "Gap", "Supervisor"]

CLOSE_REASONS: Final = {
    lib.ZA_CLOSE_EOF: "eof",
    lib.ZA_CLOSE_RESET: "reset",
    lib.ZA_CLOSE_ERROR: "error",
    lib.ZA_CLOSE_FRAMING: "framing",
    lib.ZA_CLOSE_LOCAL: "local",
}
_ORDINARY: Final = ("eof", "local")
# Level, name, words, and the name of the event's value.
_WORDS: Final = {
    lib.ZA_EVENT_OPENED: (logging.INFO, "connection_opened", "connection {connection} opened", ""),
    lib.ZA_EVENT_CLOSED: (
        logging.INFO,
        "connection_closed",
        "connection {connection} closed ({reason})",
        "",
    ),
    lib.ZA_EVENT_REFUSED: (
        logging.WARNING,
        "connection_refused",
        "connection refused, the limit is {value} (limits.connections, accept)",
        "limit",
    ),
    lib.ZA_EVENT_ACCEPT: (
        logging.WARNING,
        "accept_failed",
        "accept failed, trying again: {error}",
        "",
    ),
    lib.ZA_EVENT_PAUSED: (
        logging.INFO,
        "paused",
        "paused, the consumer is slower than the peers",
        "",
    ),
    lib.ZA_EVENT_RESUMED: (logging.INFO, "resumed", "resumed after {seconds:.3f} s", "seconds"),
    lib.ZA_EVENT_COPY_OUT_ON: (
        logging.INFO,
        "copy_out_on",
        "area nearly full ({value} bytes free), copying out",
        "free_bytes",
    ),
    lib.ZA_EVENT_COPY_OUT_OFF: (
        logging.INFO,
        "copy_out_off",
        "area free again, no more copying",
        "",
    ),
    lib.ZA_EVENT_STARVED: (logging.WARNING, "starved", "no chunk of the area is free", ""),
    lib.ZA_EVENT_FAILED: (logging.ERROR, "failed", "receiver failed: {error}", ""),
    lib.ZA_EVENT_LOST: (logging.WARNING, "events_lost", "{value} events were not logged", "count"),
}
_ENDED: Final = (logging.DEBUG, "ended", "ended", "")
_LOOK_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Gap:
    """A connection that replaces another."""

    resumes: int
    nanoseconds: int


@dataclass(slots=True)
class Dialer:
    """What it takes to connect (again)."""

    address: addresses.Address
    greeting: bytes
    timeout: float
    policy: Reconnect | None
    receive_buffer: int = 0
    failures: int = 0
    _delay: float = field(default=0.0)

    def dial(self) -> socket.socket:
        """Connect and greet; see `zcrx_arrow.address.dial`."""
        return addresses.dial(self.address, self.greeting, self.timeout, self.receive_buffer)

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt."""
        policy = self.policy
        if policy is None:
            return 0.0
        first = parse_duration(policy.first_delay)
        longest = parse_duration(policy.max_delay)
        self._delay = min(self._delay * policy.factor if self._delay else first, longest)
        return self._delay * (1 - policy.jitter * random.random())  # noqa: S311 - no secret

    def succeeded(self) -> None:
        """Bytes came: the peer is well, so begin with the first delay next time."""
        self._delay = 0.0
        self.failures = 0

    def exhausted(self) -> bool:
        """No attempt is left."""
        attempts = self.policy.attempts if self.policy else 0
        return attempts is not None and self.failures >= attempts


class Supervisor:
    """
    Takes the events of a source until it ends.

    It owns a share of the core's source, and none of the Python object, so that the latter can be
    collected.
    """

    def __init__(self, handle: Any, name: str, dialer: Dialer | None) -> None:
        self._handle = ffi.gc(lib.za_source_take(handle), lib.za_source_put)
        self._name = name
        self.address = _events.address_in(name)
        """What the source listens on, or whom it dials."""
        self._dialer = dialer
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._gaps: dict[int, Gap] = {}
        self.reconnects = 0
        self._thread = threading.Thread(
            target=self._run, name=f"zcrx-arrow events {name}", daemon=True
        )
        self._thread.start()

    def gaps(self) -> dict[int, Gap]:
        """Give the connections that replace another, by id."""
        with self._lock:
            return dict(self._gaps)

    def stop(self) -> None:
        """Dial no more."""
        self._stop.set()

    def join(self) -> None:
        """
        Wait until the last event is logged.

        Not for long: it may be in the middle of a connect, which nothing can interrupt; what comes
        of that is closed at once.
        """
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        event = ffi.new("struct za_event *")
        while True:
            code = lib.za_source_event(self._handle, _LOOK_NS, event)
            if code == -errno.EAGAIN:
                continue
            if code:
                return
            self._log(event)
            if event.kind == lib.ZA_EVENT_CLOSED:
                self._replace(event)

    def _log(self, event: Any) -> None:
        error = os.strerror(event.error) if event.error else ""
        level, name, text, valued = _WORDS.get(event.kind, _ENDED)
        reason = ""
        if event.kind == lib.ZA_EVENT_CLOSED:
            reason = CLOSE_REASONS.get(event.value, "?")
            level = logging.INFO if reason in _ORDINARY else logging.WARNING
        if not _events.enabled(level):
            return
        fields = {"at_ns": event.at_ns, "error": error or None, "reason": reason or None}
        if valued:
            fields[valued] = event.value / 1e9 if valued == "seconds" else event.value
        if event.kind in (lib.ZA_EVENT_OPENED, lib.ZA_EVENT_CLOSED):
            fields |= self._facts(event.connection, closed=bool(reason))
        said = text.format(
            connection=event.connection,
            value=event.value,
            seconds=event.value / 1e9,
            error=error,
            reason=f"{reason}: {error}" if error else reason,
        )
        _events.log(level, name, self._name, "%s", said, **fields)

    def _facts(self, connection: int, *, closed: bool) -> dict[str, Any]:
        """Say of a connection what the core knows."""
        fields: dict[str, Any] = {"connection": connection}
        info = self._info(connection)
        if info is None:
            return fields
        for name in ("peer", "local"):
            fields[name] = ffi.string(getattr(info, name)).decode(errors="replace") or None
        if closed:
            fields |= {name: getattr(info, name) for name in ("bytes", "rows", "partial_bytes")}
            detail = ffi.string(info.detail).decode(errors="replace")
            if detail:
                fields["error"] = detail
        return fields

    def _replace(self, event: Any) -> None:
        dialer = self._dialer
        if dialer is None or dialer.policy is None or event.value == lib.ZA_CLOSE_LOCAL:
            return
        if self._received(event.connection):
            dialer.succeeded()
        closed_ns = event.at_ns
        while not self._stop.wait(dialer.next_delay()):
            try:
                sock = dialer.dial()
            except ZcrxError as error:
                dialer.failures += 1
                _events.warning(
                    "dial_failed",
                    self._name,
                    "attempt %d: %s",
                    dialer.failures,
                    error.strerror,
                    attempt=dialer.failures,
                    error=error.strerror,
                )
                if dialer.exhausted():
                    self._give_up(error)
                    return
                continue
            self._adopt(sock, event.connection, closed_ns)
            return

    def _info(self, connection: int) -> Any:
        """Give what the core knows of a connection; None if it has forgotten it."""
        room = lib.za_source_connections(self._handle, True, ffi.NULL, 0) + 16
        infos = ffi.new("struct za_conn_info[]", room)
        found = lib.za_source_connections(self._handle, True, infos, room)
        for at in range(min(found, room)):
            if infos[at].id == connection:
                # A copy of its own: an element of an array does not keep the array alive.
                return ffi.new("struct za_conn_info *", infos[at])
        return None

    def _received(self, connection: int) -> bool:
        info = self._info(connection)
        return info is not None and info.bytes > 0

    def _adopt(self, sock: socket.socket, old: int, closed_ns: int) -> None:
        new = ffi.new("uint32_t *")
        with self._lock:  # before anybody can see the connection without its gap
            code = lib.za_source_add(self._handle, sock.fileno(), new)
            if code:
                sock.close()
                return
            sock.detach()
            gap = lib.za_realtime_ns() - closed_ns
            self._gaps[new[0]] = Gap(resumes=old, nanoseconds=gap)
            self.reconnects += 1
        _events.warning(
            "reconnected",
            self._name,
            "connection %d replaces %d after a gap of %.3f s; positions begin at 0",
            new[0],
            old,
            gap / 1e9,
            connection=new[0],
            resumes=old,
            seconds=gap / 1e9,
        )

    def _give_up(self, error: ZcrxError) -> None:
        failures = self._dialer.failures if self._dialer else 0
        text = f"{error.strerror}; gave up after {failures} attempts"
        _events.error("gave_up", self._name, "%s", text, attempt=failures, error=error.strerror)
        lib.za_source_finish(self._handle, -(error.errno or errno.EIO), text.encode())
