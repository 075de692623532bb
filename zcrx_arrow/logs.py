# SPDX-License-Identifier: Apache-2.0
"""
Logs for programs: what fields the records of logger ``zcrx_arrow`` have, and a JSON formatter.

Fields are attributes of the record with the prefix ``zcrx_``: ``record.zcrx_event``,
``record.zcrx_connection``. Every record has ``event`` and ``source``; those of `EVENTS` have what
is listed there, where it is known.
"""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, datetime
from typing import Any, Final

from zcrx_arrow._events import PREFIX

__all__ = ["EVENTS", "FIELDS", "JsonFormatter"]

EVENTS: Final[dict[str, tuple[str, ...]]] = {
    "transport": ("transport", "chunk_bytes"),
    "transport_passed_over": ("reason",),
    "connection_opened": ("connection", "peer", "local", "at_ns"),
    "connection_closed": (
        "connection",
        "peer",
        "local",
        "reason",
        "error",
        "bytes",
        "rows",
        "partial_bytes",
        "at_ns",
    ),
    "connection_refused": ("limit", "at_ns"),
    "accept_failed": ("error", "at_ns"),
    "paused": ("at_ns",),
    "resumed": ("seconds", "at_ns"),
    "copy_out_on": ("free_bytes", "at_ns"),
    "copy_out_off": ("at_ns",),
    "starved": ("at_ns",),
    "failed": ("error", "at_ns"),
    "ended": ("at_ns",),
    "events_lost": ("count", "at_ns"),
    "dial_failed": ("attempt", "error"),
    "reconnected": ("connection", "resumes", "seconds"),
    "gave_up": ("attempt", "error"),
    "decode_failed": ("connection", "position", "reason"),
    "schema_drift": ("connection", "reason"),
    "file_finished": ("file", "rows", "bytes"),
    "scrape_failed": ("error",),
    "nic_ready": ("queues", "request"),
    "nic_set_back": ("queues",),
    "nic_left_behind": ("owner", "queues"),
    "nic_feature_kept": ("feature",),
}
"""Fields of each event, beside ``event`` and ``source``."""

FIELDS: Final = {
    "event": "name of what happened",
    "source": "address that a source listens on or dials, the folder of a rolling sink, the name "
    "of a source whose metrics are read, or an interface",
    "at_ns": "when it happened, nanoseconds since 1970; a record may be made a little later",
    "attempt": "in a row without success",
    "bytes": "received by the connection, or of the file",
    "chunk_bytes": "what is recycled at a time",
    "connection": "its id in the source",
    "count": "of events",
    "error": "the kernel's words, what a peer's bytes broke, or what was raised",
    "feature": "of an interface, as ethtool calls it",
    "file": "path",
    "free_bytes": "of the area",
    "limit": "of connections",
    "local": "address of this side",
    "owner": "the process that had made an interface ready",
    "partial_bytes": "received and never part of a whole message",
    "peer": "address of the other side",
    "position": "byte in the connection's stream",
    "queues": "numbers of an interface's queues",
    "reason": "eof, reset, error, framing or local; or why",
    "request": "flows that an interface's queues are ready for",
    "resumes": "the connection that this one replaces",
    "rows": "delivered by the core, or in the file",
    "seconds": "how long",
    "transport": "copy, zcrx or nodev",
}
"""What each field is."""

_ORDINARY: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """
    A record as one line of JSON.

    Members: ``time`` (ISO 8601, UTC, microseconds), ``level``, ``logger``, ``message``; then the
    fields, without their prefix, and other attributes that a program has given its records by
    ``extra``; ``exception`` if there is one. A field with the name of a member keeps its prefix.
    What JSON has not is text. Only ASCII, so that nothing a peer sends can break a line or move a
    terminal's cursor.

    Thread safety: as any formatter.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        for name, value in vars(record).items():
            # An underscore: what other libraries add to every record.
            if name not in _ORDINARY and not name.startswith("_"):
                short = name.removeprefix(PREFIX)
                said[name if short in said else short] = _plain(value)
        return json.dumps(said, default=str, allow_nan=False)


def _plain(value: Any) -> Any:
    """Turn what JSON would write in a way of its own into text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
