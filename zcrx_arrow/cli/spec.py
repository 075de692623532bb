# SPDX-License-Identifier: Apache-2.0
"""The notation of what an option chooses: ``kind[:value][,key=value | flag]...``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from zcrx_arrow import config
from zcrx_arrow.errors import ConfigError

__all__ = ["Spec", "naming", "split"]

_OPENING: Final = "([{"
_CLOSING: Final = ")]}"


class Spec:
    r"""
    An option's text, taken apart.

    Each part is asked for by name; `done` refuses what nobody asked for. A comma within brackets,
    or behind a backslash, separates nothing.

    Parameters
    ----------
    option : str
        Named in errors, such as ``"--framing"``.
    text : str
        Such as ``"length:u16be,offset=1,keep-header"``.
    """

    def __init__(self, option: str, text: str) -> None:
        self.option, self.text = option, text
        head, *rest = split(text)
        self.kind, colon, value = head.partition(":")
        self.kind = self.kind.strip()
        self.value: str | None = value if colon else None
        self._given: list[tuple[str, str | None]] = []
        for part in rest:
            key, equals, setting = part.partition("=")
            self._given.append((key.strip(), setting if equals else None))
        self._asked: list[str] = []

    def flag(self, name: str) -> bool:
        """Whether a word is there."""
        return bool(self._take(name, with_value=False))

    def get(self, name: str) -> str | None:
        """Give the value of a key; None if it is not there."""
        values = self.all(name)
        if len(values) > 1:
            raise self.error(f"{name}= is there twice")
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Give the values of a key that may come several times."""
        return [value for value in self._take(name, with_value=True) if value is not None]

    def number(self, name: str) -> int | None:
        """Give the value of a key as a whole number."""
        value = self.get(name)
        if value is None:
            return None
        try:
            return int(value, 0)
        except ValueError:
            raise self.error(f"{name}={value} is no whole number") from None

    def size(self, name: str) -> int | None:
        """Give the value of a key as bytes."""
        value = self.get(name)
        return None if value is None else config.parse_size(value, f"{self.option}: {name}")

    def _take(self, name: str, *, with_value: bool) -> list[str | None]:
        self._asked.append(f"{name}=" if with_value else name)
        found = [pair for pair in self._given if pair[0] == name]
        for pair in found:
            if (pair[1] is not None) != with_value:
                raise self.error(f"{name} takes {'a' if with_value else 'no'} value")
            self._given.remove(pair)
        return [value for _, value in found]

    def done(self, *, value: bool = False) -> Self:
        """
        Refuse what was not asked for.

        Parameters
        ----------
        value : bool
            Whether there may be something behind a colon.
        """
        if self.value is not None and not value:
            raise self.error(f"{self.kind} takes nothing behind a colon")
        if self._given:
            known = f"one of {', '.join(self._asked)}" if self._asked else "nothing"
            raise self.error(f"{self._given[0][0]!r} is unknown: {self.kind} takes {known}")
        return self

    def error(self, what: str) -> ConfigError:
        """Make an error that names the option."""
        return ConfigError(f"{self.option}={self.text!r}: {what}")

    def unknown(self, choices: str) -> ConfigError:
        """Make an error that names the choices."""
        return ConfigError(f"{self.option}={self.text!r} must be one of {choices}")


def split(text: str, at: str = ",") -> list[str]:
    r"""
    Split at commas that are not within brackets; ``\,`` is a comma.

    Raises
    ------
    ConfigError
        If a bracket is not closed.
    """
    parts, depth, escaped = [""], 0, False
    for character in text:
        depth += (character in _OPENING) - (character in _CLOSING)
        if escaped and character != at:
            parts[-1] += "\\"
        if character == at and not depth and not escaped:
            parts.append("")
        elif character != "\\" or escaped:
            parts[-1] += character
        escaped = character == "\\" and not escaped
    if depth:
        raise ConfigError(f"{text!r} has a bracket without its other half")
    return parts


@contextmanager
def naming(option: str, text: str) -> Iterator[None]:
    """Let errors of the library name the option that they are about."""
    try:
        yield
    except ConfigError as error:
        if str(error).startswith("--"):
            raise
        raise ConfigError(f"{option}={text!r}: {error.strerror}", remedy=error.remedy) from None
