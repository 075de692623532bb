# SPDX-License-Identifier: Apache-2.0
"""``--decode`` and what goes with it: from text to a decoder."""

from collections.abc import Callable
from typing import Any, Final

from zcrx_arrow import decoders
from zcrx_arrow.cli.layouts import read_layout
from zcrx_arrow.cli.schemas import read_schema
from zcrx_arrow.cli.spec import Spec, naming
from zcrx_arrow.errors import ConfigError

__all__ = ["CHOICES", "HELP", "character", "read_decoder"]

CHOICES: Final = "none, ndjson, csv, records:LAYOUT or arrow-ipc"

HELP: Final = """
Decoders, --decode:
  none                      messages, as column payload
  ndjson                    a JSON object a line
  csv                       delimited text, and then
    ,delimiter=C              tab, semicolon, pipe, space, or a character
    ,quote=C | ,no-quote      the character around values
    ,no-header                the first line names no columns; needs --schema
    ,null=TEXT                is null; may come several times
    ,timestamp=FORMAT         for strptime; may come several times
  records:LAYOUT            binary records, see below
  arrow-ipc                 Arrow IPC streams, and then
    ,trusted                  values are not looked through
    ,max-expanded=SIZE        of a message's buffers after decompression
"""

_CHARACTERS: Final = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_CHOICES: Final = {
    "on_error": ("fail", "null", "reject"),
    "on_drift": ("fail", "widen", "reject"),
    "extra": ("drift", "ignore"),
}
_ORIGINS: Final = ("connection", "position", "received_at")


def read_decoder(
    decode: str | None,
    *,
    schema: str | None = None,
    on_error: str | None = None,
    on_drift: str | None = None,
    extra: str | None = None,
    keep: str | None = None,
) -> decoders.Decoder | None:
    """
    Read what the options say together.

    Parameters
    ----------
    decode, schema, on_error, on_drift, extra, keep
        The options of those names; None where they are not given.

    Returns
    -------
    Decoder or None
        None: messages are not decoded.

    Raises
    ------
    ConfigError
        Naming the option, and the choices.
    OSError
        If a file cannot be read.
    """
    given = {
        "schema": schema,
        "on_error": on_error,
        "on_drift": on_drift,
        "extra": extra,
        "keep": keep,
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    text = decode if decode is not None else "none"
    kind = text.partition(":")[0].partition(",")[0]
    if kind not in _MAKERS:
        raise ConfigError(f"--decode={text!r} must be one of {CHOICES}")
    make, takes = _MAKERS[kind]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if name not in takes:
            raise ConfigError(f"{option} is of no use with --decode {kind}")
        if value not in _CHOICES.get(name, (value,)):
            raise ConfigError(f"{option}={value!r} must be one of {', '.join(_CHOICES[name])}")
    if "keep" in options:
        options["keep"] = _keep(options["keep"])
    if "schema" in options:
        options["schema"] = read_schema(options["schema"])
    with naming("--decode", text):
        return make(text, options)


def _keep(text: str) -> list[str]:
    names = list(_ORIGINS) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in _ORIGINS:
            raise ConfigError(f"--keep={text!r} must be all, or some of {', '.join(_ORIGINS)}")
    return names


def _none(text: str, _options: dict[str, Any]) -> None:
    Spec("--decode", text).done()


def _ndjson(text: str, options: dict[str, Any]) -> decoders.Decoder:
    Spec("--decode", text).done()
    return decoders.Ndjson(**options)


def _csv(text: str, options: dict[str, Any]) -> decoders.Decoder:
    spec = Spec("--decode", text)
    for name in ("delimiter", "quote"):
        value = spec.get(name)
        if value is not None:
            options[name] = character(value)
    if spec.flag("no-quote"):
        options["quote"] = None
    options["header"] = not spec.flag("no-header")
    for key, name in (("null", "null_values"), ("timestamp", "timestamp_formats")):
        values = spec.all(key)
        if values:
            options[name] = values
    spec.done()
    return decoders.Csv(**options)


def character(text: str) -> str:
    """Read a character that may be named."""
    return _CHARACTERS.get(text, "\t" if text == "\\t" else text)


def _records(text: str, options: dict[str, Any]) -> decoders.Decoder:
    given = read_layout("--decode", text.partition(":")[2])
    return decoders.Records(
        given.layout, types=given.types, nulls=given.nulls, **given.options, **options
    )


def _arrow_ipc(text: str, options: dict[str, Any]) -> decoders.Decoder:
    spec = Spec("--decode", text)
    limit = spec.size("max-expanded")
    if limit is not None:
        options["max_expanded"] = limit
    trusted = spec.flag("trusted")
    spec.done()
    return decoders.ArrowIpc(trusted=trusted, **options)


_Maker = Callable[[str, dict[str, Any]], decoders.Decoder | None]
_MAKERS: Final[dict[str, tuple[_Maker, tuple[str, ...]]]] = {
    "none": (_none, ()),
    "ndjson": (_ndjson, ("schema", "on_error", "on_drift", "extra", "keep")),
    "csv": (_csv, ("schema", "on_error", "on_drift", "extra", "keep")),
    "records": (_records, ("on_error", "keep")),
    "arrow-ipc": (_arrow_ipc, ("schema", "on_drift", "keep")),
}
