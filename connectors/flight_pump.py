# SPDX-License-Identifier: Apache-2.0
"""Pulls a source in a thread of its own that can be told to stop."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from zcrx_arrow.connectors.reading import Reading
from zcrx_arrow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pump", "schema_of"]

_log = logging.getLogger("zcrx_arrow.flight")
_STEP: Final = 0.1
_JOIN_S: Final = 5.0

Item = tuple[pa.RecordBatch, int]


def schema_of(source: Any) -> pa.Schema:
    """
    Give a source's schema; where the first rows tell it, this waits for them.

    Raises
    ------
    ConfigError
        If this is no source.
    """
    if hasattr(source, "__arrow_c_schema__"):
        return pa.schema(source)
    schema = getattr(source, "schema", None)
    if isinstance(schema, pa.Schema) and hasattr(source, "__arrow_c_stream__"):
        return schema
    raise ConfigError(
        f"source must be a Source or give an Arrow C stream, not {type(source).__name__}"
    )


class Pump:
    """
    Publishes what is made of each batch of a source, in its thread.

    Parameters
    ----------
    source : Source, or anything that gives an Arrow C stream
        Stays open. Of a `Source` no other connector may be reading.
    prepare : callable
        Called with each batch; the batches that it gives, with their sizes, are published.
    publish : callable
        May wait. The batch that was pulled is let go before.
    ended : callable
        Called once, with None at the end of the source or what was raised.
    begin : callable
        Called before the first batch is pulled; gives False if there shall be none.

    Raises
    ------
    ZcrxError
        EBUSY, if another connector reads the source.
    """

    def __init__(
        self,
        source: Any,
        prepare: Callable[[pa.RecordBatch], list[Item]],
        publish: Callable[[pa.RecordBatch, int], None],
        ended: Callable[[BaseException | None], None],
        begin: Callable[[], bool],
    ) -> None:
        self._source, self._prepare, self._publish = source, prepare, publish
        self._ended, self._begin = ended, begin
        self._stopping = threading.Event()
        self._reading = Reading(source, step="serve", what="a Flight server", again=True)
        self._query = self._reading.begin() if hasattr(source, "next_batch") else None
        self._thread = threading.Thread(target=self._run, name="zcrx-flight-pump", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def release(self) -> None:
        """Let others read the source. Idempotent."""
        query, self._query = self._query, None
        if query is not None:
            self._reading.end(query)

    def stop(self) -> None:
        """Stop pulling, and wait for the thread."""
        self._stopping.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)
            if self._thread.is_alive():  # a stream of somebody else's that blocks
                _log.warning("%r does not give a batch; its thread is left alone", self._source)
        self.release()

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            if self._begin():
                self._pull()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the clients are told
            failure = error
        self._ended(failure)

    def _pull(self) -> None:
        pull = self._pull_source if hasattr(self._source, "next_batch") else self._pull_stream()
        while not self._stopping.is_set() and (pieces := pull()) is not None:
            while pieces:
                self._publish(*pieces.pop(0))

    def _pull_source(self) -> list[Item] | None:
        """Pull and prepare a batch: none of it is held when this returns. None at the end."""
        try:
            batch = self._source.next_batch(_STEP)
        except TimeoutError:
            return []
        return None if batch is None else self._prepare(batch)

    def _pull_stream(self) -> Callable[[], list[Item] | None]:
        given = self._source
        stream = isinstance(given, pa.RecordBatchReader)
        reader = given if stream else pa.RecordBatchReader.from_stream(given)

        def pull() -> list[Item] | None:
            try:
                return self._prepare(reader.read_next_batch())
            except StopIteration:
                return None

        return pull
