# SPDX-License-Identifier: Apache-2.0
"""
A numpy structured dtype taken apart: where each value lies in a record, and what it becomes.

A *leaf* is one field of the core: elements that go to one buffer. A *node* says how a column is put
together from leaves.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from zcrx_arrow._native import lib
from zcrx_arrow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Layout", "Leaf", "Node", "structured"]


_NUMBERS: Final = {
    "i1": pa.int8(),
    "i2": pa.int16(),
    "i4": pa.int32(),
    "i8": pa.int64(),
    "u1": pa.uint8(),
    "u2": pa.uint16(),
    "u4": pa.uint32(),
    "u8": pa.uint64(),
    "f2": pa.float16(),
    "f4": pa.float32(),
    "f8": pa.float64(),
}
# Digits of the largest number in so many bytes: a decimal must have as many.
_DIGITS: Final = {1: 3, 2: 5, 3: 8, 4: 10, 5: 13, 6: 15, 7: 17, 8: 20}
_NO_NULLS: Final = (lib.ZA_FIELD_TEXT, lib.ZA_FIELD_VIEW, lib.ZA_FIELD_BOOL)
_INLINE: Final = 12  # bytes that a view holds itself
_LONG_WIDTHS: Final = (1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A field of the core: elements that go to one buffer."""

    path: str
    offsets: tuple[int, ...]
    size: int
    kind: int
    check: int
    out_bytes: int
    swap: bool
    signed: bool
    null: int | None
    below: int
    type: pa.DataType

    @property
    def shape(self) -> tuple[Any, ...]:
        """What must be the same in every layout that has a field of this name."""
        return (len(self.offsets), self.kind, self.out_bytes, self.type, self.check, self.null)


@dataclass(frozen=True, slots=True)
class Node:
    """A column, or part of one: how arrays are put together from leaves."""

    type: pa.DataType
    leaf: str | None = None
    fields: tuple[tuple[str, Node], ...] = ()
    item: Node | None = None

    def paths(self) -> list[str]:
        """Leaves that it is made of."""
        if self.leaf is not None:
            return [self.leaf]
        parts = [self.item] if self.item is not None else [node for _, node in self.fields]
        return [path for part in parts for path in part.paths()]


class Layout:
    """One dtype, taken apart."""

    def __init__(
        self,
        dtype: np.dtype[Any],
        types: Mapping[str, pa.DataType],
        nulls: Mapping[str, int],
        order: str,
    ) -> None:
        self.dtype = dtype
        self.leaves: list[Leaf] = []
        self._types, self._nulls, self._order = types, nulls, order
        self.columns = {
            name: self._take(name, *_field(dtype, name), np.zeros(1, "i8"))
            for name in dtype.names or ()
        }

    def _take(self, path: str, dtype: np.dtype[Any], offset: int, starts: Any) -> Node:
        """Take a field apart; `starts`: where in the record what surrounds it begins, each time."""
        starts = starts + offset
        if dtype.subdtype is not None:
            base, shape = dtype.subdtype
            return self._take_array(path, base, tuple(shape), starts)
        if dtype.names:
            fields = tuple(
                (name, self._take(f"{path}.{name}", *_field(dtype, name), starts))
                for name in dtype.names
            )
            return Node(pa.struct([(name, node.type) for name, node in fields]), fields=fields)
        leaf = self._leaf(path, dtype, starts)
        self.leaves.append(leaf)
        return Node(leaf.type, leaf=path)

    def _take_array(
        self, path: str, base: np.dtype[Any], shape: tuple[int, ...], starts: Any
    ) -> Node:
        if not shape:
            return self._take(path, base, 0, starts)
        stride = base.itemsize * int(np.prod(shape[1:], dtype=int))
        if not shape[0] or not stride:
            raise ConfigError(f"Records: field {path!r} is an array of nothing")
        inner = (starts[:, None] + np.arange(shape[0]) * stride).reshape(-1)
        item = self._take_array(path, base, shape[1:], inner)
        return Node(pa.list_(item.type, shape[0]), item=item)

    def _leaf(self, path: str, dtype: np.dtype[Any], starts: Any) -> Leaf:
        if not 1 <= dtype.itemsize <= 1 << 20:
            raise ConfigError(f"Records: field {path!r} of type {dtype} has no bytes, or too many")
        wanted = self._types.get(path)
        null = self._nulls.get(path)
        kind, check, out, made = _conversion(path, dtype, wanted)
        if dtype.kind == "V" and kind == lib.ZA_FIELD_WIDE:
            swap = self._order != sys.byteorder
        else:
            swap = dtype.itemsize > 1 and dtype.byteorder == (
                ">" if sys.byteorder == "little" else "<"
            )
        if null is None and dtype.kind in "mM":
            null = -(2**63)  # NaT
        if null is not None:
            if kind in _NO_NULLS or dtype.itemsize not in _LONG_WIDTHS:
                raise ConfigError(
                    f"Records: nulls={{{path!r}: ...}} needs a field that is a number"
                )
            null = _bits(path, null, dtype)
        return Leaf(
            path=path,
            offsets=tuple(int(start) for start in starts),
            size=dtype.itemsize,
            kind=kind,
            check=check,
            out_bytes=out,
            swap=swap,
            signed=dtype.kind in "imM",
            null=null,
            below=_limit(made),
            type=made,
        )


def _field(dtype: np.dtype[Any], name: str) -> tuple[np.dtype[Any], int]:
    assert dtype.fields is not None  # noqa: S101 - it has names
    field = dtype.fields[name]
    return field[0], field[1]


def _bits(path: str, null: float, dtype: np.dtype[Any]) -> int:
    """Give the bits of a value that means null."""
    size = dtype.itemsize
    if dtype.kind == "f":
        return int.from_bytes(np.array(null, dtype.newbyteorder("<")).tobytes(), "little")
    try:
        signed = dtype.kind in "imM" or null < 0
        return int.from_bytes(int(null).to_bytes(size, "little", signed=signed), "little")
    except OverflowError:
        raise ConfigError(
            f"Records: nulls={{{path!r}: {null}}} does not fit into {dtype}"
        ) from None


def _conversion(
    path: str, dtype: np.dtype[Any], wanted: pa.DataType | None
) -> tuple[int, int, int, pa.DataType]:
    """Choose how bytes become values: kind, check, bytes of a value, type."""
    natural = _natural(path, dtype)
    if wanted is None or wanted == natural[3]:
        return natural
    if dtype.kind == "M" and pa.types.is_timestamp(wanted) and wanted.unit == natural[3].unit:
        return *natural[:3], wanted
    integral = dtype.kind in "iu" or (dtype.kind == "V" and dtype.itemsize in _LONG_WIDTHS)
    none = lib.ZA_CHECK_NONE
    if dtype.kind in "SV" and (text := _text(path, dtype, wanted)):
        return text
    if integral and pa.types.is_decimal128(wanted):
        if wanted.precision < min(_DIGITS[dtype.itemsize], 19 if dtype.kind == "i" else 20):
            raise ConfigError(
                f"Records: field {path!r} needs decimal128 of {_DIGITS[dtype.itemsize]} digits"
            )
        return lib.ZA_FIELD_WIDE, none, 16, wanted
    if dtype.kind in "iu" and dtype.itemsize == 1 and pa.types.is_boolean(wanted):
        return lib.ZA_FIELD_BOOL, none, 0, wanted
    eight = (
        pa.types.is_timestamp(wanted)
        or pa.types.is_duration(wanted)
        or pa.types.is_time64(wanted)
        or wanted == pa.int64()
        or (wanted == pa.uint64() and dtype.kind != "i")
    )
    if integral and eight:
        fits = dtype.kind == "i" or dtype.itemsize < _LONG_WIDTHS[-1] or wanted == pa.uint64()
        checked = pa.types.is_time64(wanted) or not fits
        return lib.ZA_FIELD_WIDE, lib.ZA_CHECK_BELOW if checked else none, 8, wanted
    raise ConfigError(
        f"Records: types={{{path!r}: {wanted}}} cannot be made of {dtype}",
        remedy="Integers become int64, uint64, decimal128, timestamp, time64 or duration; bytes "
        "become string or binary, up to 12 of them string_view or binary_view, without trailing "
        "NULs and blanks.",
    )


def _text(
    path: str, dtype: np.dtype[Any], wanted: pa.DataType
) -> tuple[int, int, int, pa.DataType] | None:
    """Choose how bytes become text; None if it is none that is wanted."""
    plain = pa.types.is_string(wanted) or pa.types.is_binary(wanted)
    view = pa.types.is_string_view(wanted) or pa.types.is_binary_view(wanted)
    if not plain and not view:
        return None
    if view and dtype.itemsize > _INLINE:
        raise ConfigError(
            f"Records: field {path!r} of {dtype.itemsize} bytes is too long for {wanted}, which "
            f"takes {_INLINE}",
            remedy="Make it string or binary.",
        )
    checked = pa.types.is_string(wanted) or pa.types.is_string_view(wanted)
    check = lib.ZA_CHECK_UTF8 if checked else lib.ZA_CHECK_NONE
    kind, size = (lib.ZA_FIELD_VIEW, 16) if view else (lib.ZA_FIELD_TEXT, 0)
    return kind, check, size, wanted


def _limit(made: pa.DataType) -> int:
    """Say what a value of a type that is checked must be below."""
    if pa.types.is_time64(made):
        return 86_400 * (10**9 if made.unit == "ns" else 10**6)
    return 1 << 63


def _natural(path: str, dtype: np.dtype[Any]) -> tuple[int, int, int, pa.DataType]:
    """Choose the type of a field for which none was given."""
    none, size = lib.ZA_CHECK_NONE, dtype.itemsize
    if dtype.kind == "b":
        return lib.ZA_FIELD_BOOL, none, 0, pa.bool_()
    if dtype.kind in "iuf" and dtype.str[1:] in _NUMBERS:
        return lib.ZA_FIELD_COPY, none, size, _NUMBERS[dtype.str[1:]]
    if dtype.kind in "SV":
        return lib.ZA_FIELD_COPY, none, size, pa.binary(size)
    if dtype.kind in "mM":
        unit, step = np.datetime_data(dtype)
        if unit in ("s", "ms", "us", "ns") and step == 1:
            made = pa.timestamp(unit) if dtype.kind == "M" else pa.duration(unit)
            return lib.ZA_FIELD_COPY, none, 8, made
    raise ConfigError(
        f"Records: field {path!r} has type {dtype}, which has no Arrow type",
        remedy="Use integers, floats of 2, 4 or 8 bytes, bool, S, V, datetime64 and timedelta64 of "
        "s, ms, us or ns, structures and arrays of them.",
    )


def structured(layout: Any) -> np.dtype[Any]:
    """Make a structured dtype of what a user gave; raises `ConfigError`."""
    try:
        dtype: np.dtype[Any] = np.dtype(layout)
    except TypeError as error:
        raise ConfigError(f"Records: numpy makes no dtype of {layout!r}: {error}") from None
    if not dtype.names:
        raise ConfigError(f"Records: {dtype} has no fields")
    if dtype.hasobject:
        raise ConfigError("Records: Python objects do not come over a network")
    return dtype
