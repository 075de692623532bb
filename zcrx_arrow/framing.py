# SPDX-License-Identifier: Apache-2.0
"""How a byte stream is cut into messages."""

from __future__ import annotations

from dataclasses import dataclass

from zcrx_arrow.config import Size, parse_size
from zcrx_arrow.errors import ConfigError

__all__ = ["Delimited", "Framing", "Raw"]

_MAX_DELIMITER = 8
_MAX_MESSAGE = 2**30


@dataclass(frozen=True, slots=True)
class Raw:
    """No framing: a row is what the kernel delivered at a time, cut anywhere."""


@dataclass(frozen=True, slots=True)
class Delimited:
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

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.delimiter, bytes) or not 1 <= len(self.delimiter) <= _MAX_DELIMITER:
            raise ConfigError(f"delimiter={self.delimiter!r} must be 1 to {_MAX_DELIMITER} bytes")
        if not 1 <= parse_size(self.max_message, "max_message") <= _MAX_MESSAGE:
            raise ConfigError(f"max_message={self.max_message!r} must be 1 byte to 1 GiB")


Framing = Raw | Delimited
