# SPDX-License-Identifier: Apache-2.0
"""Where ``zcrx-arrow top`` draws: a terminal with its keys, or plain text."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from zcrx_arrow.cli.keys import Keys
from zcrx_arrow.cli.top_view import TopView

__all__ = ["SEEN_ONCE", "STOPPED_BY_Q", "Asked", "Screen"]

SEEN_ONCE: Final = "seen once"
STOPPED_BY_Q: Final = "stopped by q"
_PLAIN_WIDTH: Final = 100


class Asked(Enum):
    """What keys ask for."""

    NOTHING = 1
    END = 2
    AGAIN = 3
    """A picture, of another state."""


@dataclass
class Screen:
    """
    Draws pictures, and reads keys.

    Parameters
    ----------
    keys : Keys
        Opened by the caller.
    interval_s : float
        Seconds from picture to picture; the caller sees to them.
    plain : bool
        Whether to print one picture below the other.
    once : bool
        Whether one is all that is wanted.
    """

    keys: Keys = field(default_factory=Keys)
    interval_s: float = 0.5
    plain: bool = False
    once: bool = False
    pictures: int = 0
    frozen: bool = False
    """Whether the picture shall stand still."""
    _console: Console = field(default_factory=Console)
    _live: Live | None = None

    def opened(self) -> Any:
        """Give a context, in which pictures can be drawn."""
        if self.plain:
            self._console = Console(width=_PLAIN_WIDTH, color_system=None)
            return nullcontext()
        self._live = Live(console=self._console, auto_refresh=False, screen=True)
        return self._live

    @property
    def seen_once(self) -> bool:
        """Whether there was the one picture that is wanted."""
        return self.once and self.pictures > 0

    def asked(self) -> Asked:
        """Look at the keys since the last call."""
        asked = Asked.NOTHING
        for key in self.keys.pressed():
            if key == "q":
                return Asked.END
            if key == "p":
                self.frozen = not self.frozen
                asked = Asked.AGAIN
        return asked

    def draw(self, view: TopView) -> None:
        """Draw this moment."""
        view.width, view.height = self._console.size
        picture = view.render()
        self.pictures += 1
        if self._live is None:
            # By way of stdout itself, so that a reader that has gone ends it as it ends others.
            with self._console.capture() as captured:
                self._console.print(picture, Text())
            print(captured.get(), end="", flush=True)
            return
        state = "the picture stands still, the feed goes on" if self.frozen else ""
        self._live.update(Group(picture, _footer(state)), refresh=True)


def _footer(state: str) -> Text:
    return Text.assemble(("q quit   p pause the picture", "dim"), "   ", (state, "yellow"))
