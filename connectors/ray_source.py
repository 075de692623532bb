# SPDX-License-Identifier: Apache-2.0
"""
Ray reads feeds that its nodes receive: as micro-batches with `stream`, or a Dataset with `read`.

Needs ``zcrx-arrow[ray]``, on every node that receives or reads. Each `Receiver` is an actor on the
node that owns its address or its NIC queue. What it receives is copied once, from the receive
memory into the object store of that node; the objects belong to the driver, and outlive the actor.
"""

from __future__ import annotations

import errno
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError

from zcrx_arrow.config import Duration, Size, parse_duration, parse_size, whole
from zcrx_arrow.connectors.ray_block import Block, Range
from zcrx_arrow.connectors.ray_feed import (
    Death,
    FeedDiedError,
    Gap,
    Lost,
    LostError,
    MicroBatch,
)
from zcrx_arrow.connectors.ray_receiver import Receiver, Restart
from zcrx_arrow.connectors.ray_stream import Event, OnDeath, Stream
from zcrx_arrow.errors import ConfigError, UnsupportedError, ZcrxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa

__all__ = [
    "Bounds",
    "Death",
    "FeedDiedError",
    "Gap",
    "Lost",
    "LostError",
    "MicroBatch",
    "Range",
    "Receiver",
    "Restart",
    "Stream",
    "dataset",
    "read",
    "stream",
]


def stream(
    receivers: Receiver | Iterable[Receiver],
    *,
    latency: Duration = "0.2 s",
    target: Size = "1 MiB",
    backlog: Size = "32 MiB",
    on_death: OnDeath = "fail",
    on_event: Callable[[Event], None] | None = None,
    start_timeout: Duration = "60 s",
    answer_timeout: Duration | None = "30 s",
) -> Stream:
    """
    Receive on nodes of a Ray cluster, and give micro-batches as they come.

    Parameters
    ----------
    receivers : Receiver or iterable of Receiver
        One for each address or NIC queue.
    latency : float or str
        How long it may take from a row's arrival until its micro-batch can be taken. A block
        gathers for half of it.
    target : int or str
        Bytes at which a block is handed over at once; at most a quarter of the area.
    backlog : int or str
        Of each receiver: so many bytes, in blocks of `target`, may be handed over and not consumed;
        a block of a slow feed counts as a whole one; at least 2 blocks, at most 256. Beyond, it
        pulls nothing, its queue fills, the TCP windows close and the peers wait.
    on_death : {"fail", "restart"} or Restart
        What is done when an actor, its node or its source fails, or an actor hangs: a
        `FeedDiedError`, or it is started again.
    on_event : callable, optional
        Called with each `Death`, `Gap` and `Lost`, by the thread that iterates. They are logged
        too, and kept in ``stream.events``.
    start_timeout : float or str
        For an actor to start and open its source.
    answer_timeout : float or str, optional
        An actor whose process has not answered for so long hangs: it is killed, and has failed.
        Only the time in which somebody iterates counts. Blocks that it had handed over come first;
        a new one starts when Ray has ended the old one, some 6 s later. None: never.

    Returns
    -------
    Stream
        An iterator of `MicroBatch`, to be closed by the caller; a context manager. Every source is
        open when this returns: ``stream.addresses``.

    Raises
    ------
    ConfigError
        If an option cannot work; before anything is started.
    ZcrxError
        If Ray is not initialised, or a source cannot be opened, named in the message. Nothing
        stays open then.
    """
    return Stream(
        [receivers] if isinstance(receivers, Receiver) else receivers,
        latency=latency,
        target=target,
        backlog=backlog,
        on_death=on_death,
        on_event=on_event,
        start_timeout=start_timeout,
        answer_timeout=answer_timeout,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """
    Where `read` stops: at the first of these that is reached, or when every feed has ended.

    Parameters
    ----------
    rows : int, optional
        Exactly so many, of all receivers together. The last block is cut; its `ranges` are those
        of the whole one.
    bytes : int or str, optional
        When there are at least so many bytes in blocks; the last block is whole.
    seconds : float or str, optional
        So long after all sources are open; what has come until then and is in no block is left.
    """

    rows: int | None = None
    bytes: Size | None = None
    seconds: Duration | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.rows is None and self.bytes is None and self.seconds is None:
            raise ConfigError("read: give rows=, bytes= or seconds=; a feed may never end")
        if self.rows is not None:
            whole(self.rows, "rows", 1, 2**63 - 1)
        if self.bytes is not None:
            parse_size(self.bytes, "bytes")
        if self.seconds is not None:
            parse_duration(self.seconds, "seconds")


def read(
    receivers: Receiver | Iterable[Receiver],
    *,
    rows: int | None = None,
    bytes: Size | None = None,  # noqa: A002 - what users know
    seconds: Duration | None = None,
    on_block: Callable[[MicroBatch], None] | None = None,
    on_start: Callable[[Stream], None] | None = None,
    **options: Any,
) -> Any:
    """
    Receive on nodes of a Ray cluster, up to a bound, and give a Dataset.

    Parameters
    ----------
    receivers : Receiver or iterable of Receiver
        One for each address or NIC queue; all must have the same columns.
    rows, bytes, seconds
        At least one, see `Bounds`.
    on_block : callable, optional
        Called with each block that the Dataset is made of: its receiver, positions, gap.
    on_start : callable, optional
        Called with the open stream, before anything is taken, for its addresses.
    **options
        See `stream`; here ``latency="1 s"`` and ``target="8 MiB"`` if not given. With
        ``on_death="restart"`` blocks that are lost with their node are left out, each told as a
        `Lost`.

    Returns
    -------
    ray.data.MaterializedDataset
        Its blocks are in the object store already, each on the node that received it. Every actor
        has ended when this returns.

    Raises
    ------
    ConfigError, ZcrxError
        See `stream`.
    UnsupportedError
        If the receivers' columns differ; before anything is taken, where they are known.
    FeedDiedError, LostError
        With ``on_death="fail"``.
    """
    bounds = Bounds(rows=rows, bytes=bytes, seconds=seconds)
    options.setdefault("latency", "1 s")
    options.setdefault("target", "8 MiB")
    with stream(receivers, **options) as feeds:
        _same_columns(feeds.schemas)
        if on_start is not None:
            on_start(feeds)
        blocks = _collect(feeds, bounds)
        schemas = [each for each in feeds.schemas.values() if each is not None]
    schema = schemas[0] if schemas else None
    try:
        made = dataset(blocks, schema=schema)
    except RayError:
        blocks = _found(feeds, blocks)
        made = dataset(blocks, schema=schema)
    if on_block is not None:
        for block in blocks:
            on_block(block)
    return made


def dataset(
    blocks: Iterable[MicroBatch],
    *,
    schema: pa.Schema | None = None,
) -> Any:
    """
    Make a Dataset of micro-batches, without moving their rows.

    Parameters
    ----------
    blocks : iterable of MicroBatch
        Such as those of a window of a `stream`.
    schema : pyarrow.Schema, optional
        Of a Dataset without rows.

    Returns
    -------
    ray.data.MaterializedDataset

    Raises
    ------
    ZcrxError
        If there is no block, and no schema is given.
    """
    import ray.data  # noqa: PLC0415 - takes a second, and streams do without

    refs = [block.ref for block in blocks]
    if not refs:
        if schema is None:
            raise ZcrxError(
                errno.ENODATA, "no row came that tells the columns", step="ray", remedy=_NO_ROWS
            )
        refs.append(ray.put(schema.empty_table()))
    return ray.data.from_arrow_refs(refs)


_NO_ROWS = "Give the decoder its schema, or wait for longer."


def _collect(feeds: Stream, bounds: Bounds) -> list[MicroBatch]:
    """Take what the bounds ask for."""
    most_rows = math.inf if bounds.rows is None else bounds.rows
    most_bytes = math.inf if bounds.bytes is None else parse_size(bounds.bytes)
    seconds = math.inf if bounds.seconds is None else parse_duration(bounds.seconds)
    end = time.monotonic() + seconds
    blocks: list[MicroBatch] = []
    rows = size = 0
    while rows < most_rows and size < most_bytes:
        left = max(0.0, end - time.monotonic())
        try:
            block = feeds.next_batch(left if math.isfinite(left) else None)
        except TimeoutError:
            break
        if block is None:
            break
        if rows + block.rows > most_rows:
            block = _cut(block, int(most_rows) - rows)
        blocks.append(block)
        rows += block.rows
        size += block.bytes
    return blocks


def _cut(block: MicroBatch, rows: int) -> MicroBatch:
    """Give the first rows of a block, as an object of their own on the same node."""
    head: Any = ray.remote(num_cpus=0, max_retries=0)(_head)
    size = block.bytes * rows // block.rows
    return replace(block, ref=head.remote(block.ref, rows), rows=rows, bytes=size)


def _head(table: pa.Table, rows: int) -> Block:
    return Block(table.slice(0, rows).to_batches(), compact=False)


def _found(feeds: Stream, blocks: list[MicroBatch]) -> list[MicroBatch]:
    """Leave out blocks that are lost with their node, and tell of them."""
    found = []
    for block in blocks:
        try:
            block.table()
        except LostError as error:
            feeds.lost(block, error)
        else:
            found.append(block)
    return found


def _same_columns(schemas: dict[str, pa.Schema | None]) -> None:
    known = {name: schema for name, schema in schemas.items() if schema is not None}
    first = next(iter(known), None)
    for name, schema in known.items():
        if first is not None and not schema.equals(known[first]):
            raise UnsupportedError(
                errno.ENOTSUP,
                f"receivers {first!r} and {name!r} have different columns: "
                f"{known[first].to_string()} and {schema.to_string()}",
                step="read",
                remedy="Read them apart, or decode them to the same columns.",
            )
