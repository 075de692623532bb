# SPDX-License-Identifier: Apache-2.0
"""Receivers of Arrow IPC streams of this project."""

from __future__ import annotations

import zcrx_arrow as zc
from benchmarks.feeds import IPC_ROW_BYTES
from benchmarks.probe import Probe, say
from benchmarks.receivers.ours import details, must_be

LARGE = zc.Area(size="64 MiB", chunk="4 MiB", window="8 MiB")


def _receive(area: zc.Area | str, *, trusted: bool) -> None:
    rows = 0
    decode = zc.decoders.ArrowIpc(trusted=trusted)
    with zc.listen("127.0.0.1:0", decode=decode, area=area, accept=1) as source:
        probe = Probe.ready(source.address[1])
        for batch in source:
            rows += batch.num_rows
        sample = probe.end(rows * IPC_ROW_BYTES)
        stats = source.decode_stats
        must_be("rows", rows, stats.rows)
        bodies = stats.in_place_bytes + stats.gathered_bytes
        more = {"in_place": stats.in_place_bytes / max(1, bodies)}
        say(**sample, details=details(source) | more)


def arrow() -> None:
    """Loop over the batches, all options as they are."""
    _receive("256 MiB", trusted=False)


def arrow_large() -> None:
    """The same with chunks in which whole messages lie."""
    _receive(LARGE, trusted=False)


def arrow_trusted() -> None:
    """The same, without looking through the values."""
    _receive(LARGE, trusted=True)
