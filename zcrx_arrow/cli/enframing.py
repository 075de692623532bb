# SPDX-License-Identifier: Apache-2.0
"""Messages put into a framing: the other direction of `zcrx_arrow.framing`."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from zcrx_arrow import framing as framings
from zcrx_arrow.cli.framings import parse_framing
from zcrx_arrow.cli.spec import Spec, split
from zcrx_arrow.errors import ConfigError

__all__ = ["Enframe", "enframe", "join", "sending_framing"]

Enframe = Callable[[bytes], bytes]
"""Gives a message with what its framing puts around it; raises `ValueError`."""

_NEWLINE: Final = "newline"


def sending_framing(option: str, text: str) -> Enframe:
    """
    Read a framing to send with: as for `receive`, and ``syslog,newline``.

    Raises
    ------
    ConfigError
        Naming the option, and the choices.
    """
    words = split(text)
    for word in words:
        if word == "whole" or word.startswith("max="):
            raise ConfigError(f"{option}={text!r}: {word} is of no use when sending")
    newline = words[0] == "syslog" and _NEWLINE in words
    if newline:
        Spec(option, ",".join(word for word in words if word != _NEWLINE)).done()
        return _syslog_line
    return enframe(parse_framing(option, text), option)


def enframe(framing: framings.Framing, option: str = "--framing") -> Enframe:
    """
    Give what puts a message into a framing.

    Raises
    ------
    ConfigError
        If messages cannot be put into it.
    """
    for kind, made in _KINDS:
        if isinstance(framing, kind):
            return partial(made, framing)
    raise ConfigError(f"{option}: nothing can be sent as {type(framing).__name__}")


def join(messages: Iterable[bytes], frame: Enframe, first: int) -> bytes:
    """
    Put messages one behind the other.

    Raises
    ------
    ValueError
        If one cannot be framed; names its row, `first` being that of the first one.
    """
    parts = []
    for at, message in enumerate(messages):
        try:
            parts.append(frame(message))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"row {first + at} cannot be sent: {error}") from None
    return b"".join(parts)


def _plain(_framing: framings.Framing, message: bytes) -> bytes:
    return message


def _delimited(framing: framings.Delimited, message: bytes) -> bytes:
    if framing.delimiter in message + framing.delimiter[:-1]:
        raise ValueError(f"it holds the delimiter {framing.delimiter!r}")
    return message + framing.delimiter


def _length(framing: framings.LengthPrefixed, message: bytes) -> bytes:
    width = int(framing.length[1:].rstrip("bel")) // 8
    size = framing.header_size or framing.offset + width
    header = bytearray(size)
    if framing.keep_header:
        if len(message) < size:
            raise ValueError(f"it has {len(message)} bytes, and should begin with {size} of header")
        header[:], message = message[:size], message[size:]
    length, rest = divmod(len(message) + size * framing.counts_header, framing.unit)
    if rest:
        raise ValueError(f"its length is no multiple of unit={framing.unit}")
    order: Any = "big" if framing.length.endswith("be") else "little"
    if length >= 1 << 8 * width:
        raise ValueError(f"its length {length} does not fit into {framing.length}")
    header[framing.offset : framing.offset + width] = length.to_bytes(width, order)
    return bytes(header) + message


def _varint(_framing: framings.Varint, message: bytes) -> bytes:
    left, header = len(message), bytearray()
    while left > 0x7F:  # noqa: PLR2004 - seven bits a byte
        header.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes(header) + bytes([left]) + message


def _fixed(framing: framings.FixedSize, message: bytes) -> bytes:
    if len(message) != framing.bytes:
        raise ValueError(f"it has {len(message)} bytes, not {framing.bytes}")
    return message


def _syslog(_framing: framings.Syslog, message: bytes) -> bytes:
    if not message:
        raise ValueError("octet counting has no empty messages")
    return b"%d %s" % (len(message), message)


def _syslog_line(message: bytes) -> bytes:
    if b"\n" in message:
        raise ValueError("it holds a line break, which needs octet counting")
    if message[:1] in b"123456789" and message:
        raise ValueError("it begins with a digit, which would be taken for an octet count")
    return message + b"\n"


_KINDS: Final[tuple[tuple[type, Callable[..., bytes]], ...]] = (
    (framings.Raw, _plain),
    (framings.ArrowIpc, _plain),
    (framings.Delimited, _delimited),
    (framings.LengthPrefixed, _length),
    (framings.Varint, _varint),
    (framings.FixedSize, _fixed),
    (framings.Syslog, _syslog),
)
