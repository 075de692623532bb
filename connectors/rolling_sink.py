# SPDX-License-Identifier: Apache-2.0
"""The sink behind `zcrx_arrow.connectors.rolling.write`, for who pushes batches themselves."""

from __future__ import annotations

import errno
import math
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from zcrx_arrow import _events
from zcrx_arrow.connectors.measures import name_of
from zcrx_arrow.connectors.rolling_folder import Folder
from zcrx_arrow.connectors.rolling_part import Part
from zcrx_arrow.connectors.rolling_positions import (
    Position,
    Range,
    Ranges,
    Resumption,
    Stamp,
)
from zcrx_arrow.connectors.rolling_report import Finished, Report, WriteError, failure_of
from zcrx_arrow.connectors.rolling_schema import check_same, check_schema
from zcrx_arrow.connectors.rolling_signals import Deferral
from zcrx_arrow.errors import ConfigError, ZcrxError
from zcrx_arrow.source import Source

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from zcrx_arrow.connectors.rolling_options import Roll

__all__ = ["RollingSink"]


class RollingSink:
    """
    Takes batches of one schema, and makes files of them.

    Call `tick` at least a few times a second while no batches come. Not thread-safe.

    Parameters
    ----------
    directory : path
        Made if it is not there; locked until `close` or `abort`.
    schema : pyarrow.Schema or None
        None: the first batch's.
    roll : Roll
        When files end.
    source : Source or Replay, optional
        Where batches come from: peers are asked of it, and what its framing says of positions.
    start : Position, optional
        Where the first connection went on.
    on_file : callable, optional
        Called with each `Finished`.

    Raises
    ------
    ConfigError, UnsupportedError, ZcrxError, OSError
        See `zcrx_arrow.connectors.rolling.write`.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        schema: pa.Schema | None,
        roll: Roll,
        source: Any = None,
        start: Position | None = None,
        on_file: Callable[[Finished], object] | None = None,
    ) -> None:
        self.signals = Deferral()
        self.report = Report()
        self._roll, self._source, self._on_file = roll, source, on_file
        self._resumption = Resumption.of(source)
        self._start = start
        self._bases: dict[int, int] = {}
        self._schema = schema
        if schema is not None:
            check_schema(schema, roll, start)
        self._run = uuid.uuid4().hex
        self._part: Part | None = None
        self._sequence = 0
        self._ranges = Ranges(self._resumption)
        self._failed: WriteError | None = None
        self._untold: deque[Finished] = deque()
        self._folder = Folder(directory)

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder.path

    @property
    def left_seconds(self) -> float:
        """When `tick` has a file to end at the latest; infinite if there is none."""
        return math.inf if self._part is None else self._part.left_seconds

    # --- taking batches ----------------------------------------------------------------------

    def write(self, batch: pa.RecordBatch) -> None:
        """
        Append a batch; what it holds of receive memory is given back within a second of ticks.

        Raises
        ------
        WriteError
            If it cannot be; then nothing can any more.
        ZcrxError
            EBADF, if the sink was closed.
        """
        if not isinstance(batch, pa.RecordBatch):
            raise ConfigError(f"a sink takes record batches, not {type(batch).__name__}")
        with self.signals.deferred():
            self._check_alive()
            if self._folder.closed:
                raise ZcrxError(errno.EBADF, f"the sink of {self.folder} is closed", step="write")
            self._check(batch)
            rest = self._without_repeats(batch)
            is_slice = rest.num_rows < batch.num_rows
            del batch
            while rest.num_rows:
                rest = self._write_some(rest, is_slice=is_slice)
                is_slice = True
            del rest
            self._tell()

    def tick(self) -> None:
        """End a file that is old enough, and give back receive memory."""
        with self.signals.deferred():
            self._check_alive()
            if self._part is None:
                return
            self._part.tick()
            if self._part.full:
                self._finish()
                self._tell()

    def own(self) -> bool:
        """Give back all receive memory at once; whether any was held."""
        return self._part is not None and self._part.own()

    def _write_some(self, batch: pa.RecordBatch, *, is_slice: bool) -> pa.RecordBatch:
        """Write what fits into the file; gives the rest."""
        count = batch.num_rows
        try:
            part = self._begin(batch.schema)
            if part.left_rows is not None:
                count = min(count, part.left_rows)
            head = batch.slice(0, count)
            part.add(head, is_slice=is_slice or count < batch.num_rows)
        except (OSError, pa.ArrowException) as error:
            raise self._fail(error, batch) from error
        self._ranges.add(head, self._bases)
        if part.full:
            self._finish(batch.slice(count))
        return batch.slice(count)

    def _check(self, batch: pa.RecordBatch) -> None:
        """See that its schema is that of all, and one of the format."""
        try:
            if self._schema is None:
                check_schema(batch.schema, self._roll, self._start)
                self._schema = batch.schema
            check_same(self._schema, batch)
        except ZcrxError as error:
            raise self._fail(error, batch) from error

    def _begin(self, schema: pa.Schema) -> Part:
        if self._part is None:
            self._sequence, path = self._folder.next_path(self._roll.prefix, self._roll.format)
            self._part = Part(path, schema, self._roll)
        return self._part

    def _without_repeats(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Leave out what an earlier run has already."""
        start = self._start
        if start is None or not batch.num_rows:
            return batch
        connections = batch.column("connection").to_numpy()
        if not self._bases:
            self._bases[int(connections[0])] = start.offset
        if start.last < start.offset:
            return batch
        (resumed,) = self._bases
        positions = batch.column("position").to_numpy()
        seen = (connections == resumed) & (positions <= start.last - start.offset)
        count = int(seen.sum())
        if not count:
            return batch
        self.report = replace(self.report, repeated_rows=self.report.repeated_rows + count)
        return _without(batch, seen)

    # --- ending files ------------------------------------------------------------------------

    def _finish(self, rest: pa.RecordBatch | None = None) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        stamp = self._stamp(part)
        try:
            size = part.finish(stamp.dump())
        except (OSError, pa.ArrowException) as error:
            self._part = part
            raise self._fail(error, rest) from error
        self._folder.took(self._sequence)
        self._ranges = Ranges(self._resumption)
        self.report = replace(
            self.report,
            files=self.report.files + 1,
            rows=self.report.rows + part.rows,
            bytes=self.report.bytes + size,
        )
        finished = Finished(
            path=part.path,
            sequence=self._sequence,
            rows=part.rows,
            bytes=size,
            connections=stamp.connections,
        )
        self._untold.append(finished)
        _events.info(
            "file_finished",
            str(self.folder),
            "%s finished, %d rows, %d bytes",
            part.path.name,
            part.rows,
            size,
            file=str(part.path),
            rows=part.rows,
            bytes=size,
        )

    def _tell(self) -> None:
        """Tell of finished files; not before everything in hand is written, since this may fail."""
        while self._untold:
            finished = self._untold.popleft()
            if self._on_file is not None:
                with self.signals.allowed():
                    self._on_file(finished)

    def _stamp(self, part: Part) -> Stamp:
        return Stamp(
            run=self._run,
            sequence=self._sequence,
            rows=part.rows,
            began=datetime.fromtimestamp(part.began_ns / 1e9, UTC).isoformat(),
            ended=datetime.now(UTC).isoformat(),
            source=name_of(self._source),
            connections=self._named() if self._ranges.known else None,
        )

    def _named(self) -> tuple[Range, ...]:
        """Give the ranges with what the source knows of their connections."""
        known: dict[int, dict[str, Any]] = {}
        if isinstance(self._source, Source):  # what others call connections is not it
            table = self._source.connections().select(["id", "peer", "resumes"])
            known = {row["id"]: row for row in table.to_pylist()}
        for each in self._ranges:
            row = known.get(each.connection, {})
            each.peer, each.resumes = row.get("peer"), row.get("resumes")
        return tuple(self._ranges)

    def close(self) -> None:
        """
        Finish the last file and let others write to the folder. Idempotent.

        Raises
        ------
        WriteError
            If it cannot be finished.
        """
        with self.signals.deferred():
            try:
                if self._failed is None:
                    self._finish()
                self._tell()
            finally:
                self._folder.close()

    def abort(self) -> None:
        """End after an error elsewhere: rows that were taken are written still, if they can be."""
        with suppress(Exception):
            self.close()

    # --- failing -----------------------------------------------------------------------------

    def _check_alive(self) -> None:
        if self._failed is not None:
            again = self._failed.again()
            again.report = self._failed.report
            raise again

    def _fail(self, error: Exception, batch: pa.RecordBatch | None) -> WriteError:
        """Give up: remove what is unfinished, unless it is sound, and count what is in no file."""
        if isinstance(error, ZcrxError) and not isinstance(error, WriteError):
            with suppress(WriteError):  # the disk is well: what came before is kept
                self._finish()
        lost = self._ranges
        count = 0 if batch is None else batch.num_rows
        if self._part is not None:
            count += self._part.rows
            self._part.abort()
            self._part = None
        if batch is not None:
            lost.add(batch, self._bases)
        unwritten = tuple(lost) if lost.known else ()
        count += self.report.unwritten_rows
        self.report = replace(self.report, unwritten_rows=count, unwritten=unwritten)
        self._failed = failure_of(error, self.report, self.folder)
        self._failed.report = self.report
        return self._failed


def _without(batch: pa.RecordBatch, seen: npt.NDArray[np.bool_]) -> pa.RecordBatch:
    """Leave out rows; by slices, since pyarrow does not filter every type."""
    keep = np.flatnonzero(~seen)
    if not len(keep):
        return batch.slice(0, 0)
    if len(keep) == int(keep[-1]) - int(keep[0]) + 1:
        return batch.slice(int(keep[0]), len(keep))
    return pa.concat_batches([batch.slice(int(row), 1) for row in keep])
