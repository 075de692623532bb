# SPDX-License-Identifier: Apache-2.0
"""Pictures made of characters: an area, sizes, rates."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.text import Text

from zcrx_arrow.source import ChunkState

__all__ = ["AREA_LEGEND", "SIZES", "area_picture", "size_bucket", "size_picture", "spark"]

_BARS: Final = " ▁▂▃▄▅▆▇█"
_FREE, _OFFERED, _SOME, _ALL = range(4)
_LOOK: Final = ("·", "░", "▒", "█")
_STYLES: Final = ("dim", "blue", "yellow", "bold yellow")

AREA_LEGEND: Final = "█ leased  ▒ partly  ░ kernel's  · free"

SIZES: Final = 17
"""Powers of two, from 1 to 64 Ki and more."""


def area_picture(states: npt.NDArray[np.uint8], width: int, lines: int) -> tuple[Text, int]:
    """
    Draw an area, a character for one chunk or several neighbours.

    Parameters
    ----------
    states : numpy.ndarray of uint8
        See `Source.area_map`.
    width, lines : int
        Room, in characters.

    Returns
    -------
    picture : Text
        Lines of characters as in `AREA_LEGEND`; "partly" is also a chunk that the kernel goes on
        filling. Any leased chunk is seen, however many share its character.
    chunks : int
        Of a character.
    """
    group = max(1, -(-len(states) // (width * lines)))
    # The last group may be shorter: it is filled up with copies of the last chunk.
    padded = np.pad(states, (0, -len(states) % group), mode="edge") if len(states) else states
    cells = _cells(padded.reshape(-1, group))
    picture = Text(no_wrap=True)
    for at, cell in enumerate(cells):
        if at and at % width == 0:
            picture.append("\n")
        picture.append(_LOOK[cell], _STYLES[cell])
    return picture, group


def _cells(groups: npt.NDArray[np.uint8]) -> list[int]:
    leased = (groups & ChunkState.LEASED) != 0
    offered = (groups & ChunkState.OFFERED) != 0
    kind = np.where(offered.any(axis=1), _OFFERED, _FREE)
    kind = np.where(leased.any(axis=1), _SOME, kind)
    kind = np.where((leased & ~offered).all(axis=1), _ALL, kind)
    return [int(each) for each in kind]


def size_bucket(size: int) -> int:
    """Give the place of a size in `SIZES` buckets."""
    return min(max(size, 1).bit_length() - 1, SIZES - 1)


def size_picture(counts: Sequence[int]) -> Text:
    """Draw how many batches there were of which size, and how many rows came in such."""
    rows = [count << at for at, count in enumerate(counts)]
    names = (1 << at for at in range(len(counts)))
    shown = "".join(f"{n if n < 1024 else f'{n >> 10}k':<4}" for n in names)  # noqa: PLR2004
    return Text.assemble(
        ("batches  ", "dim"),
        (_bars(counts), "green"),
        ("\nrows     ", "dim"),
        (_bars(rows), "green"),
        (f"\n         {shown}", "dim"),
    )


def _levels(values: Sequence[float]) -> Iterator[str]:
    most = max(values, default=0) or 1
    # Whatever was there at all is seen.
    return (_BARS[max(round(8 * value / most), 1) if value > 0 else 0] for value in values)


def _bars(values: Sequence[float]) -> str:
    return "".join(bar * 3 + " " for bar in _levels(values))


def spark(rates: Sequence[float], width: int) -> Text:
    """Draw the last rates, the newest on the right, on a scale of their own."""
    return Text("".join(_levels(list(rates)[-width:])).rjust(width), "green")
