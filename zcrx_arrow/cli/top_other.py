# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow top --of``: a source of another program, by its metrics endpoint."""

import errno
import http.client
import json
import time
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa

import zcrx_arrow as zc
from zcrx_arrow.cli.top_screen import SEEN_ONCE, STOPPED_BY_Q, Asked, Screen
from zcrx_arrow.cli.top_view import TopView
from zcrx_arrow.connectors.snapshots import PATH, Snapshot, read_document
from zcrx_arrow.errors import ConfigError, ZcrxError

__all__ = ["Endpoint", "Other", "watch"]

ENDED: Final = "the program has ended"
_PORT: Final = 9464
_TIMEOUT_S: Final = 5.0
_STEP_S: Final = 0.1
_MOST_BYTES: Final = 32 << 20
_SCHEMA: Final = pa.schema(
    [
        ("id", pa.uint32()),
        ("peer", pa.string()),
        ("close_reason", pa.string()),
        ("bytes", pa.uint64()),
        ("rows", pa.uint64()),
    ]
)


class Endpoint:
    """
    Where a program tells of its sources. Not thread-safe.

    Parameters
    ----------
    text : str
        ``http://HOST:PORT``, or ``HOST:PORT``; behind ``#`` the name of a source, where there are
        several.

    Raises
    ------
    ConfigError
        If it is no such address.
    """

    def __init__(self, text: str) -> None:
        parts = urlsplit(text if "//" in text else f"http://{text}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if parts.scheme != "http" or not host:
            raise ConfigError(f"--of={text!r} must be http://HOST:PORT, as --metrics prints it")
        self.host, self.port = host, _PORT if port is None else port
        self.name = unquote(parts.fragment)
        self._path = parts.path.removesuffix("/metrics").rstrip("/") + PATH
        self._answered = False

    def __str__(self) -> str:
        """Write its address."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def read(self) -> Snapshot | None:
        """
        Ask for the source; None: the program has ended since it was asked before.

        Raises
        ------
        ZcrxError
            If nobody answers, or not in time, or something else does.
        """
        try:
            status, body = self._get()
        except TimeoutError:
            raise ZcrxError(
                errno.ETIMEDOUT,
                f"{self} has not answered for {_TIMEOUT_S:g} s",
                step="top",
                remedy="The program hangs, or its machine is out of reach.",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            if self._answered:
                return None
            raise ZcrxError(
                getattr(error, "errno", None) or errno.ECONNREFUSED,
                f"nothing that can be watched answers at {self}: {error}",
                step="top",
                remedy="Start the program with --metrics HOST:PORT, or call "
                "openmetrics.serve_metrics(source) in it.",
            ) from None
        snapshot = self._mine(self._read(status, body))
        self._answered = True
        return snapshot

    def _get(self) -> tuple[int, bytes]:
        # By http.client: no proxy that the environment names, no redirect.
        asking = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)
        try:
            asking.request("GET", self._path, headers={"Accept": "application/json"})
            answer = asking.getresponse()
            return answer.status, answer.read(_MOST_BYTES)
        finally:
            asking.close()

    def _read(self, status: int, body: bytes) -> list[Snapshot]:
        said: Any = None
        with suppress(ValueError):
            said = json.loads(body) if status == http.client.OK else None
        if said is None:
            raise ZcrxError(
                errno.EPROTO,
                f"what answers at {self} is no endpoint of zcrx-arrow",
                step="top",
                remedy="Give the address that --metrics has printed, or the one of "
                "openmetrics.serve_metrics(); an older zcrx-arrow cannot be watched.",
            )
        return read_document(said)

    def _mine(self, found: list[Snapshot]) -> Snapshot:
        names = [each.name for each in found]
        if self.name in names:
            return found[names.index(self.name)]
        if len(found) == 1 and not self.name:
            return found[0]
        if not found:
            raise ZcrxError(errno.ENOENT, f"{self} has no source (any more)", step="top")
        which = f"no source {self.name!r}" if self.name else f"{len(found)} sources"
        raise ConfigError(
            f"--of: {self} has {which}",
            remedy=f"Name one of them: {', '.join(f'{self}#{quote(name)}' for name in names)}",
        )


class Other:
    """A source of another program, as it was when it was asked last."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.latest = snapshot
        self.address = snapshot.address
        self.transport = snapshot.transport
        self.chunk_bytes = snapshot.chunk_bytes

    @property
    def rows(self) -> int:
        """Rows, of the decoder if there is one."""
        return self.latest.metrics.rows

    def metrics(self) -> zc.Metrics:
        """Give counters and gauges."""
        return self.latest.metrics

    def connections(self) -> pa.Table:
        """Give the connections that the other program tells of."""
        return pa.Table.from_pylist(self.latest.connections, _SCHEMA)

    def area_map(self) -> npt.NDArray[np.uint8]:
        """Give what becomes of each chunk."""
        return self.latest.area


def watch(endpoint: Endpoint, screen: Screen) -> tuple[Snapshot, str]:
    """
    Watch until the program ends, or somebody asks for it.

    Returns
    -------
    snapshot, stopped
        The last that was known, and why it is over.

    Raises
    ------
    ZcrxError
        See `Endpoint.read`.
    """
    first = endpoint.read()
    assert first is not None  # noqa: S101 - see there
    other = Other(first)
    view = TopView(other, other if first.decoded else None, "rows a batch, means of an interval")
    try:
        with screen.opened():
            stopped = _follow(endpoint, screen, other, view)
    except KeyboardInterrupt:
        stopped = "stopped by Ctrl-C"
    return other.latest, stopped


def _follow(endpoint: Endpoint, screen: Screen, other: Other, view: TopView) -> str:
    due = time.monotonic()
    if screen.plain:  # a picture shows rates, so it takes two looks
        due += screen.interval_s
    while not screen.seen_once:
        asked = screen.asked()
        if asked is Asked.END:
            return STOPPED_BY_Q
        if asked is Asked.AGAIN or time.monotonic() >= due:
            due = time.monotonic() + screen.interval_s
            snapshot = endpoint.read()
            if snapshot is None:
                return ENDED
            _count(view, other.latest.metrics, snapshot.metrics)
            other.latest, view.untold = snapshot, snapshot.more_connections
            if asked is Asked.AGAIN or not screen.frozen:
                screen.draw(view)
        time.sleep(min(_STEP_S, screen.interval_s))
    return SEEN_ONCE


def _count(view: TopView, before: zc.Metrics, now: zc.Metrics) -> None:
    batches = now.batches - before.batches
    if batches > 0:
        view.count((now.rows - before.rows) // batches, batches)
