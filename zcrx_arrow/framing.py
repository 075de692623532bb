# SPDX-License-Identifier: Apache-2.0
r"""
How a byte stream is cut into messages.

Every framing here but one's own runs in the core, without the GIL. Each can stop and go on at any
byte: however the network cuts the stream, the messages are the same. What is unfinished is bounded
by ``max_message``; bytes that break the rules close their connection, with the position and the
reason in ``source.connections()``, after the messages before them were delivered.

====================  ===========================================================================
`Raw`                 none: a row is what the kernel delivered at a time
`Delimited`           a delimiter ends each message: lines, NDJSON, CSV, line protocol
`LengthPrefixed`      a header holds the length: SoupBinTCP, gRPC, DBN records, ...
`Varint`              a varint holds the length: protobuf's writeDelimitedTo
`FixedSize`           every message has the same size: records, structs
`Syslog`              RFC 6587, counted and line by line, told apart message by message
`ArrowIpc`            Arrow IPC stream messages
`Preamble`            the first message of a connection is framed in another way than the rest
`Framing`             your own, in Python: the slow way
====================  ===========================================================================
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from zcrx_arrow._native import ffi, lib
from zcrx_arrow.config import Size, one_of, parse_size, whole
from zcrx_arrow.errors import ConfigError

__all__ = [
    "ArrowIpc",
    "Delimited",
    "FixedSize",
    "Framing",
    "LengthPrefixed",
    "Preamble",
    "Raw",
    "Syslog",
    "Varint",
]

_MAX_DELIMITER: Final = 8
_MAX_MESSAGE: Final = 2**30
_MAX_HEADER: Final = 65536

Bounds = Sequence[tuple[int, int]]


class Framing(ABC):
    r"""
    The base of all framings, and of your own.

    To make one, give it `max_message` and `cut`. It runs in Python in the thread that pulls, for
    every fragment, and its messages are copied: expect some hundred thousand messages a second
    where the framings of the core do a hundred million. Where one of those fits, take it.

    >>> class Stx(Framing):
    ...     "STX, one byte of length, payload."
    ...     max_message = 255
    ...
    ...     def cut(self, data):
    ...         bounds, at = [], 0
    ...         while len(data) - at >= 2:
    ...             if data[at] != 2:
    ...                 if at:
    ...                     break  # first the messages before it
    ...                 raise ValueError("STX expected")
    ...             if len(data) - at < 2 + data[at + 1]:
    ...                 break
    ...             bounds.append((at + 2, data[at + 1]))
    ...             at += 2 + data[at + 1]
    ...         return bounds, at

    Thread safety
        One instance serves every connection of a source: keep no state in it. `cut` is never
        called by two threads at a time.
    """

    max_message: Size = "1 MiB"
    """An unfinished message may have this many bytes; more breaks the framing."""

    @abstractmethod
    def cut(self, data: memoryview) -> tuple[Bounds, int]:
        """
        Find messages.

        Parameters
        ----------
        data : memoryview
            Read-only bytes of one connection, from the beginning of a message on, at most
            `max_message` more than a fragment. Valid during the call.

        Returns
        -------
        bounds : sequence of (int, int)
            Start and length of each message's payload in `data`, in order, not overlapping.
        consumed : int
            How many bytes they use up, with all that belongs to them. The rest comes again, with
            more behind it.

        Raises
        ------
        ValueError
            If `data` begins with what breaks the framing: the connection is closed with the
            error's text. Return the messages before that first; what is left comes again.
        """

    def finish(self, data: memoryview) -> tuple[int, int] | None:  # noqa: ARG002
        """
        Say what bytes are that are left when a stream ends.

        Returns
        -------
        (int, int) or None
            Start and length of a last message, or None: then they are counted in
            ``partial_bytes``.
        """
        return None


class _Native(Framing):
    """A framing of the core."""

    _kind: ClassVar[int]

    def cut(self, data: memoryview) -> tuple[Bounds, int]:  # noqa: ARG002
        """Not to be called: the core does it. See `zcrx_arrow.frame`."""
        raise TypeError(f"{type(self).__name__} runs in the core; use zcrx_arrow.frame()")

    def _fill(self, core: Any) -> None:
        """Translate to ``struct za_framing_config``."""
        core.kind = self._kind
        core.max_message_bytes = parse_size(self.max_message, "max_message")

    def _check_limit(self) -> None:
        if not 1 <= parse_size(self.max_message, "max_message") <= _MAX_MESSAGE:
            raise ConfigError(f"max_message={self.max_message!r} must be 1 byte to 1 GiB")


@dataclass(frozen=True, slots=True)
class Raw(_Native):
    """No framing: a row is what the kernel delivered at a time, cut anywhere."""

    _kind = lib.ZA_FRAMING_RAW
    max_message = 1


@dataclass(frozen=True, slots=True)
class Delimited(_Native):
    r"""
    Messages that end with a delimiter, which is not part of the payload.

    Parameters
    ----------
    delimiter : bytes
        1 to 8 bytes, such as ``b"\n"`` or ``b"\r\n"``. Found from left to right, not overlapping.
    max_message : int or str
        A longer message is a framing error, which closes its connection and leaves the others
        alone. Messages before it are delivered.
    emit_unterminated : bool
        Whether bytes after the last delimiter are a message when the peer ends its stream. They
        never are after a reset: then they are counted in ``partial_bytes``.
    """

    delimiter: bytes = b"\n"
    max_message: Size = "1 MiB"
    emit_unterminated: bool = True

    _kind = lib.ZA_FRAMING_DELIMITED

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.delimiter, bytes) or not 1 <= len(self.delimiter) <= _MAX_DELIMITER:
            raise ConfigError(f"delimiter={self.delimiter!r} must be 1 to {_MAX_DELIMITER} bytes")
        self._check_limit()

    def _fill(self, core: Any) -> None:
        _Native._fill(self, core)  # noqa: SLF001 - super() does not know a class with slots
        core.delimiter_bytes = len(self.delimiter)
        ffi.memmove(core.delimiter, self.delimiter, len(self.delimiter))
        core.emit_unterminated = self.emit_unterminated


Length = Literal["u8", "u16be", "u16le", "u32be", "u32le", "u64be", "u64le"]
_LENGTHS: Final[tuple[Length, ...]] = (
    "u8",
    "u16be",
    "u16le",
    "u32be",
    "u32le",
    "u64be",
    "u64le",
)


@dataclass(frozen=True, slots=True)
class LengthPrefixed(_Native):
    """
    A header of fixed size that holds the message's length.

    Parameters
    ----------
    length : {"u8", "u16be", "u16le", "u32be", "u32le", "u64be", "u64le"}
        The field: unsigned, its width in bits and its byte order.
    offset : int
        Where in the header it lies.
    header_size : int, optional
        Bytes of the whole header; without it, the field ends the header.
    counts_header : bool
        Whether the length includes the header.
    unit : int
        The length counts so many bytes.
    keep_header : bool
        Whether the header is part of the payload.
    max_message : int or str
        Of the payload. A longer one closes its connection.

    Notes
    -----
    SoupBinTCP 4.00, section 2: ``LengthPrefixed("u16be")``. gRPC, "Length-Prefixed-Message":
    ``LengthPrefixed("u32be", offset=1)``. DBN records: ``LengthPrefixed("u8", unit=4,
    header_size=16, counts_header=True, keep_header=True)``, behind their metadata, see `Preamble`.
    """

    length: Length = "u32be"
    offset: int = 0
    header_size: int | None = None
    counts_header: bool = False
    unit: int = 1
    keep_header: bool = False
    max_message: Size = "1 MiB"

    _kind = lib.ZA_FRAMING_PREFIXED

    def __post_init__(self) -> None:
        """Check the values."""
        one_of(self.length, "length", _LENGTHS)
        whole(self.offset, "offset", 0, _MAX_HEADER - self._width)
        if self.header_size is not None:
            whole(self.header_size, "header_size", self.offset + self._width, _MAX_HEADER)
        whole(self.unit, "unit", 1, _MAX_HEADER)
        self._check_limit()

    @property
    def _width(self) -> int:
        return int(self.length[1:].rstrip("bel")) // 8

    def _fill(self, core: Any) -> None:
        _Native._fill(self, core)  # noqa: SLF001 - super() does not know a class with slots
        core.prefix.width = self._width
        core.prefix.offset = self.offset
        core.prefix.header_bytes = (
            self.offset + self._width if self.header_size is None else self.header_size
        )
        core.prefix.unit = self.unit
        core.prefix.swap = self._width > 1 and self.length.endswith("be") == (
            sys.byteorder == "little"
        )
        core.prefix.counts_header = self.counts_header
        core.prefix.keep_header = self.keep_header


@dataclass(frozen=True, slots=True)
class Varint(_Native):
    """
    A base-128 varint holds the message's length, as protobuf's ``writeDelimitedTo`` writes it.

    Parameters
    ----------
    max_message : int or str
        Of the payload. A longer one closes its connection.

    Notes
    -----
    Protocol Buffers, "Encoding", "Base 128 Varints".
    """

    max_message: Size = "1 MiB"

    _kind = lib.ZA_FRAMING_VARINT

    def __post_init__(self) -> None:
        """Check the values."""
        self._check_limit()


@dataclass(frozen=True, slots=True)
class FixedSize(_Native):
    """
    Every message has the same size.

    Parameters
    ----------
    size : int or str
        Bytes of a message.
    """

    size: Size

    _kind = lib.ZA_FRAMING_FIXED
    max_message = 1

    def __post_init__(self) -> None:
        """Check the values."""
        if not 1 <= parse_size(self.size, "size") <= _MAX_MESSAGE:
            raise ConfigError(f"size={self.size!r} must be 1 byte to 1 GiB")

    @property
    def bytes(self) -> int:
        """`size` in bytes."""
        return parse_size(self.size, "size")

    def _fill(self, core: Any) -> None:
        _Native._fill(self, core)  # noqa: SLF001 - super() does not know a class with slots
        core.fixed_bytes = self.bytes


@dataclass(frozen=True, slots=True)
class Syslog(_Native):
    """
    Syslog over TCP: octet counting and lines, told apart message by message.

    A message that begins with a digit from 1 to 9 is counted, every other one is a line that ends
    with LF; the count and the LF are not part of the payload.

    Parameters
    ----------
    max_message : int or str
        A longer message closes its connection.
    emit_unterminated : bool
        Whether a line is a message when the stream ends before its LF.

    Notes
    -----
    RFC 6587, sections 3.4.1 (octet counting) and 3.4.2 (non-transparent framing).
    """

    max_message: Size = "64 KiB"
    emit_unterminated: bool = True

    _kind = lib.ZA_FRAMING_SYSLOG

    def __post_init__(self) -> None:
        """Check the values."""
        self._check_limit()

    def _fill(self, core: Any) -> None:
        _Native._fill(self, core)  # noqa: SLF001 - super() does not know a class with slots
        core.emit_unterminated = self.emit_unterminated


@dataclass(frozen=True, slots=True)
class ArrowIpc(_Native):
    """
    Arrow IPC stream messages: a row is one encapsulated message, its prefix included.

    To have them as the batches that they hold, use the decoder `zcrx_arrow.decoders.ArrowIpc`.

    Parameters
    ----------
    max_message : int or str
        Metadata and body of a message. A longer one closes its connection.

    Notes
    -----
    Arrow columnar format, "Encapsulated message format", as written since Arrow 0.15.
    """

    max_message: Size = "256 MiB"

    _kind = lib.ZA_FRAMING_IPC

    def __post_init__(self) -> None:
        """Check the values."""
        self._check_limit()


@dataclass(frozen=True, slots=True)
class Preamble(_Native):
    """
    The first message of each connection is framed in another way than those that follow.

    Parameters
    ----------
    first, then : Framing
        Framings of the core; neither may be `Raw`.
    drop : bool
        Whether the first message is left out instead of being a row.

    Notes
    -----
    A DBN stream is "DBN", a version, the length of its metadata, and records behind that:
    ``Preamble(LengthPrefixed("u32le", offset=4), dbn_records, drop=True)``.
    """

    first: Framing
    then: Framing
    drop: bool = False

    max_message = 1

    def __post_init__(self) -> None:
        """Check the values."""
        for name, framing in (("first", self.first), ("then", self.then)):
            if not isinstance(framing, _Native) or isinstance(framing, Raw | Preamble):
                raise ConfigError(f"preamble: {name}={framing!r} must be a framing of the core")


def is_native(framing: Framing) -> bool:
    """Whether the core cuts by itself."""
    return isinstance(framing, _Native)


def to_core(framing: Framing, config: Any, *, blocks: bool) -> None:
    """
    Fill in the framing part of ``struct za_config``.

    With `blocks` a row is as many whole messages as lie together. A framing of the user's own
    gets raw fragments.
    """
    main = framing.then if isinstance(framing, Preamble) else framing
    if isinstance(framing, Preamble):
        assert isinstance(framing.first, _Native)  # noqa: S101 - see __post_init__
        framing.first._fill(config.preamble)  # noqa: SLF001 - of this module
        config.has_preamble = True
        config.drop_preamble = framing.drop
    if not isinstance(main, _Native):
        main = Raw()
    main._fill(config.framing)  # noqa: SLF001 - of this module
    config.framing.blocks = blocks
