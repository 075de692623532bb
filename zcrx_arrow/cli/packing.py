# SPDX-License-Identifier: Apache-2.0
"""Rows packed into binary records: the other direction of `zcrx_arrow.decoders.Records`."""

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zcrx_arrow.cli.layouts import RecordLayout
from zcrx_arrow.errors import ConfigError

__all__ = ["Packer"]

Records = npt.NDArray[Any]
Order = Literal["little", "big"]

_UNION: Final = "message_type"


class Packer:
    """
    Packs batches by a layout.

    Parameters
    ----------
    layout : RecordLayout
        As `zcrx_arrow.decoders.Records` takes it; each field is a column of its name.
    """

    def __init__(self, layout: RecordLayout) -> None:
        self._layout = layout
        self._several = isinstance(layout.layout, dict)
        self._union = layout.options.get("union", _UNION)
        self._order: Order = layout.options.get("byteorder", "little")
        if self._several and self._union is None:
            raise ConfigError('"union": null leaves no column that tells a row\'s layout')

    @property
    def size(self) -> int | None:
        """Bytes of a record; None if they differ."""
        sizes = {each.itemsize for each in self._layout.layouts.values()}
        return sizes.pop() if len(sizes) == 1 else None

    def messages(self, batch: pa.RecordBatch) -> list[bytes]:
        """
        Give a record a row.

        Raises
        ------
        ConfigError
            If a column is missing.
        ValueError
            If a value does not fit; names the column.
        """
        if not self._several:
            return _cut(self._pack(batch, self._layout.layouts[b""]))
        keys = _column(batch, self._union).cast(pa.string()).to_pylist()
        made: list[bytes] = [b""] * len(keys)
        for key in dict.fromkeys(keys):
            rows = [at for at, each in enumerate(keys) if each == key]
            for at, record in zip(rows, self._records(batch.take(rows), key), strict=True):
                made[at] = record
        return made

    def whole(self, batch: pa.RecordBatch) -> bytes:
        """Give all records, one behind the other."""
        if self._several:
            return b"".join(self.messages(batch))
        return self._pack(batch, self._layout.layouts[b""]).tobytes()

    def _records(self, batch: pa.RecordBatch, key: str | None) -> list[bytes]:
        byte = (key or "").encode("latin-1", "replace")
        if byte not in self._layout.layouts:
            raise ValueError(f"column {self._union!r}: there is no layout for {key!r}")
        packed = self._pack(batch, self._layout.layouts[byte])
        raw = packed.view("u1").reshape(len(packed), -1)
        raw[:, self._layout.options.get("discriminator", 0)] = byte[0]
        return _cut(packed)

    def _pack(self, batch: pa.RecordBatch, dtype: np.dtype[Any]) -> Records:
        packed = np.zeros(batch.num_rows, dtype)
        for name in dtype.names or ():
            self._put(packed, name, name, _column(batch, name))
        return packed

    def _put(self, target: Records, name: str, path: str, array: pa.Array) -> None:
        """Fill a field of `target`."""
        assert target.dtype.fields is not None  # noqa: S101 - it has names
        dtype = target.dtype.fields[name][0]
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        try:
            target[name] = self._values(path, dtype, array)
        except (pa.ArrowException, OverflowError) as error:
            raise ValueError(f"column {path!r}: {error}") from None

    def _values(self, path: str, dtype: np.dtype[Any], array: pa.Array) -> Records:
        if dtype.subdtype is not None:
            return self._items(path, *dtype.subdtype, array)
        if dtype.names:
            if not pa.types.is_struct(array.type):
                raise ValueError(f"column {path!r} must be a struct, not {array.type}")
            packed = np.zeros(len(array), dtype)
            fields = dict(zip(array.type.names, array.flatten(), strict=True))
            for name in dtype.names:
                if name not in fields:
                    raise ConfigError(f"column {path!r} has no field {name!r}")
                self._put(packed, name, f"{path}.{name}", fields[name])
            return packed
        return self._leaf(path, dtype, array)

    def _items(
        self, path: str, base: np.dtype[Any], shape: tuple[int, ...], array: pa.Array
    ) -> Records:
        lengths = array.value_lengths().to_pylist() if hasattr(array, "value_lengths") else [None]
        if set(lengths) - {shape[0]}:
            raise ValueError(f"column {path!r} must be lists of {shape[0]}, none of them null")
        inner = np.dtype((base, shape[1:])) if shape[1:] else base
        items = self._values(path, inner, array.flatten())
        return items.reshape(len(array), *shape)

    def _leaf(self, path: str, dtype: np.dtype[Any], array: pa.Array) -> Records:
        null = self._layout.nulls.get(path, -(2**63) if dtype.kind in "mM" else None)
        missing = array.is_null().to_numpy(zero_copy_only=False)
        if missing.any() and null is None:
            raise ValueError(f"column {path!r} has a null, for which the layout has no number")
        values = _numbers(path, dtype, array, self._layout.types.get(path), self._order)
        if path in self._layout.nulls and values.dtype.kind in "iuf":
            taken = (values == np.array(null).astype(values.dtype)) & ~missing
            if taken.any():
                raise ValueError(f"column {path!r} has {null}, which means null in the layout")
        if missing.any():
            values = values.copy()
            if values.dtype.kind == "V":
                values[missing] = np.frombuffer(
                    _bytes_of(int(null or 0), dtype, self._order), dtype
                )
            else:
                values[missing] = np.array(null).astype(values.dtype)
        return values


def _numbers(
    path: str, dtype: np.dtype[Any], array: pa.Array, wanted: pa.DataType | None, order: Order
) -> Records:
    """Give values as numpy has them; nulls are anything."""
    kind = dtype.kind
    if kind == "b":
        return _filled(array.cast(pa.bool_()), value=False)
    if kind == "f":
        return _filled(array.cast(pa.from_numpy_dtype(dtype.newbyteorder("="))), value=0)
    if kind == "S" or (kind == "V" and not _is_number(array.type)):
        return _texts(path, dtype, array)
    if kind in "mM":
        unit = np.datetime_data(dtype)[0]
        wanted = pa.timestamp(unit, _zone(array)) if kind == "M" else pa.duration(unit)
    whole = _whole(array, wanted, signed=kind != "u")
    if kind in "mM":
        return _filled(whole, value=0).view(dtype.newbyteorder("="))
    if kind == "V":
        numbers = _filled(whole, value=0).tolist()
        return np.frombuffer(b"".join(_bytes_of(each, dtype, order) for each in numbers), dtype)
    if pa.types.is_boolean(whole.type):
        whole = whole.cast(pa.uint8())
    return _filled(whole.cast(pa.from_numpy_dtype(dtype.newbyteorder("="))), value=0)


def _zone(array: pa.Array) -> str | None:
    return "UTC" if pa.types.is_timestamp(array.type) and array.type.tz else None


def _filled(array: pa.Array, *, value: Any) -> Records:
    made: Records = pc.fill_null(array, pa.scalar(value, array.type)).to_numpy(zero_copy_only=False)
    return made


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_temporal(kind) or pa.types.is_decimal(kind)
    )


def _whole(array: pa.Array, wanted: pa.DataType | None, *, signed: bool) -> pa.Array:
    """Give whole numbers: counts of a time's unit, a decimal without its point."""
    if wanted is not None and (pa.types.is_temporal(wanted) or pa.types.is_decimal(wanted)):
        if pa.types.is_timestamp(wanted) and not pa.types.is_timestamp(array.type):
            array = array.cast(pa.timestamp(wanted.unit, wanted.tz))
        array = array.cast(wanted)
    if pa.types.is_decimal(array.type) and wanted is not None:
        return _unscaled(array.cast(pa.decimal128(38, array.type.scale)), signed=signed)
    if pa.types.is_temporal(array.type):
        bits = pa.int64() if array.type.bit_width == 64 else pa.int32()  # noqa: PLR2004
        return array.cast(bits)
    return array


def _unscaled(array: pa.Array, *, signed: bool) -> pa.Array:
    words = np.frombuffer(array.buffers()[1], "<i8").reshape(-1, 2)
    words = words[array.offset : array.offset + len(array)]
    low, high = words[:, 0], words[:, 1]
    missing = array.is_null().to_numpy(zero_copy_only=False)
    fits = (high == low >> 63) if signed else (high == 0)
    if not (fits | missing).all():
        raise pa.ArrowInvalid("a decimal has more than 64 bits")
    return pa.array(low if signed else low.view("<u8"), mask=missing)


def _texts(path: str, dtype: np.dtype[Any], array: pa.Array) -> Records:
    values = [value or b"" for value in array.cast(pa.binary()).to_pylist()]
    longest = max(map(len, values), default=0)
    if longest > dtype.itemsize:
        raise ValueError(f"column {path!r} has {longest} bytes; {dtype.itemsize} is the most")
    padded = np.array(values, f"S{dtype.itemsize}")
    return padded if dtype.kind == "S" else padded.view(dtype)


def _bytes_of(value: int, dtype: np.dtype[Any], order: Order) -> bytes:
    """Write a number in so many bytes, of which numpy may have no integers."""
    try:
        return value.to_bytes(dtype.itemsize, order)
    except OverflowError:
        raise OverflowError(f"{value} does not fit into {dtype.itemsize} bytes") from None


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name not in batch.schema.names:
        raise ConfigError(
            f"there is no column {name!r} for the field of the layout; "
            f"there are {', '.join(batch.schema.names)}"
        )
    return batch.column(name)


def _cut(packed: Records) -> list[bytes]:
    data, size = packed.tobytes(), packed.dtype.itemsize
    return [data[at : at + size] for at in range(0, len(data), size)]
