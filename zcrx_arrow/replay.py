# SPDX-License-Identifier: Apache-2.0
"""The same framings and decoders over bytes that are here already: files, memory, captures."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from zcrx_arrow._closing import Closing
from zcrx_arrow._core import Options, error_of
from zcrx_arrow._native import ffi, lib
from zcrx_arrow._pipeline import Stages, new_context
from zcrx_arrow.errors import ConfigError, FramingError, from_core
from zcrx_arrow.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zcrx_arrow.config import Area, Batching, CopyOut, PayloadType, Size
    from zcrx_arrow.decoders import Decoder, DecodeStats, Rejected
    from zcrx_arrow.framing import Framing

__all__ = ["Replay", "decode", "frame"]

_PIECE: Final = 1 << 20
_REJECTED: Final = (65536, 64 << 20)

Data = "Buffer | str | os.PathLike[str] | IO[bytes]"


class Replay(Closing):
    """
    Bytes as record batches, as if they had come by a connection whose number is 1.

    Iterate over it, or pass it to anything that reads the Arrow C stream interface. It is read
    once. A framing error, or one of a decoder whose policy is ``fail``, is raised after the rows
    before it.

    Ownership: as with `zcrx_arrow.Source`; batches outlive this object. Thread safety: none.
    """

    def __init__(self, data: Any, options: Options, stages: Stages, fragment: int | None) -> None:
        """Not for users: see `frame` and `decode`."""
        error = ffi.new("struct za_error *")
        out = ffi.new("struct za_replay **")
        if lib.za_replay_new(options.to_core("copy"), error, out):
            raise error_of(error)
        self._core = ffi.gc(out[0], lib.za_replay_free)
        schema = ffi.new("struct ArrowSchema *")
        lib.za_replay_schema(self._core, schema)
        self._raw_schema = pa.Schema._import_from_c(int(ffi.cast("uintptr_t", schema)))  # noqa: SLF001
        self._context = new_context("replay", self._dismissed, *_REJECTED)
        self._pipeline = (
            stages.pipeline(self._context, "replay", self._raw_schema) if stages.needed else None
        )
        self.decoder = stages.decode
        """What turns messages into columns, if anything does."""
        self._fragment = fragment
        self._pieces, self._close = _pieces(data)
        self._failed = False
        self._ready: list[pa.RecordBatch] = []
        self._selected = False
        self._discarded = 0
        self._batches = self._run()

    # --- looking -----------------------------------------------------------------------------

    @property
    def schema(self) -> pa.Schema:
        """
        Schema of every batch.

        Raises
        ------
        FramingError
            If the decoder takes it from the data, and that has none.
        """
        if self._pipeline is None:
            return self._raw_schema
        while self._pipeline.schema is None:
            self.rejected._check_room()  # noqa: SLF001 - of this package
            try:
                self._ready += next(self._batches)
            except StopIteration:
                raise FramingError(
                    errno.ENODATA, "no row came that tells the schema", step="decode"
                ) from None
        return self._pipeline.schema

    @property
    def rejected(self) -> Rejected:
        """Rows that could not be decoded, with ``on_error="reject"``."""
        return self._context.rejected

    @property
    def decode_stats(self) -> DecodeStats:
        """Counters of the decoder."""
        return self._context.stats

    def metrics(self) -> Metrics:
        """Counters and gauges, see `Metrics`."""
        core = ffi.new("struct za_metrics *")
        lib.za_replay_metrics(self._core, core)
        made = Metrics.from_core(core, reconnects=0, gaps=0, connection_bytes={})
        return replace(made, discarded_rows=made.discarded_rows + self._discarded)

    # --- pulling -----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Iterate over the batches; raises `FramingError` where the bytes stop to make sense."""
        return self

    def __next__(self) -> pa.RecordBatch:
        """
        Give the next batch.

        Raises
        ------
        StopIteration
            At the end.
        ZcrxError
            While too many rejected rows wait; goes on once they are taken.
        """
        while not self._ready:
            # Not in the generator: an error would end it.
            self.rejected._check_room()  # noqa: SLF001 - of this package
            self._ready += next(self._batches)
        return self._ready.pop(0)

    def __arrow_c_schema__(self) -> object:
        """Arrow PyCapsule interface: the schema."""
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Arrow PyCapsule interface: the batches that are left."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self)
        return reader.__arrow_c_stream__(requested_schema)

    def read_all(self) -> pa.Table:
        """Give all that is left as one table."""
        batches = list(self)
        return pa.Table.from_batches(batches, self.schema)

    def close(self) -> None:
        """Close the file, if this opened one."""
        self._batches.close()
        self._close()

    # --- the work ----------------------------------------------------------------------------

    def _select(self, columns: list[str] | None) -> None:
        """For connectors, as of a live source."""
        if self._pipeline is None:
            return
        if self._selected:
            came, whole = self._ready, self._pipeline.whole
            self._ready = [batch for batch in came if whole(batch)]
            self._discarded += sum(batch.num_rows for batch in came if not whole(batch))
        self._selected = columns is not None
        self._pipeline.select(columns)

    def _dismissed(self, _connection: int, _reason: str) -> None:
        self._failed = True

    def _run(self) -> Any:
        try:
            code = 0
            for piece in self._pieces:
                code = yield from self._feed(memoryview(piece).cast("B"))
                if code or self._failed:
                    break
            if not code and not self._failed:
                code = yield from self._end()
            # What was decoded lies before what broke the framing.
            if self._failed and self._context.failure is not None:
                raise self._context.failure.again()
            if code:
                self._raise(code)
        finally:
            self._close()

    def _feed(self, piece: memoryview) -> Any:
        taken = ffi.new("size_t *")
        data = ffi.from_buffer(piece)
        at = 0
        while at < len(piece) and not self._failed:
            size = min(len(piece) - at, self._fragment or len(piece))
            code = lib.za_replay_feed(self._core, data + at, size, taken)
            at += taken[0]
            # What is whole leaves before an error is told.
            stuck = not taken[0] and not code
            batches = self.metrics().batches if stuck else 0
            yield from self._pull(bool(code) or stuck)
            if code:
                return code
            if stuck and self.metrics().batches == batches:
                raise from_core(
                    -errno.ENOBUFS,
                    "area",
                    'every chunk of the area is held by batches, and copy_out="never" forbids '
                    "copying",
                )
        return 0

    def _end(self) -> Any:
        partial = ffi.new("uint32_t *")
        while (code := lib.za_replay_end(self._core, partial)) == -errno.EAGAIN:
            yield from self._pull(now=True)
        yield from self._pull(now=True)
        if not code and self._pipeline is not None:
            yield self._pipeline.closed(1, clean=True)
        return code

    def _pull(self, now: bool) -> Any:
        while True:
            array = ffi.new("struct ArrowArray *")
            code = lib.za_replay_next(self._core, now, array)
            if code == -errno.EAGAIN:
                return
            if code:
                raise from_core(code, "replay", os.strerror(-code))
            if self._pipeline is None:
                address = int(ffi.cast("uintptr_t", array))
                yield [pa.RecordBatch._import_from_c(address, self._raw_schema)]  # noqa: SLF001
            else:
                yield self._pipeline.feed(self._pipeline.raw(array))

    def _raise(self, code: int) -> None:
        error = ffi.new("struct za_error *")
        lib.za_replay_error(self._core, error)
        if not error.code:
            raise from_core(code, "replay", os.strerror(-code))
        raise FramingError(-code, ffi.string(error.detail).decode(), step="framing")


def _pieces(data: Any) -> tuple[Iterator[Any], Any]:
    """Give the bytes piece by piece, and what closes them."""
    if isinstance(data, str | os.PathLike):
        file = Path(data).open("rb")  # noqa: SIM115 - closed by what is returned
        return iter(lambda: file.read(_PIECE), b""), file.close
    if hasattr(data, "read"):
        return iter(lambda: data.read(_PIECE), b""), lambda: None
    try:
        view = memoryview(data)
    except TypeError:
        raise ConfigError(
            f"data must be bytes, a path or a binary file, not {type(data).__name__}"
        ) from None
    return iter([view]), lambda: None


def frame(
    data: Any,
    framing: Framing | None = None,
    *,
    payload_type: PayloadType = "binary_view",
    batching: Batching | None = None,
    area: Area | Size = "64 MiB",
    copy_out: CopyOut = "auto",
    fragment: int | None = None,
) -> Replay:
    r"""
    Cut bytes into messages, as a source does with those of a connection.

    Parameters
    ----------
    data : bytes-like, path or binary file
        A file is read piece by piece.
    framing : Framing, optional
        See `zcrx_arrow.framing`; `Raw` if not given.
    payload_type, batching, area, copy_out
        As for `zcrx_arrow.listen`. Bytes are copied into the area once.
    fragment : int, optional
        Cut the bytes into fragments of that size first, as a network might: for tests.

    Returns
    -------
    Replay
        An iterator of record batches, and an Arrow C stream.

    Raises
    ------
    ConfigError
        If an option cannot work.
    OSError
        If the file cannot be opened.
    FramingError
        While iterating: bytes that break the framing, after the messages before them.

    Examples
    --------
    >>> frame(b"a\nbc\n", Delimited()).read_all()["payload"].to_pylist()
    [b'a', b'bc']
    """
    return _replay(data, framing, None, payload_type, batching, area, copy_out, fragment)


def decode(
    data: Any,
    decoder: Decoder,
    framing: Framing | None = None,
    *,
    batching: Batching | None = None,
    area: Area | Size = "64 MiB",
    copy_out: CopyOut = "auto",
    fragment: int | None = None,
) -> Replay:
    """
    Decode bytes into typed columns, as a source does with those of a connection.

    Parameters
    ----------
    data : bytes-like, path or binary file
    decoder : Decoder
        See `zcrx_arrow.decoders`.
    framing : Framing, optional
        Without it, the one that goes with the decoder.
    batching, area, copy_out, fragment
        See `frame`.

    Returns
    -------
    Replay
        An iterator of record batches, and an Arrow C stream.

    Raises
    ------
    ConfigError
        If an option cannot work.
    FramingError
        While iterating: bytes that cannot be read, after the rows before them.

    Examples
    --------
    >>> decode("flights.ndjson", Ndjson()).read_all()
    """
    return _replay(data, framing, decoder, "binary_view", batching, area, copy_out, fragment)


def _replay(
    data: Any,
    framing: Framing | None,
    decoder: Decoder | None,
    payload_type: PayloadType,
    batching: Batching | None,
    area: Area | Size,
    copy_out: CopyOut,
    fragment: int | None,
) -> Replay:
    if fragment is not None and fragment < 1:
        raise ConfigError(f"fragment={fragment!r} must be at least 1 byte")
    stages = Stages(framing, decoder, payload_type)
    options = Options.of(
        stages.framing,
        "copy",
        None,
        area,
        copy_out,
        stages.payload_type,
        batching,
        None,
        None,
        blocks=stages.blocks,
    )
    return Replay(data, options, stages, fragment)
