# SPDX-License-Identifier: Apache-2.0
"""
The counters of sources for Prometheus, and whatever else reads OpenMetrics.

Needs ``zcrx-arrow[prometheus]``. Numbers are read when they are asked for; nothing runs meanwhile.

Source: OpenMetrics 1.0; Prometheus, "Metric and label naming". Which of the two text formats is
sent, the client says and prometheus_client looks at.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import socket
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from zcrx_arrow._closing import Closing
from zcrx_arrow.address import Address, parse_address
from zcrx_arrow.config import whole
from zcrx_arrow.connectors.measures import MEASURES, Measure, Watched, named, values
from zcrx_arrow.connectors.scrapes import ERRORS, TEXT_ERRORS, Scrapes
from zcrx_arrow.connectors.snapshots import PATH, Snapshot, as_document
from zcrx_arrow.errors import ConfigError, ZcrxError

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ImportError as error:  # pragma: no cover - said to the user
    raise ImportError(
        "this connector needs prometheus-client: pip install 'zcrx-arrow[prometheus]'"
    ) from error

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from wsgiref.simple_server import WSGIServer

__all__ = ["MetricsServer", "SourceCollector", "serve_metrics"]

_LABELS: Final = ("source", "transport")
_OF_CONNECTION: Final = "zcrx_arrow_connection_received_bytes"
_MOST: Final = 100_000
_TOLD: Final = 256


class SourceCollector(Collector):
    """
    Gives the numbers of sources to a registry of prometheus_client.

    For a program that has an endpoint already: ``REGISTRY.register(SourceCollector(source))``.

    Parameters
    ----------
    sources : Source, iterable of them, or mapping of names to them
        Held until `remove`. Without a name, the label ``source`` is the address that
        it listens on or dials.
    connections : int
        How many open connections of each source, the oldest ones, get a series of their own. A
        series for each peer is kept by Prometheus for as long as it keeps anything, so none by
        default.

    Thread safety: every method may be called from any thread.

    Raises
    ------
    ConfigError
        If two sources have the same name.
    """

    def __init__(self, sources: Any = (), *, connections: int = 0) -> None:
        self._watched, self._scrapes = Watched(), Scrapes()
        self._connections = whole(connections, "connections", 0, _MOST)
        self._watched.add(named(sources))

    def add(self, sources: Any) -> None:
        """Watch more; raises `ConfigError` if a name is taken."""
        self._watched.add(named(sources))

    def remove(self, sources: Any) -> None:
        """Watch them no more: a mapping by its names, others whatever they were called."""
        given = named(sources)
        names = list(given)
        if not isinstance(sources, Mapping):
            ids = set(map(id, given.values()))
            names = [name for name, each in self._watched.items() if id(each) in ids]
        self._watched.remove(names)
        for name in names:
            self._scrapes.forget(name)

    def describe(self) -> Iterator[Metric]:
        """Give the names, for a registry that looks for clashes."""
        yield InfoMetricFamily("zcrx_arrow_source", _TEXT_INFO)
        yield CounterMetricFamily(ERRORS, TEXT_ERRORS)
        yield from (_family(measure) for measure in MEASURES)

    def collect(self) -> Iterator[Metric]:
        """Read every source, once; one that raises is left out, and counted."""
        families: dict[str, Metric] = {}
        info = InfoMetricFamily("zcrx_arrow_source", _TEXT_INFO, labels=["source"])
        errors = CounterMetricFamily(ERRORS, TEXT_ERRORS, labels=["source"])
        connections = CounterMetricFamily(
            _OF_CONNECTION,
            "Received from the oldest open connections.",
            labels=[*_LABELS, "connection", "peer"],
            unit="bytes",
        )
        for name, source in self._watched.items():
            read = self._scrapes.attempt(name, partial(_Read, source, self._connections))
            errors.add_metric([name], self._scrapes.errors(name))
            if read is None:
                continue
            info.add_metric([name], read.info)
            for measure, value in read.values:
                family = families.setdefault(measure.openmetrics, _family(measure))
                family.add_metric([name, read.transport], value)  # type: ignore[attr-defined]
            for number, peer, count in read.connections:
                connections.add_metric([name, read.transport, number, peer], count)
        yield info
        yield errors
        yield from families.values()
        if self._connections:
            yield connections

    def snapshots(self, most: int) -> list[Snapshot]:
        """Look at live sources, and so many of their connections; one that raises is left out."""
        found = (
            self._scrapes.attempt(name, partial(Snapshot.of, name, source, most))
            for name, source in self._watched.items()
            if hasattr(source, "area_map")
        )
        return [each for each in found if each is not None]


class _Read:
    """What is told of a source at a moment."""

    def __init__(self, source: Any, connections: int) -> None:
        self.transport = getattr(source, "transport", "")
        self.info = _info(source, self.transport)
        self.values = list(values(source))
        self.connections = list(_oldest(source, connections)) if connections else []


def _oldest(source: Any, most: int) -> Iterator[tuple[str, str, int]]:
    """Give number, peer and bytes of the oldest open connections."""
    ask = getattr(source, "connections", None)
    if ask is None:
        return
    # Not its times: without pandas, Python has no nanoseconds.
    table = ask().select(["id", "peer", "close_reason", "bytes"])
    rows = [row for row in table.to_pylist() if row["close_reason"] is None]
    for row in rows[:most]:
        yield str(row["id"]), row["peer"] or "", row["bytes"]


_TEXT_INFO: Final = "What a source is."


def _info(source: Any, transport: str) -> dict[str, str]:
    decoder = getattr(source, "decoder", None)
    return {
        "transport": transport,
        "decoder": type(decoder).__name__ if decoder is not None else "",
        "version": version("zcrx-arrow"),
    }


def _family(measure: Measure) -> Metric:
    kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    unit = {"By": "bytes", "s": "seconds"}.get(measure.unit, "")
    return kind(measure.openmetrics, measure.text, labels=list(_LABELS), unit=unit)


class MetricsServer(Closing):
    """
    A running endpoint; made by `serve_metrics`. A context manager.

    Thread safety: every method may be called from any thread.
    """

    def __init__(
        self, collector: SourceCollector, server: WSGIServer, thread: threading.Thread
    ) -> None:
        """Not for users: see `serve_metrics`."""
        self.collector = collector
        """Where sources can be added and removed."""
        host, port = server.server_address[:2]
        self.address: tuple[str, int] = (str(host), int(port))
        """(host, port) that it is bound to."""
        self._server, self._thread = server, thread
        self._closed = False

    def close(self) -> None:
        """Stop to answer. Idempotent; sources stay open."""
        if self._closed:
            return
        self._closed = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __repr__(self) -> str:
        """Name it by its address."""
        state = " closed" if self._closed else ""
        return f"<zcrx_arrow metrics at {self.address[0]}:{self.address[1]}{state}>"


def serve_metrics(
    sources: Any,
    address: Address = "127.0.0.1:9464",
    *,
    connections: int = 0,
    public: bool = False,
) -> MetricsServer:
    """
    Answer HTTP requests, at any path, with the numbers of sources.

    At ``/top.json`` with what ``zcrx-arrow top --of`` shows of them, as JSON.

    Parameters
    ----------
    sources, connections
        See `SourceCollector`.
    address : str or (str, int)
        Where to listen; port 0 takes a free one, see ``.address``.
    public : bool
        Whether it may be reached from other machines. The endpoint has no TLS and asks for no
        password, and with `connections` it names peers; so that has to be said. One of the
        loopback names the peers of 256 connections at ``/top.json`` anyway.

    Returns
    -------
    MetricsServer
        To be closed by the caller. It keeps the sources, also closed ones.

    Raises
    ------
    ConfigError
        If an option cannot work, or the address is not of the loopback and `public` not said.
    ZcrxError
        If the address cannot be bound.
    """
    host, port = parse_address(address)
    if not public and not _is_loopback(host):
        raise ConfigError(
            f"address={address!r} can be reached from other machines, without TLS or a password",
            remedy="Say public=True if that is what you want, or take 127.0.0.1.",
        )
    collector = SourceCollector(sources, connections=connections)
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host or "0.0.0.0", registry)  # noqa: S104
    except OSError as error:
        raise ZcrxError(
            error.errno or errno.EADDRINUSE,
            f"cannot listen on {host}:{port}",
            step="metrics",
            remedy="Take another port; 0 takes a free one.",
        ) from error
    told = connections if public else max(connections, _TOLD)
    server.set_app(_with_snapshots(server.get_app(), collector, told))
    return MetricsServer(collector, server, thread)


def _with_snapshots(numbers: Any, collector: SourceCollector, most: int) -> Any:
    """Make a WSGI application that also has the document for `top`."""

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        if environ.get("PATH_INFO") != PATH:
            return numbers(environ, start_response)
        body = json.dumps(as_document(collector.snapshots(most))).encode()
        head = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("200 OK", head)
        return [body]

    return answer


def _is_loopback(host: str) -> bool:
    """Whether every address that a name stands for is of this machine alone."""
    if not host:
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ZcrxError(
            errno.EADDRNOTAVAIL, f"{host!r} is no address: {error}", step="metrics"
        ) from None
    return all(ipaddress.ip_address(str(each[4][0]).split("%")[0]).is_loopback for each in found)
