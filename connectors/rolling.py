# SPDX-License-Identifier: Apache-2.0
"""
A feed as a folder of files that roll: Parquet or Arrow IPC.

`write` pulls a source until it ends. A file appears under its name when it is whole and on the
disk, also if the process is killed or the power fails; names sort in the order of the rows, so that
at any moment the files are the beginning of what was received, without a gap. In its metadata each
file has which bytes of which connection its rows are, so that `resume` can say where a sender is to
go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from zcrx_arrow.connectors.reading import Reading
from zcrx_arrow.connectors.rolling_options import Format, Roll, RollBy
from zcrx_arrow.connectors.rolling_positions import Position
from zcrx_arrow.connectors.rolling_reading import positions, resume
from zcrx_arrow.connectors.rolling_report import Finished, Report, WriteError
from zcrx_arrow.connectors.rolling_sink import RollingSink
from zcrx_arrow.errors import AreaExhaustedError, ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    import pyarrow as pa

__all__ = [
    "Finished",
    "Position",
    "Report",
    "Roll",
    "RollingSink",
    "WriteError",
    "positions",
    "resume",
    "write",
]

_STEP_S: Final = 0.1


def write(
    source: Any,
    directory: str | os.PathLike[str],
    *,
    roll: RollBy = "64 MiB",
    rows: int | None = None,
    format: Format = "parquet",  # noqa: A002 - what it is called everywhere
    prefix: str = "feed",
    start: Position | None = None,
    on_file: Callable[[Finished], object] | None = None,
    on_rejected: Callable[[pa.Table], object] | None = None,
) -> Report:
    """
    Write a feed to files in a folder until it ends.

    Parameters
    ----------
    source : Source, Replay or iterable of pyarrow.RecordBatch
        All batches of one schema. Ends with its stream, or by ``source.stop()`` from another
        thread, after which what was received is still written.
    directory : path
        Made if it is not there. One writer at a time.
    roll : size, duration, or a tuple of both
        When a file ends: ``"64 MiB"`` on the disk, ``"60 s"`` after its first row (a number is
        seconds), or ``("64 MiB", "60 s")``, whichever comes first. By time it ends also while no
        rows come. None: by `rows` alone.
    rows : int, optional
        Rows of a file, exactly.
    format, prefix
        See `Roll`.
    start : Position, optional
        From `resume`, for a sender that was asked to go on there: what it sends again is left out,
        and positions go on.
    on_file : callable, optional
        Called with a `Finished` after each file. What it raises ends the writing, in order.
    on_rejected : callable, optional
        Called with rows that could not be decoded, where a decoder's policy is ``reject``.
        Without it they pile up until that is an error.

    Returns
    -------
    Report
        Totals.

    Raises
    ------
    ConfigError
        If an option cannot work, or `start` fits no position in the batches.
    UnsupportedError
        If the format has no such type; before anything is pulled, where the schema is known.
    WriteError
        If the disk refuses (full, broken), or a batch has another schema: its ``report`` says
        which rows are in no file. Files that are finished stay; nothing else is left.
    ZcrxError
        EBUSY, if somebody else writes to the folder. And what the source raises, KeyboardInterrupt
        or what a callback raises: after what was pulled is written.

    Notes
    -----
    Signals wait while a batch is taken and written, so that Ctrl-C loses no row. Receive memory is
    held for a second at most, or 64 batches.
    """
    options = Roll.of(roll, rows, format, prefix)
    _check_source(source)
    with Reading(source, step="write", what="rolling.write()", again=True).held():
        sink = RollingSink(directory, _schema_of(source), options, source, start, on_file)
        try:
            _Pull(source, sink, on_rejected).run()
            sink.close()
        except BaseException as error:
            sink.abort()
            error.add_note(f"{sink.report} in {sink.folder}")
            raise
    return sink.report


def _check_source(source: Any) -> None:
    if not hasattr(source, "__iter__"):
        raise ConfigError(
            f"source must be a Source or iterate over batches, {type(source).__name__} does not"
        )


def _schema_of(source: Any) -> pa.Schema | None:
    """Give the schema if it is known without waiting for the first rows."""
    decoder = getattr(source, "decoder", None)
    if decoder is not None and getattr(decoder, "schema", None) is None:
        pipeline = getattr(source, "_pipeline", None)
        return None if pipeline is None else pipeline.schema
    return getattr(source, "schema", None)


@dataclass(slots=True)
class _Pull:
    """Moves batches from a source to the sink."""

    source: Any
    sink: RollingSink
    on_rejected: Callable[[pa.Table], object] | None

    def run(self) -> None:
        with self.sink.signals.deferred():
            for batch in self._live() if hasattr(self.source, "next_batch") else self._other():
                if batch is not None:
                    self.sink.write(batch)
                del batch  # or it would be held while the next one is waited for
                self.sink.tick()
                self._take_rejected()
                self.sink.signals.run_pending()
            self._take_rejected()

    def _other(self) -> Iterator[pa.RecordBatch]:
        batches = iter(self.source)
        while True:
            with self.sink.signals.allowed():  # who knows how long it takes
                batch = next(batches, None)
            if batch is None:
                return
            yield batch
            del batch

    def _live(self) -> Iterator[pa.RecordBatch | None]:
        """Give batches, and None now and then."""
        while True:
            try:
                batch = self.source.next_batch(max(0.0, min(_STEP_S, self.sink.left_seconds)))
            except TimeoutError:
                yield None
                continue
            except AreaExhaustedError:
                if not self.sink.own():
                    raise
                continue
            if batch is None:
                return
            yield batch
            del batch

    def _take_rejected(self) -> None:
        if self.on_rejected is None:
            return
        rejected = getattr(self.source, "rejected", None)
        if rejected is not None and len(rejected):
            with self.sink.signals.allowed():
                self.on_rejected(rejected.take())
