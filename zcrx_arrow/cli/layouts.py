# SPDX-License-Identifier: Apache-2.0
"""The layout of binary records, as JSON or in short: for ``records:`` of both directions."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from zcrx_arrow.cli.schemas import arrow_type, load_json
from zcrx_arrow.cli.spec import split
from zcrx_arrow.errors import ConfigError

__all__ = ["HELP", "RecordLayout", "read_layout"]

HELP: Final = """
Records, records:LAYOUT. LAYOUT is the name of a JSON file, or that JSON, or
fields in short, as in 'at=u64le:timestamp[ns,UTC],price=i64le,symbol=S8:string':
  NAME=WIRE[:TYPE],...      WIRE is u8 i8 bool u16le i32be f64le ... (bits),
                            S8 V8 (bytes), or numpy's '<u4'; TYPE is Arrow's
The JSON object has these members; only the first is needed:
  "layout"                  what numpy's dtype.descr gives: [[NAME, WIRE],
                            [NAME, WIRE, SHAPE], [NAME, [[...], ...]], ...], or
                            {"names": [], "formats": [], "offsets": [],
                            "itemsize": N}, or several: {"A": [...], "D": [...]}
                            by a byte, written "A" or "0x41"
  "types"                   {FIELD: TYPE}, see --schema
  "nulls"                   {FIELD: NUMBER}: the number that means null
  "discriminator"           offset of the byte that tells several layouts apart
  "union"                   column with that byte; null: none
  "only"                    ["A", ...]: keep these
  "byteorder"               "little" or "big": of V fields that become numbers
  "longer"                  true: a message may be longer than its layout
"""

_SHORT: Final = re.compile(r"([uif])(8|16|32|64)(le|be)?")
_ORDER: Final = {"le": "<", "be": ">", None: "|"}
_NUMPY: Final = re.compile(r"[<>|].+|[SV]\d+|\?")
_MEMBERS: Final = (
    "layout",
    "types",
    "nulls",
    "discriminator",
    "union",
    "only",
    "byteorder",
    "longer",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordLayout:
    """What ``records:`` says; the members are the arguments of `zcrx_arrow.decoders.Records`."""

    layout: np.dtype[Any] | dict[bytes, np.dtype[Any]]
    types: dict[str, pa.DataType] = field(default_factory=dict)
    nulls: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def layouts(self) -> Mapping[bytes, np.dtype[Any]]:
        """By discriminator; a single one by ``b""``."""
        return self.layout if isinstance(self.layout, dict) else {b"": self.layout}


def read_layout(option: str, text: str) -> RecordLayout:
    """
    Read what stands behind ``records:``.

    Raises
    ------
    ConfigError
        Naming the option, and what it stumbled over.
    OSError
        If the file cannot be read.
    """
    if not text:
        raise ConfigError(f"{option}: say the layout, such as records:layout.json")
    if text.lstrip().startswith("{"):
        return _from_json(option, load_json(text, option, "the layout"))
    if "=" in text and not text.endswith(".json"):
        return _from_fields(option, text)
    return _from_json(option, load_json(Path(text).read_text("utf-8"), option, text))


def _from_fields(option: str, text: str) -> RecordLayout:
    fields: list[tuple[str, Any]] = []
    types: dict[str, pa.DataType] = {}
    for part in split(text):
        name, equals, kind = part.strip().partition("=")
        wire, colon, made = kind.partition(":")
        if not equals or not name:
            raise ConfigError(f"{option}: {part!r} must be NAME=WIRE or NAME=WIRE:TYPE")
        fields.append((name, _wire(option, wire, short=True)))
        if colon:
            types[name] = arrow_type(made, option)
    return RecordLayout(layout=_dtype(option, fields), types=types)


def _from_json(option: str, given: dict[str, Any]) -> RecordLayout:
    for name in given:
        if name not in _MEMBERS:
            raise ConfigError(f"{option}: {name!r} must be one of {', '.join(_MEMBERS)}")
    if "layout" not in given:
        raise ConfigError(f'{option}: the layout has no "layout"')
    for name in ("types", "nulls"):
        if not isinstance(given.get(name, {}), dict):
            raise ConfigError(f"{option}: {name!r} must be an object, by field")
    for path, null in given.get("nulls", {}).items():
        if not isinstance(null, int | float):
            raise ConfigError(f"{option}: nulls: {path!r} must be a number, not {null!r}")
    options: dict[str, Any] = {name: given[name] for name in _MEMBERS[3:] if name in given}
    if isinstance(options.get("only"), list):
        options["only"] = [_key(option, key) for key in options["only"]]
    return RecordLayout(
        layout=_layouts(option, given["layout"]),
        types={name: arrow_type(kind, option) for name, kind in given.get("types", {}).items()},
        nulls=given.get("nulls", {}),
        options=options,
    )


def _layouts(option: str, given: Any) -> np.dtype[Any] | dict[bytes, np.dtype[Any]]:
    if isinstance(given, dict) and "names" not in given:
        return {_key(option, key): _one(option, each) for key, each in given.items()}
    return _one(option, given)


def _key(option: str, key: Any) -> bytes:
    if isinstance(key, str) and len(key) == 1 and key.isascii():
        return key.encode()
    try:
        return bytes([int(key, 16)]) if key.startswith("0x") else bytes([int(key)])
    except (ValueError, AttributeError, TypeError):
        raise ConfigError(f'{option}: {key!r} must be a byte, such as "A" or "0x41"') from None


def _one(option: str, given: Any) -> np.dtype[Any]:
    """Make a structured dtype of numpy's ``descr``, or of its dict form."""
    if isinstance(given, dict):
        given = dict(given)
        try:
            given["formats"] = [_format(option, each) for each in given["formats"]]
            return np.dtype(given)  # type: ignore[no-any-return]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{option}: numpy makes no dtype of {given!r}: {error}") from None
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{option}: a layout must be a list of [NAME, WIRE], not {given!r}")
    fields: list[tuple[str, Any]] = []
    for each in given:
        if not isinstance(each, list) or not 2 <= len(each) <= 3 or not isinstance(each[0], str):  # noqa: PLR2004
            raise ConfigError(f"{option}: {each!r} must be [NAME, WIRE] or [NAME, WIRE, SHAPE]")
        kind: Any = _format(option, each[1])
        if each[2:]:
            shape = each[2] if isinstance(each[2], int) else tuple(each[2])
            kind = np.dtype((kind, shape))
        fields.append((each[0], kind))
    return _dtype(option, fields)


def _format(option: str, given: Any) -> np.dtype[Any]:
    return _one(option, given) if isinstance(given, list | dict) else _wire(option, given)


def _wire(option: str, text: Any, *, short: bool = False) -> np.dtype[Any]:
    """Read the type of a value on the wire; what could mean two things is refused."""
    if isinstance(text, str):
        word = text.strip()
        match = _SHORT.fullmatch(word)
        if match and match[1] + match[2] != "f8" and (match[3] or (match[2] == "8" and short)):
            return np.dtype(f"{_ORDER[match[3]]}{match[1]}{int(match[2]) // 8}")
        try:
            if word == "bool":
                return np.dtype("?")
            if _NUMPY.fullmatch(word):
                return np.dtype(word)
        except TypeError:
            pass
    raise ConfigError(
        f"{option}: {text!r} is no type on the wire, or says no byte order",
        remedy="Write u16le, i64be, f64le, '<u4', '|u1', bool, S8, V8 or '<M8[ns]'.",
    )


def _dtype(option: str, fields: Iterable[tuple[str, Any]]) -> np.dtype[Any]:
    """Put fields one behind the other; those without a name are padding, as numpy writes it."""
    at, names, formats, offsets = 0, [], [], []
    for name, kind in fields:
        if name:
            names.append(name)
            formats.append(kind)
            offsets.append(at)
        at += kind.itemsize
    try:
        return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": at})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{option}: numpy makes no dtype of this: {error}") from None
