# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow top``."""

import inspect
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer

from zcrx_arrow.cli.common import errors, human_bytes, interruptible, tell
from zcrx_arrow.cli.decoding import read_decoder
from zcrx_arrow.cli.moving import Move, Stop, opened
from zcrx_arrow.cli.receive import announce, open_source, receive, source_options
from zcrx_arrow.cli.rejects import open_rejects
from zcrx_arrow.cli.summary import Summary
from zcrx_arrow.cli.top_other import Endpoint, watch
from zcrx_arrow.cli.top_screen import SEEN_ONCE, STOPPED_BY_Q, Asked, Screen
from zcrx_arrow.cli.top_view import TopView
from zcrx_arrow.cli.watching import logged, watched
from zcrx_arrow.config import parse_size
from zcrx_arrow.decoded import DecodedSource
from zcrx_arrow.errors import ConfigError

__all__ = ["top"]

_SOON_S: Final = 0.01
_INTERVAL_S: Final = 0.5


@dataclass
class _Watch(Move):
    """Moves batches, shows what goes on, and does what keys say."""

    screen: Screen = field(default_factory=Screen)
    _begun: bool = False

    def _shown(self) -> Any:
        if self.screen.plain:
            self._due = time.monotonic() + (_SOON_S if self.screen.once else self.screen.interval_s)
        return self.screen.opened()

    def _next(self) -> tuple[Any, str | None]:
        if self.screen.seen_once:
            return None, SEEN_ONCE
        asked = self.screen.asked()
        if asked is Asked.END:
            return None, STOPPED_BY_Q
        if asked is Asked.AGAIN:
            self._due = 0.0
            self._refresh(again=True)
        return super()._next()

    def _refresh(self, *, again: bool = False) -> None:
        assert isinstance(self.view, TopView)  # noqa: S101 - see top()
        if time.monotonic() < self._due or (self.screen.frozen and not again):
            return
        if self.screen.once and not self._ready(self.view):
            return
        self.screen.draw(self.view)
        self._due = time.monotonic() + self.screen.interval_s

    def _ready(self, view: TopView) -> bool:
        """Whether the one picture is due: an interval after something has come, or at the end."""
        if not self._begun and self._due and self.source.metrics().bytes:
            self._begun = True
            self._due = time.monotonic() + self.screen.interval_s
            view.begin()
            return False
        return not self.screen.pictures and (self._begun or not self._due)


def _receiving(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `receive`, but for those that it has itself."""
    theirs = inspect.signature(receive).parameters
    own = inspect.signature(command).parameters
    merged = {**theirs, **{n: p for n, p in own.items() if p.kind is p.KEYWORD_ONLY}}
    command.__dict__["__signature__"] = inspect.Signature(list(merged.values()))
    return command


@_receiving
def top(
    *,
    of: Annotated[
        str | None,
        typer.Option(
            metavar="http://HOST:PORT[#SOURCE]",
            help="Watch another program instead, by its --metrics or serve_metrics().",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="Keep the rows: ipc:, parquet: or rolling:, as receive. Default: null."),
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(
            min=0.05, help="Seconds from picture to picture. Default: 0.5; without a terminal 1."
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print one picture, once something has come, and end.")
    ] = False,
    **options: Any,
) -> None:
    r"""
    Watch a TCP feed: rates, the receive memory, sizes of batches, connections.

    It receives the feed itself, as 'zcrx-arrow receive' does and with the same options, and lets
    the rows go, or keeps them as --to says. q ends it, p stops the picture and not the feed.
    Without a terminal it prints a picture an interval.

    With --of it watches a program that receives with --metrics, or has called
    openmetrics.serve_metrics(), and takes nothing from it; it ends with that program.

    For example:

        zcrx-arrow top --listen 127.0.0.1:9000 --framing lines

        zcrx-arrow top --listen :9000 --decode ndjson --to parquet:feed.parquet

        zcrx-arrow top --listen :9000 --once

        zcrx-arrow top --of http://127.0.0.1:9464
    """
    with errors(), interruptible():
        if to is not None and to.partition(":")[0] not in ("ipc", "parquet", "rolling", "null"):
            raise ConfigError(f"--to={to!r} must be ipc:PATH, parquet:PATH, rolling:DIR or null")
        plain = once or not sys.stdout.isatty()
        screen = Screen(
            plain=plain, once=once, interval_s=interval or (1.0 if plain else _INTERVAL_S)
        )
        with nullcontext(screen.keys) if plain else screen.keys:
            if of is None:
                _watch(to or "null", options, screen)
            else:
                _check_alone(options | {"to": to})
                _watch_other(of, screen, as_json=options["as_json"])


def _check_alone(options: dict[str, Any]) -> None:
    """See that no option is given that only a feed of its own has a use for."""
    for name, parameter in inspect.signature(receive).parameters.items():
        if name != "as_json" and options[name] != parameter.default:
            word = name.rstrip("_").replace("_", "-")
            raise ConfigError(f"--{word} is of no use with --of, which receives nothing")


def _watch_other(of: str, screen: Screen, *, as_json: bool) -> None:
    snapshot, stopped = watch(Endpoint(of), screen)
    rows, received = snapshot.metrics.rows, snapshot.metrics.bytes
    if as_json:
        print(json.dumps({"stopped": stopped, "rows": rows, "received_bytes": received}))
    else:
        tell(f"{rows:,} rows, {human_bytes(received)} so far; {stopped}")


def _watch(target: str, options: dict[str, Any], screen: Screen) -> None:
    policies = options["on_error"], options["on_drift"]
    listening = options["listen"] is not None
    as_json = options.pop("as_json")
    decoder = read_decoder(options.pop("decode"), **_take(options, read_decoder))
    library = source_options(decoder, **_take(options, source_options))
    opening = _take(options, open_source)
    limit = options.pop("bytes_")
    stop = Stop(options.pop("rows"), limit and parse_size(limit, "--bytes"), options.pop("seconds"))
    summary = Summary()
    with (
        logged(options.pop("log")),
        open_rejects(options.pop("rejected"), *policies) as rejects,
        open_source(options=library, **opening) as source,
        watched(options.pop("metrics"), source, as_json=as_json) as say_where,
        opened(target, source, decoder, summary) as sink,
    ):
        assert not options, f"{options} are options of receive that top forgets"  # noqa: S101
        announce(source, listening, as_json)
        say_where()
        stats = source.decode_stats if isinstance(source, DecodedSource) else None
        view = TopView(source, stats)
        moving = _Watch(source, sink, rejects, decoder, stop, summary, view, screen=screen)
        stopped = moving.run()
    summary.report(source, stopped, as_json=as_json, stats=stats)


def _take(options: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """Take out what a function is called with."""
    names = inspect.signature(function).parameters
    return {name: options.pop(name) for name in names if name in options}
