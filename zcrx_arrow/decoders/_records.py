# SPDX-License-Identifier: Apache-2.0
"""Binary messages of fixed layout, by numpy structured dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from zcrx_arrow.config import one_of, whole
from zcrx_arrow.decoders._base import Context, Decoder, Decoding, OnError, check_keep
from zcrx_arrow.decoders._layout import Layout, structured
from zcrx_arrow.decoders._records_fill import Plan, RecordsAtWork
from zcrx_arrow.errors import ConfigError
from zcrx_arrow.framing import FixedSize, Framing, Preamble

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Records"]

ByteOrder = Literal["little", "big"]
_ORDERS: Final[tuple[ByteOrder, ...]] = ("little", "big")
_ON_ERROR: Final[tuple[OnError, ...]] = ("fail", "null", "reject")
_MAX_LAYOUTS: Final = 250


class Records(Decoder):
    """
    Binary messages of fixed layout become columns, in the core.

    Parameters
    ----------
    layout : dtype or dict
        What `numpy.dtype` takes for a structured type, with offsets and byte orders as they are on
        the wire (``"<i8"``, ``">u2"``); nested structures become struct columns, sub-arrays
        fixed_size_list columns. Or several of them: a dict from the byte at `discriminator`
        (``b"A"``) to a layout.
    types : dict, optional
        Arrow types by field (``"price"``, ``"level.price"``), where the natural one is not meant:
        integers of any width can become ``timestamp``, ``time64``, ``duration``, ``int64``,
        ``uint64`` or scaled ``decimal128``; ``S`` and ``V`` fields ``string`` or ``binary`` without
        their trailing NULs and blanks. Naturally they are fixed_size_binary.
    nulls : dict, optional
        Values that mean null, by field, such as ``{"price": 2**63 - 1}``. NaT is null by itself.
    discriminator : int
        Offset of the byte that selects the layout, if there are several.
    union : str or None
        With several layouts: the name of a first column, dictionary of string, that tells which
        one a row has. The columns are those of all layouts by name, null where a row's layout has
        none. None leaves that column out.
    only : sequence of bytes, optional
        With several layouts: keep these; messages of the others are left out on purpose.
    byteorder : {"little", "big"}
        Of ``V`` fields that become numbers (numpy has no integers of 3, 5, 6 or 7 bytes).
    longer : bool
        Whether a message may be longer than its layout; the rest is ignored.
    skip_short : bool
        Whether messages that end before the discriminator are left out, on purpose: heartbeats.
    on_error : {"fail", "null", "reject"}
        For text that is not UTF-8 and numbers too large for their type. A record of another length,
        or of no known layout, has no values that could be null: there ``null`` is as ``fail``.
    keep : sequence of str or True
        Columns to add: ``connection``, ``position`` (of the record's first byte), ``received_at``.

    Notes
    -----
    Without a framing it is used with `FixedSize`. Any other must give one record a message.
    A ``bool`` is true if its byte is not 0. Thread safety: immutable.

    Examples
    --------
    >>> trade = np.dtype([("at", "<u8"), ("price", "<i8"), ("size", "<u4"), ("symbol", "S8")])
    >>> Records(trade, types={"at": pa.timestamp("ns", "UTC"), "price": pa.decimal128(20, 9),
    ...                       "symbol": pa.string()})
    """

    def __init__(
        self,
        layout: Any,
        *,
        types: Mapping[str, pa.DataType] | None = None,
        nulls: Mapping[str, int] | None = None,
        discriminator: int = 0,
        union: str | None = "message_type",
        only: Any = None,
        byteorder: ByteOrder = "little",
        longer: bool = False,
        skip_short: bool = False,
        on_error: OnError = "fail",
        keep: Any = (),
    ) -> None:
        one_of(byteorder, "byteorder", _ORDERS)
        one_of(on_error, "on_error", _ON_ERROR)
        several = isinstance(layout, Mapping)
        given = dict(layout) if isinstance(layout, Mapping) else {b"": layout}
        if not given or len(given) > _MAX_LAYOUTS:
            raise ConfigError(f"Records: there must be 1 to {_MAX_LAYOUTS} layouts")
        keys = [_key(key) for key in given] if several else [b""]
        wanted = set(keys) if only is None else {_key(key) for key in only}
        if not wanted or not wanted <= set(keys):
            raise ConfigError(f"Records: only={only!r} names a layout that there is none for")
        layouts = [
            Layout(structured(each), types or {}, nulls or {}, byteorder) for each in given.values()
        ]
        _check_paths(layouts, types or {}, nulls or {})
        if several:
            smallest = min(each.dtype.itemsize for each in layouts)
            whole(discriminator, "discriminator", 0, smallest - 1)
        self._plan = Plan(
            keys=keys,
            layouts=layouts,
            wanted=wanted,
            several=several,
            discriminator=discriminator if several else -1,
            union=union if several else None,
            longer=longer,
            skip_short=skip_short,
            null_bad=on_error == "null",
            reject=on_error == "reject",
            keep=check_keep(keep),
        )

    @property
    def schema(self) -> pa.Schema:
        """Of the decoded batches."""
        return self._plan.schema

    @property
    def union(self) -> str | None:
        """Name of the column that tells layouts apart, if there is one."""
        return self._plan.union

    @property
    def kinds(self) -> dict[str, pa.Schema]:
        """Columns of each layout that is kept, with the kept origins, by its key."""
        return self._plan.kinds

    @property
    def framing(self) -> Framing:
        """`FixedSize`, if all layouts have one size."""
        sizes = self._plan.sizes
        if len(sizes) != 1 or self._plan.longer:
            raise ConfigError(
                "Records: a framing is needed, since messages differ in size",
                remedy="For example framing=LengthPrefixed('u16be').",
            )
        return FixedSize(sizes.pop())

    def blocks(self, framing: Framing) -> bool:
        """Whether records lie one behind the other: then they are decoded as they lie."""
        main = framing.then if isinstance(framing, Preamble) else framing
        if not isinstance(main, FixedSize):
            return False
        sizes = self._plan.sizes
        if (not self._plan.longer and sizes != {main.bytes}) or main.bytes < min(sizes):
            raise ConfigError(
                f"FixedSize({main.size}) does not fit records of {sorted(sizes)} bytes"
            )
        # Behind a preamble that is kept, the first row is no record.
        return not isinstance(framing, Preamble) or framing.drop

    def start(self, context: Context, framing: Framing) -> Decoding:
        """Begin with a source."""
        main = framing.then if isinstance(framing, Preamble) else framing
        block = main.bytes if isinstance(main, FixedSize) and self.blocks(framing) else 0
        return RecordsAtWork(self._plan, context, block)


def _check_paths(
    layouts: list[Layout], types: Mapping[str, pa.DataType], nulls: Mapping[str, int]
) -> None:
    paths = {leaf.path for each in layouts for leaf in each.leaves}
    for option, named in (("types", types), ("nulls", nulls)):
        for path in named:
            if path not in paths:
                raise ConfigError(f"Records: {option} names {path!r}, which is no field")


def _key(key: Any) -> bytes:
    if isinstance(key, int) and 0 <= key <= 255:  # noqa: PLR2004 - a byte
        return bytes([key])
    if isinstance(key, str) and len(key) == 1 and key.isascii():
        return key.encode()
    if isinstance(key, bytes) and len(key) == 1:
        return key
    raise ConfigError(f"Records: {key!r} must be one byte")
