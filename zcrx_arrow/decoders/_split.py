# SPDX-License-Identifier: Apache-2.0
"""One stream for each kind of message of a source."""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from zcrx_arrow.config import Duration, parse_duration, whole
from zcrx_arrow.decoders._records import Records
from zcrx_arrow.errors import ConfigError, ZcrxError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Part", "split"]

_LOOK_S: Final = 0.1


class _Shared:
    """What the parts of a source have in common."""

    def __init__(self, source: Any, column: str, limit: int, patience: float) -> None:
        self.source, self.column = source, column
        self.limit, self.patience = limit, patience
        self.changed = threading.Condition()
        # under its lock
        self.parts: dict[str, Part] = {}
        self.pulling = self.ended = False
        self.error: ZcrxError | None = None

    def full(self) -> list[str]:
        """Parts whose queue has no room."""
        return [
            name
            for name, part in self.parts.items()
            if not part._closed and len(part._queue) >= self.limit  # noqa: SLF001 - of this module
        ]

    def pull(self) -> None:
        """Pull a batch and give each part its rows; whoever has set `pulling` calls this."""
        batch, ended = None, False
        try:
            batch = next(iter(self.source), None)
            ended = batch is None
        except ZcrxError as error:
            self.error = error.again()  # for the readers of the other parts too
        finally:
            with self.changed:
                if batch is not None:
                    self._hand_out(batch)
                self.ended |= ended
                self.pulling = False
                self.changed.notify_all()

    def _hand_out(self, batch: pa.RecordBatch) -> None:
        kinds = batch.column(self.column)
        for name, part in self.parts.items():
            rows = batch.filter(pc.equal(kinds.cast(pa.string()), name))
            if rows.num_rows:
                columns = [rows.column(each) for each in part.schema.names]
                part._take(pa.RecordBatch.from_arrays(columns, schema=part.schema))  # noqa: SLF001


class Part:
    """
    The messages of one kind, as record batches; see `split`.

    Iterate over it, or pass it to anything that reads the Arrow C stream interface. Every method
    may be called from any thread.
    """

    def __init__(self, name: str, schema: pa.Schema, shared: _Shared) -> None:
        """Not for users: see `split`."""
        self.name = name
        self.schema: pa.Schema = schema
        """The columns of this kind alone."""
        self._shared = shared
        self._queue: deque[pa.RecordBatch] = deque()
        self._closed = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Iterate over the batches until the source ends."""
        while (batch := self._next()) is not None:
            yield batch

    def __arrow_c_schema__(self) -> object:
        """Arrow PyCapsule interface: the schema."""
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Arrow PyCapsule interface: the batches."""
        reader = pa.RecordBatchReader.from_batches(self.schema, iter(self))
        return reader.__arrow_c_stream__(requested_schema)

    def close(self) -> None:
        """Want no more of this kind: its messages are dropped from now on."""
        with self._shared.changed:
            self._closed = True
            self._queue.clear()
            self._shared.changed.notify_all()

    def _take(self, batch: pa.RecordBatch) -> None:
        if not self._closed:
            self._queue.append(batch)

    def _next(self) -> pa.RecordBatch | None:
        shared = self._shared
        deadline = time.monotonic() + shared.patience
        while True:
            with shared.changed:
                if self._queue:
                    shared.changed.notify_all()
                    return self._queue.popleft()
                if shared.error is not None:
                    raise shared.error.again()
                if shared.ended or self._closed:
                    return None
                full = shared.full()
                if full and time.monotonic() >= deadline:
                    raise ZcrxError(
                        errno.ENOBUFS,
                        f"messages of {full[0]!r} wait to be read, {shared.limit} batches of them",
                        step="split",
                        remedy="Read every part, close() those that you do not want, or leave "
                        "their messages out by Records(only=...).",
                    )
                if shared.pulling or full:
                    shared.changed.wait(_LOOK_S)
                    continue
                shared.pulling = True
            shared.pull()


def split(source: Any, *, limit: int = 64, patience: Duration = "5 s") -> dict[str, Part]:
    """
    Make one stream for each kind of message.

    Parameters
    ----------
    source : Source or Replay
        Opened with a `Records` of several layouts.
    limit : int
        Batches of a kind that wait for their reader. When a kind has so many, nothing more is
        pulled, and the peers wait.
    patience : float or str
        How long a reader waits for the reader of another kind to make room, before it gets a
        `ZcrxError` that names the kind.

    Returns
    -------
    dict of str to Part
        By the layouts' keys, in their order. From here on read the parts, not the source.

    Raises
    ------
    ConfigError
        If the source has no kinds.
    """
    whole(limit, "limit", 1, 1 << 20)
    decoder = getattr(source, "decoder", None)
    if not isinstance(decoder, Records) or decoder.union is None:
        raise ConfigError("split() needs a source with decode=Records({...}) and its union column")
    shared = _Shared(source, decoder.union, limit, parse_duration(patience, "patience"))
    shared.parts = {name: Part(name, schema, shared) for name, schema in decoder.kinds.items()}
    return shared.parts
