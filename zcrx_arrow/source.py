# SPDX-License-Identifier: Apache-2.0
"""The object that hands out a feed's batches."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import enum
import errno
import os
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
import pyarrow as pa

from zcrx_arrow import _interrupt
from zcrx_arrow._closing import Closing
from zcrx_arrow._core import check, error_of
from zcrx_arrow._native import ffi, lib
from zcrx_arrow._supervisor import CLOSE_REASONS, Gap, Supervisor
from zcrx_arrow.config import Duration, nanoseconds
from zcrx_arrow.errors import ForkedError, from_core
from zcrx_arrow.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import numpy.typing as npt

__all__ = ["ChunkState", "Source"]

_STEP_NS: Final = 100_000_000  # a waiting Python thread looks for signals this often at least
AGAIN: Final = (-errno.EAGAIN, -errno.EINTR)

CONNECTIONS_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.uint32(), nullable=False),
        pa.field("peer", pa.string()),
        pa.field("local", pa.string()),
        pa.field("opened_at", pa.timestamp("ns", "UTC"), nullable=False),
        pa.field("closed_at", pa.timestamp("ns", "UTC")),
        pa.field("close_reason", pa.string()),
        pa.field("error", pa.string()),
        pa.field("bytes", pa.uint64(), nullable=False),
        pa.field("rows", pa.uint64(), nullable=False),
        pa.field("partial_bytes", pa.uint32(), nullable=False),
        pa.field("resumes", pa.uint32()),
        pa.field("gap", pa.duration("ns")),
    ]
)


class ChunkState(enum.IntFlag):
    """What becomes of a chunk of the area, see `Source.area_map`."""

    FREE = lib.ZA_CHUNK_FREE
    """In nobody's hands."""
    OFFERED = lib.ZA_CHUNK_OFFERED
    """In the kernel's hands, to be filled. With a NIC this is every chunk that is not leased."""
    LEASED = lib.ZA_CHUNK_LEASED
    """Held by batches or by unfinished messages. With `OFFERED`: the kernel goes on filling it."""


class Source(Closing):
    """
    A live feed as Arrow record batches.

    Made by `listen` and `connect`. Iterate over it, pass it to anything that reads the Arrow C
    stream interface (``pyarrow.table(source)``, ``polars.DataFrame(source)``,
    ``duckdb.sql("from source")``), or use it in ``async for``. Every batch goes to exactly one of
    those who pull.

    Columns: ``payload``; ``connection`` uint32; ``position`` uint64, the byte offset of the
    payload's first byte in its connection's stream; ``received_at`` timestamp[ns, UTC]; with
    `Raw` framing also ``area_offset`` uint64, null when the batch was copied out.

    Ownership
        Payload buffers of a batch are views into the receive area. They stay valid as long as
        anything refers to the batch, also after `close`; when the last reference goes, on any
        thread, the memory goes back to the kernel.
    Thread safety
        Every method may be called from any thread.
    Fork
        A source belongs to the process that opened it; in a child every method raises
        `ForkedError`.
    """

    def __init__(self, handle: Any, address: tuple[str, int], supervisor: Supervisor) -> None:
        """Not for users: see `listen` and `connect`."""
        self._handle = handle
        self._owner = os.getpid()
        self._closed = False
        self._supervisor = supervisor
        self._notify_lock = threading.Lock()
        self.address = address
        """(host, port) that this side is bound to."""
        self.transport: str = ffi.string(lib.za_source_transport(handle)).decode()
        """How bytes get into the area: ``"copy"``, ``"zcrx"`` or ``"nodev"``."""
        self.chunk_bytes: int = lib.za_source_chunk_bytes(handle)
        """What is recycled at a time."""
        schema = ffi.new("struct ArrowSchema *")
        check(lib.za_source_schema(handle, schema), "schema")
        self._raw_schema: pa.Schema = pa.Schema._import_from_c(  # noqa: SLF001
            int(ffi.cast("uintptr_t", schema))
        )
        _live.add(self)

    @property
    def schema(self) -> pa.Schema:
        """Schema of every batch; its metadata names framing and transport."""
        return self._raw_schema

    # --- pulling -----------------------------------------------------------------------------

    def next_batch(self, timeout: Duration | None = None) -> pa.RecordBatch | None:
        """
        Wait for the next batch.

        Parameters
        ----------
        timeout : float or str, optional
            Seconds, or text with a unit. Without it, as long as it takes.

        Returns
        -------
        pyarrow.RecordBatch or None
            None when the stream has ended or the source was closed.

        Raises
        ------
        TimeoutError
            If no batch came in time.
        AreaExhaustedError
            With ``copy_out="never"``, if every chunk is held by batches. Release some and go on.
        ZcrxError
            If the receiver failed.
        """
        limit = -1 if timeout is None else nanoseconds(timeout, "timeout")
        while True:
            step = _STEP_NS if limit < 0 else min(limit, _STEP_NS)
            code, batch = self._pull(step)
            if code not in AGAIN:
                return batch
            # Back in Python: a pending signal handler has run by now, and may have raised.
            if limit >= 0 and code == -errno.EAGAIN:
                limit -= step
                if limit <= 0:
                    raise TimeoutError(errno.ETIMEDOUT, "no batch came in time")

    def _pull(self, timeout_ns: int) -> tuple[int, pa.RecordBatch | None]:
        """Pull once: 0 and a batch, or -EAGAIN, -EINTR, -ENODATA and None; other codes raise."""
        array = ffi.new("struct ArrowArray *")
        code = lib.za_source_next(self._handle, timeout_ns, array)
        if code == 0:
            address = int(ffi.cast("uintptr_t", array))
            return 0, pa.RecordBatch._import_from_c(address, self._raw_schema)  # noqa: SLF001
        if code not in AGAIN and code != -errno.ENODATA:
            self._raise(code)
        return code, None

    def _raise(self, code: int) -> NoReturn:
        if code == -errno.EOWNERDEAD:
            raise ForkedError(self._owner)
        if code == -errno.ENOBUFS:
            raise from_core(
                code,
                "area",
                'every chunk of the area is held by batches, and copy_out="never" forbids copying',
            )
        error = ffi.new("struct za_error *")
        lib.za_source_error(self._handle, error)
        raise error_of(error) if error.code else from_core(code, "next", os.strerror(-code))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Iterate over batches until the stream ends; raises what `next_batch` raises."""
        # The hot loop: no allocation but the batch, and back in Python often enough for signals.
        array = ffi.new("struct ArrowArray *")
        address = int(ffi.cast("uintptr_t", array))
        pull, handle, schema = lib.za_source_next, self._handle, self._raw_schema
        move = pa.RecordBatch._import_from_c  # noqa: SLF001 - documented for cffi
        while True:
            code = pull(handle, _STEP_NS, array)
            if code == 0:
                yield move(address, schema)
            elif code == -errno.ENODATA:
                return
            elif code not in AGAIN:
                self._raise(code)

    def __next__(self) -> pa.RecordBatch:
        """Give the next batch; see `next_batch`."""
        batch = self.next_batch()
        if batch is None:
            raise StopIteration
        return batch

    def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        """Iterate over batches without blocking the event loop."""
        return self._batches()

    async def _batches(self) -> AsyncIterator[pa.RecordBatch]:
        while True:
            code, batch = self._pull(0)
            if batch is not None:
                yield batch
            elif code == -errno.ENODATA:
                return
            else:
                await self._arrival()

    async def _arrival(self) -> None:
        """Wait until there may be something to pull."""
        fd = lib.za_source_notify_fd(self._handle)
        if fd < 0:
            raise from_core(fd, "eventfd", "no descriptor to wait on")
        # A descriptor of its own for each waiting task: an event loop watches one only once.
        own = os.dup(fd)
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = loop.create_future()

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(own)
            if not arrived.done():
                arrived.set_result(None)

        try:
            loop.add_reader(own, readable)
            if lib.za_source_notify_arm(self._handle):
                return
            # Several tasks share the event; whoever misses it looks again soon.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(arrived, timeout=_STEP_NS / 1e9)
        finally:
            loop.remove_reader(own)
            os.close(own)

    def __arrow_c_schema__(self) -> object:
        """Arrow PyCapsule interface: the schema."""
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """
        Arrow PyCapsule interface: a stream over the same queue.

        It may be taken several times; every batch goes to exactly one of the streams. The stream
        keeps the source's memory alive, but ends when the source is closed.
        """
        self._check_owner()
        _interrupt.install()
        stream = ffi.new("struct ArrowArrayStream *")
        check(lib.za_source_stream(self._handle, stream), "stream")
        reader = pa.RecordBatchReader._import_from_c(int(ffi.cast("uintptr_t", stream)))  # noqa: SLF001
        return reader.__arrow_c_stream__(requested_schema)

    # --- looking -----------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def metrics(self) -> Metrics:
        """Counters and gauges, see `Metrics`; also after `close`."""
        self._check_owner()
        core = ffi.new("struct za_metrics *")
        lib.za_source_metrics(self._handle, core)
        reconnects = self._supervisor.reconnects
        return Metrics.from_core(
            core,
            reconnects=reconnects,
            gaps=reconnects,
            connection_bytes={info.id: info.bytes for info in self._infos(with_closed=False)},
        )

    def _infos(self, *, with_closed: bool) -> list[Any]:
        room = lib.za_source_connections(self._handle, with_closed, ffi.NULL, 0) + 16
        infos = ffi.new("struct za_conn_info[]", room)
        found = lib.za_source_connections(self._handle, with_closed, infos, room)
        # Each a copy of its own: an element of an array does not keep the array alive.
        return [ffi.new("struct za_conn_info *", infos[i])[0] for i in range(min(found, room))]

    def connections(self) -> pa.Table:
        """
        Give the connections so far, by id.

        Returns
        -------
        pyarrow.Table
            Columns ``id`` uint32, ``peer`` and ``local`` string, ``opened_at`` and ``closed_at``
            timestamp[ns, UTC], ``close_reason`` string (null while open, else ``"eof"`` when the
            peer ended its stream, ``"reset"``, ``"error"`` for another error of the read,
            ``"framing"``, or ``"local"`` when this side closed it), ``error`` string, ``bytes``
            and ``rows`` uint64, ``partial_bytes`` uint32 (received and not delivered), and for a
            connection that replaces another ``resumes`` uint32 and ``gap`` duration[ns].
        """
        self._check_owner()
        gaps = self._supervisor.gaps()
        infos = sorted(self._infos(with_closed=True), key=lambda info: int(info.id))
        rows = [self._amended(_connection_row(info, gaps.get(info.id))) for info in infos]
        return pa.Table.from_pylist(rows, CONNECTIONS_SCHEMA)

    def area_map(self) -> npt.NDArray[np.uint8]:
        """
        Give what becomes of each chunk of the area, also after `close`.

        Returns
        -------
        numpy.ndarray of uint8, shape (chunks,)
            A `ChunkState` each, in the order of addresses; a chunk has `chunk_bytes`. Each is right
            for a moment of the call, not all of them for the same one: the receiver goes on.

        Raises
        ------
        ForkedError
            In a process that did not open the source.
        """
        self._check_owner()
        chunks = lib.za_source_area_map(self._handle, ffi.NULL, 0)
        states = np.empty(chunks, np.uint8)
        lib.za_source_area_map(self._handle, ffi.from_buffer("uint8_t[]", states), chunks)
        return states

    def _amended(self, row: dict[str, Any]) -> dict[str, Any]:
        """Say what is known of a connection beside what the core knows."""
        return row

    # --- ending ------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop receiving and close the connections; what is queued can still be pulled."""
        self._check_owner()
        self._supervisor.stop()
        lib.za_source_stop(self._handle)

    def close(self) -> None:
        """
        Stop receiving, close the connections and drop what is queued. Idempotent.

        Batches that are held stay readable. Rows that nobody had pulled are counted in
        ``metrics().discarded_rows``.
        """
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        self._supervisor.stop()
        lib.za_source_close(self._handle)
        self._supervisor.join()

    def __del__(self) -> None:
        """Warn about a source that was never closed, and close it."""
        if not getattr(self, "_closed", True) and os.getpid() == self._owner:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __repr__(self) -> str:
        """Name the source by its address and state."""
        state = "closed" if self._closed else self.transport
        return f"<zcrx_arrow.Source {self.address[0]}:{self.address[1]} {state}>"

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise ForkedError(self._owner)


def _connection_row(info: Any, gap: Gap | None) -> dict[str, Any]:
    def text(field: Any) -> str | None:
        return ffi.string(field).decode(errors="replace") or None

    return {
        "id": info.id,
        "peer": text(info.peer),
        "local": text(info.local),
        "opened_at": info.opened_ns,
        "closed_at": info.closed_ns or None,
        "close_reason": CLOSE_REASONS.get(info.reason),
        "error": text(info.detail),
        "bytes": info.bytes,
        "rows": info.rows,
        "partial_bytes": info.partial_bytes,
        "resumes": gap.resumes if gap else None,
        "gap": gap.nanoseconds if gap else None,
    }


_live: weakref.WeakSet[Source] = weakref.WeakSet()


def _at_exit() -> None:
    """End every wait and close every source, before the interpreter goes."""
    lib.za_exiting()
    for source in list(_live):
        source.close()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_interrupt.forget)
