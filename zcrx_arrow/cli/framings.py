# SPDX-License-Identifier: Apache-2.0
"""``--framing`` and ``--preamble``: from text to a framing."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Final

from zcrx_arrow import framing as framings
from zcrx_arrow.cli.spec import Spec, naming
from zcrx_arrow.decoders import Decoder
from zcrx_arrow.errors import ConfigError

__all__ = ["CHOICES", "HELP", "SENDING_HELP", "parse_delimiter", "parse_framing", "read_framing"]

CHOICES: Final = "raw, lines, delimited, length, varint, fixed, syslog or arrow-ipc"

_TABLE: Final = r"""
  lines                     lines that end with LF
  delimited[:D]             ended by D: lf, crlf, nul, text, escapes such as \x1e
  length:TYPE               a header holds the length; TYPE is u8, u16be, u16le,
                            u32be, u32le, u64be or u64le; and then
    ,offset=N                 bytes of the header before it
    ,header=N                 bytes of the whole header
    ,counts-header            the length includes the header
    ,unit=N                   it counts so many bytes
    ,keep-header              the header is part of the payload
  varint                    a varint holds the length, as in protobuf
  fixed:SIZE                all have the same size
"""

HELP: Final = f"""
Framings, --framing and --preamble:
  raw                       as the kernel delivers
{_TABLE.strip(chr(10))}
  syslog                    RFC 6587: octet counts, and lines
  arrow-ipc                 Arrow IPC stream messages
  ...,max=SIZE              a longer message is an error
  ...,whole                 lines, delimited, syslog: the last one must be ended
"""

SENDING_HELP: Final = f"""
Framings, --framing, and --format for payloads:
{_TABLE.strip(chr(10))}
  syslog[,newline]          RFC 6587: octet counts, or lines
"""

_NAMED: Final = {"lf": b"\n", "crlf": b"\r\n", "nul": b"\x00"}


def read_framing(
    framing: str | None,
    preamble: str | None = None,
    *,
    drop_preamble: bool = False,
    delimiter: str | None = None,
    max_message: str | None = None,
    decoder: Decoder | None = None,
) -> framings.Framing | None:
    """
    Read what the options say together.

    Parameters
    ----------
    framing, preamble, drop_preamble, delimiter, max_message
        The options of those names.
    decoder : Decoder, optional
        Its framing is used without ``--framing``.

    Returns
    -------
    Framing or None
        None: nothing was said, so the library chooses.

    Raises
    ------
    ConfigError
        Naming the option.
    """
    if framing is not None:
        made: framings.Framing | None = parse_framing("--framing", framing, delimiter)
    elif delimiter is not None:
        raise ConfigError("--delimiter is for --framing delimited")
    else:
        made = decoder.framing if decoder is not None else None
    if max_message is not None:
        made = _limited(made, max_message)
    if preamble is None:
        if drop_preamble:
            raise ConfigError("--drop-preamble needs --preamble")
        return made
    if made is None:
        raise ConfigError("--preamble needs --framing, for what comes behind it")
    first = parse_framing("--preamble", preamble)
    with naming("--preamble", preamble):
        return framings.Preamble(first, made, drop=drop_preamble)


def parse_framing(option: str, text: str, delimiter: str | None = None) -> framings.Framing:
    """
    Read a framing, such as ``length:u16be,counts-header``.

    Raises
    ------
    ConfigError
        Naming `option`, and the choices.
    """
    spec = Spec(option, text)
    if delimiter is not None and spec.kind != "delimited":
        raise ConfigError(f"--delimiter is of no use with {option} {spec.kind}")
    if spec.kind not in _MAKERS:
        raise spec.unknown(CHOICES)
    with naming(option, text):
        return _MAKERS[spec.kind](spec, delimiter)


def _raw(spec: Spec, _delimiter: str | None) -> framings.Framing:
    spec.done()
    return framings.Raw()


def _lines(spec: Spec, _delimiter: str | None) -> framings.Framing:
    options = _terminated(spec)
    spec.done()
    return framings.Delimited(b"\n", **options)


def _delimited(spec: Spec, delimiter: str | None) -> framings.Framing:
    if spec.value is not None and delimiter is not None:
        raise spec.error("it says a delimiter, and so does --delimiter")
    options = _terminated(spec)
    spec.done(value=True)
    if spec.value is not None:
        return framings.Delimited(parse_delimiter(spec.value, spec.option), **options)
    return framings.Delimited(parse_delimiter(delimiter or "lf"), **options)


def _length(spec: Spec, _delimiter: str | None) -> framings.Framing:
    if not spec.value:
        raise spec.error("say the field, such as length:u32be")
    options = _limit(spec)
    for key, name in (("offset", "offset"), ("header", "header_size"), ("unit", "unit")):
        number = spec.number(key)
        if number is not None:
            options[name] = number
    options["counts_header"] = spec.flag("counts-header")
    options["keep_header"] = spec.flag("keep-header")
    spec.done(value=True)
    length: Any = spec.value  # checked by the framing
    return framings.LengthPrefixed(length, **options)


def _varint(spec: Spec, _delimiter: str | None) -> framings.Framing:
    options = _limit(spec)
    spec.done()
    return framings.Varint(**options)


def _fixed(spec: Spec, _delimiter: str | None) -> framings.Framing:
    spec.done(value=True)
    if not spec.value:
        raise spec.error("say the size, such as fixed:64")
    return framings.FixedSize(spec.value)


def _syslog(spec: Spec, _delimiter: str | None) -> framings.Framing:
    options = _terminated(spec)
    spec.done()
    return framings.Syslog(**options)


def _arrow_ipc(spec: Spec, _delimiter: str | None) -> framings.Framing:
    options = _limit(spec)
    spec.done()
    return framings.ArrowIpc(**options)


_Maker = Callable[[Spec, str | None], framings.Framing]
_MAKERS: Final[dict[str, _Maker]] = {
    "raw": _raw,
    "lines": _lines,
    "delimited": _delimited,
    "length": _length,
    "varint": _varint,
    "fixed": _fixed,
    "syslog": _syslog,
    "arrow-ipc": _arrow_ipc,
}


def _limit(spec: Spec) -> dict[str, Any]:
    limit = spec.size("max")
    return {} if limit is None else {"max_message": limit}


def _terminated(spec: Spec) -> dict[str, Any]:
    return {**_limit(spec), "emit_unterminated": not spec.flag("whole")}


def _limited(framing: framings.Framing | None, max_message: str) -> framings.Framing:
    """Give a framing with another limit."""
    names = {each.name for each in fields(framing)} if framing is not None else set()  # type: ignore[arg-type]
    if framing is None or "max_message" not in names:
        kind = "raw" if framing is None else type(framing).__name__
        raise ConfigError(f"--max-message is of no use with framing {kind}")
    with naming("--max-message", max_message):
        return replace(framing, max_message=max_message)  # type: ignore[type-var]


def parse_delimiter(text: str, option: str = "--delimiter") -> bytes:
    r"""
    Read a delimiter: ``lf``, ``crlf``, ``nul``, or text with escapes such as ``\r\n`` or ``\x1e``.

    Raises
    ------
    ConfigError
        If an escape is not one, or it is not 1 to 8 bytes.
    """
    if text.lower() in _NAMED:
        return _NAMED[text.lower()]
    try:
        delimiter = text.encode().decode("unicode_escape").encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise ConfigError(f"{option}={text!r} has an escape that is not one") from None
    if not 1 <= len(delimiter) <= 8:  # noqa: PLR2004 - the core's limit
        raise ConfigError(f"{option}={text!r}: a delimiter has 1 to 8 bytes, not {len(delimiter)}")
    return delimiter
