# SPDX-License-Identifier: Apache-2.0
"""``--schema``: a schema from text, or taken from a file that has one."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from zcrx_arrow.cli.spec import split
from zcrx_arrow.errors import ConfigError

__all__ = ["HELP", "arrow_type", "load_json", "read_schema"]

HELP: Final = """
Schemas, --schema: a Parquet file or Arrow IPC file or stream, whose schema is
taken; or JSON, in a file or as it is: {"field": TYPE, ...}. TYPE is
  "int64", "string", "timestamp[ns, UTC]", "decimal128(20, 9)", "binary", ...
  "list<TYPE>", "dictionary<TYPE>", or {"field": TYPE, ...} for a struct;
  and "TYPE not null" where a value must be there.
"""

_PARAMETERS: Final = re.compile(r"(\w+)\s*([\[(<])(.*)[\])>]")
_NOT_NULL: Final = " not null"


def read_schema(text: str) -> pa.Schema:
    """
    Read ``--schema``.

    Raises
    ------
    ConfigError
        If it holds no schema.
    OSError
        If the file cannot be read.
    """
    if text.lstrip().startswith("{"):
        return _from_json(text, "it")
    path = Path(text)
    with path.open("rb") as file:
        magic = file.read(64)
    try:
        if magic.startswith(b"PAR1"):
            return pq.read_schema(path).remove_metadata()
        if magic.startswith(b"ARROW1"):
            return pa.ipc.open_file(path).schema.remove_metadata()
        if magic.lstrip().startswith(b"{"):
            return _from_json(path.read_text("utf-8"), text)
        with path.open("rb") as file:
            return pa.ipc.read_schema(file).remove_metadata()
    except (pa.ArrowException, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--schema={text!r} is no Parquet or Arrow IPC file, and no JSON: {error}"
        ) from None


def load_json(text: str, option: str, where: str) -> dict[str, Any]:
    """
    Read a JSON object.

    Raises
    ------
    ConfigError
        If it is none, with the place where it stops to be.
    """
    try:
        made = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {where} is no JSON: {error}") from None
    if not isinstance(made, dict):
        raise ConfigError(f"{option}: {where} must be a JSON object")
    return made


def _from_json(text: str, where: str) -> pa.Schema:
    fields = load_json(text, "--schema", where)
    return pa.schema([_field(name, kind, "--schema") for name, kind in fields.items()])


def _field(name: str, kind: Any, option: str) -> pa.Field:
    needed = isinstance(kind, str) and kind.endswith(_NOT_NULL)
    bare = kind.removesuffix(_NOT_NULL) if needed else kind
    return pa.field(name, arrow_type(bare, option), nullable=not needed)


def arrow_type(kind: Any, option: str) -> pa.DataType:
    """
    Read a type, such as ``"timestamp[ns, UTC]"``; an object is a struct, a list of one a list.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if isinstance(kind, dict):
        return pa.struct([_field(name, each, option) for name, each in kind.items()])
    if isinstance(kind, list) and len(kind) == 1:
        return pa.list_(arrow_type(kind[0], option))
    if isinstance(kind, str):
        text = kind.strip()
        made = _with_parameters(text, option)
        if made is not None:
            return made
        try:
            return pa.type_for_alias(text)
        except ValueError:
            pass
    raise ConfigError(
        f"{option}: {kind!r} is no type",
        remedy="For example int64, double, string, binary, bool, date32, timestamp[ns, UTC], "
        "time64[us], decimal128(20, 9), list<int32>, dictionary<string>.",
    )


def _with_parameters(text: str, option: str) -> pa.DataType | None:
    match = _PARAMETERS.fullmatch(text)
    if match is None:
        return None
    name, inner = match[1], match[3].strip()
    if name in _NESTED:
        return _NESTED[name](arrow_type(inner, option))
    words = [word.strip() for word in split(inner)]
    try:
        return _PARAMETRIC[name](words) if name in _PARAMETRIC else None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{option}: {text!r} is no type: {error}") from None


_NESTED: Final[dict[str, Callable[[pa.DataType], pa.DataType]]] = {
    "list": pa.list_,
    "large_list": pa.large_list,
    "dictionary": lambda kind: pa.dictionary(pa.int32(), kind),
}
_PARAMETRIC: Final[dict[str, Callable[[list[str]], pa.DataType]]] = {
    "timestamp": lambda words: pa.timestamp(words[0], *(w.removeprefix("tz=") for w in words[1:])),
    "decimal": lambda words: pa.decimal128(*map(int, words)),
    "decimal128": lambda words: pa.decimal128(*map(int, words)),
    "decimal256": lambda words: pa.decimal256(*map(int, words)),
    "binary": lambda words: pa.binary(*map(int, words)),
    "fixed_size_binary": lambda words: pa.binary(*map(int, words)),
}
