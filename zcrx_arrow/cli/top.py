# SPDX-License-Identifier: Apache-2.0
"""``zcrx-arrow top``."""

import inspect
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from zcrx_arrow.cli.common import errors, interruptible
from zcrx_arrow.cli.decoding import read_decoder
from zcrx_arrow.cli.keys import Keys
from zcrx_arrow.cli.moving import Move, Stop, opened
from zcrx_arrow.cli.receive import announce, open_source, receive, source_options
from zcrx_arrow.cli.rejects import open_rejects
from zcrx_arrow.cli.summary import Summary
from zcrx_arrow.cli.top_view import TopView
from zcrx_arrow.cli.watching import logged, watched
from zcrx_arrow.config import parse_size
from zcrx_arrow.decoded import DecodedSource
from zcrx_arrow.errors import ConfigError

__all__ = ["top"]

_PLAIN_WIDTH: Final = 100
_SOON_S: Final = 0.01


@dataclass
class _Watch(Move):
    """Moves batches, shows what goes on, and does what keys say."""

    keys: Keys = field(default_factory=Keys)
    interval_s: float = 0.5
    plain: bool = False
    once: bool = False
    _console: Console = field(default_factory=Console)
    _frozen: bool = False
    _begun: bool = False
    _pictures: int = 0

    def _shown(self) -> Any:
        if self.plain:
            self._due = time.monotonic() + (_SOON_S if self.once else self.interval_s)
            self._console = Console(width=_PLAIN_WIDTH, color_system=None)
            return nullcontext()
        return Live(console=self._console, auto_refresh=False, screen=True)

    def _next(self) -> tuple[Any, str | None]:
        if self.once and self._pictures:
            return None, "seen once"
        for key in self.keys.pressed():
            if key == "q":
                return None, "stopped by q"
            if key == "p":
                self._frozen = not self._frozen
                self._due = 0.0
                self._refresh(again=True)
        return super()._next()

    def _refresh(self, *, again: bool = False) -> None:
        assert isinstance(self.view, TopView)  # noqa: S101 - see top()
        if time.monotonic() < self._due or (self._frozen and not again):
            return
        if self.once and not self._ready(self.view):
            return
        self.view.width, self.view.height = self._console.size
        picture = self.view.render()
        self._pictures += 1
        self._due = time.monotonic() + self.interval_s
        if self.plain:
            # By way of stdout itself, so that a reader that has gone ends it as it ends others.
            with self._console.capture() as captured:
                self._console.print(picture, Text())
            print(captured.get(), end="", flush=True)
            return
        state = "the picture stands still, the feed goes on" if self._frozen else ""
        self._display.update(Group(picture, _footer(state)), refresh=True)

    def _ready(self, view: TopView) -> bool:
        """Whether the one picture is due: an interval after something has come, or at the end."""
        if not self._begun and self._due and self.source.metrics().bytes:
            self._begun = True
            self._due = time.monotonic() + self.interval_s
            view.begin()
            return False
        return not self._pictures and (self._begun or not self._due)


def _footer(state: str) -> Text:
    return Text.assemble(("q quit   p pause the picture", "dim"), "   ", (state, "yellow"))


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

    For example:

        zcrx-arrow top --listen 127.0.0.1:9000 --framing lines

        zcrx-arrow top --listen :9000 --decode ndjson --to parquet:feed.parquet

        zcrx-arrow top --listen :9000 --once
    """
    with errors(), interruptible():
        if to is not None and to.partition(":")[0] not in ("ipc", "parquet", "rolling", "null"):
            raise ConfigError(f"--to={to!r} must be ipc:PATH, parquet:PATH, rolling:DIR or null")
        plain = once or not sys.stdout.isatty()
        watching: dict[str, Any] = {
            "plain": plain,
            "once": once,
            "interval_s": interval or (1.0 if plain else 0.5),
        }
        _watch(to or "null", options, watching)


def _watch(target: str, options: dict[str, Any], watching: dict[str, Any]) -> None:
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
        nullcontext(Keys()) if watching["plain"] else Keys() as keys,
        opened(target, source, decoder, summary) as sink,
    ):
        assert not options, f"{options} are options of receive that top forgets"  # noqa: S101
        announce(source, listening, as_json)
        say_where()
        stats = source.decode_stats if isinstance(source, DecodedSource) else None
        view = TopView(source, stats)
        watch = _Watch(source, sink, rejects, decoder, stop, summary, view, keys=keys, **watching)
        stopped = watch.run()
    summary.report(source, stopped, as_json=as_json, stats=stats)


def _take(options: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """Take out what a function is called with."""
    names = inspect.signature(function).parameters
    return {name: options.pop(name) for name in names if name in options}
