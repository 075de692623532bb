# SPDX-License-Identifier: Apache-2.0
"""``--rejected``: where rows go that could not be decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zcrx_arrow.connectors.sink import NdjsonSink, NullSink, Sink
from zcrx_arrow.decoders import Rejected
from zcrx_arrow.errors import ConfigError

__all__ = ["drain", "open_rejects"]


@contextmanager
def open_rejects(path: str | None, *policies: str | None) -> Iterator[Sink]:
    """
    Open the file for rejected rows; without a path they are dropped.

    Raises
    ------
    ConfigError
        If no policy rejects.
    OSError
        If it cannot be written.
    """
    if path is None:
        yield NullSink()
        return
    if "reject" not in policies:
        raise ConfigError("--rejected needs --on-error reject or --on-drift reject")
    with Path(path).open("w", encoding="utf-8") as file:
        yield NdjsonSink(file)


def drain(rejected: Rejected, sink: Sink) -> None:
    """Move what there is."""
    if not len(rejected):
        return
    for batch in rejected.take().to_batches():
        sink.write(batch)
    sink.close()  # flushes: somebody may look on
