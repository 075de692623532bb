# SPDX-License-Identifier: Apache-2.0
"""``--metrics`` and ``--log``: for who watches a receiver from outside."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import zcrx_arrow as zc
from zcrx_arrow.cli.common import tell
from zcrx_arrow.cli.spec import Spec, naming
from zcrx_arrow.errors import ConfigError
from zcrx_arrow.logs import JsonFormatter

__all__ = ["logged", "watched"]


@contextmanager
def logged(kind: str) -> Iterator[None]:
    """
    Log as ``text``, or as ``json``: a line for each event, on stderr, at level INFO.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    if kind == "text":
        yield
        return
    if kind != "json":
        raise ConfigError(f"--log={kind!r} must be text or json")
    root, ours = logging.getLogger(), logging.getLogger("zcrx_arrow")
    before, level = root.handlers[:], ours.level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root.handlers[:] = [handler]
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = before
        ours.setLevel(level)


@contextmanager
def watched(text: str | None, source: zc.Source, *, as_json: bool) -> Iterator[Callable[[], None]]:
    """
    Serve metrics at ``HOST:PORT[,public][,connections=N]`` meanwhile; None: not at all.

    Yields
    ------
    callable
        Says on stderr where.

    Raises
    ------
    ConfigError
        If it cannot be understood, or prometheus-client is not there.
    ZcrxError
        If the address cannot be bound.
    """
    if text is None:
        yield lambda: None
        return
    address, comma, rest = text.partition(",")
    spec = Spec("--metrics", f"address{comma}{rest}")
    public, connections = spec.flag("public"), spec.number("connections") or 0
    spec.done()
    try:
        from zcrx_arrow.connectors.openmetrics import serve_metrics  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(f"--metrics: {error}") from None
    with naming("--metrics", text):
        server = serve_metrics(source, address, public=public, connections=connections)
    with server:
        yield partial(_say, server.address, as_json=as_json)


def _say(address: tuple[str, int], *, as_json: bool) -> None:
    host, port = address
    if as_json:
        tell(json.dumps({"event": "metrics", "address": [host, port]}))
    else:
        tell(f"metrics at http://{f'[{host}]' if ':' in host else host}:{port}/metrics")
