# SPDX-License-Identifier: Apache-2.0
"""The picture of an area: which chunks are leased, by what is known to be held."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from tests.conftest import eventually
from tests.wire import dial
from zcrx_arrow import framing
from zcrx_arrow.errors import ForkedError
from zcrx_arrow.source import ChunkState

LINE = b"x" * 999 + b"\n"


def leased(source) -> np.ndarray:
    return np.flatnonzero(source.area_map() & ChunkState.LEASED)


def test_it_shows_what_is_held(wire):
    with wire.listen(framing=framing.Delimited(b"\n"), area="64 MiB", copy_out="never") as source:
        states = source.area_map()
        assert states.dtype == np.uint8
        assert len(states) * source.chunk_bytes == 64 << 20
        assert not len(leased(source))
        with dial(source.address) as peer:
            held = []
            for _ in range(3):
                peer.sendall(LINE * 2000)
                rows = 0
                while rows < 2000:
                    held.append(source.next_batch(20))
                    rows += held[-1].num_rows
            whole = len(leased(source))
            if wire.transport == "copy":  # as many chunks as the bytes need, and not many more
                least = 3 * 2000 * len(LINE) // source.chunk_bytes
                assert least <= whole <= least + 16
            part = held[0].slice(0, 1)
            held.clear()
            # A slice keeps its whole batch.
            eventually(lambda: 0 < len(leased(source)) < whole)
            source.close()
            assert len(leased(source))
            assert part.column("payload")[0].as_py() == LINE[:-1]
            del part
            eventually(lambda: not len(leased(source)))


def test_it_agrees_with_the_metrics_when_nothing_moves(wire):
    lines = framing.Delimited(b"\n")
    with wire.listen(framing=lines, area="8 MiB") as source, dial(source.address) as peer:
        peer.sendall(LINE * 100 + b"unfinished")
        held = []
        while sum(batch.num_rows for batch in held) < 100:
            held.append(source.next_batch(20))
        eventually(lambda: source.metrics().bytes == 100 * len(LINE) + 10)

        def agreed():
            metrics, states = source.metrics(), source.area_map()
            return (
                np.count_nonzero(states == ChunkState.FREE) == metrics.chunks_free
                and np.count_nonzero(states & ChunkState.OFFERED) == metrics.chunks_offered
                and np.count_nonzero(states == ChunkState.LEASED) == metrics.chunks_leased
            )

        eventually(agreed)
        assert len(leased(source))
        held.clear()
        # An unfinished message holds its chunk like a batch does.
        eventually(lambda: len(leased(source)) == 1)


def test_from_any_thread_while_it_receives(wire):
    bad = []
    with wire.listen(framing=framing.Delimited(b"\n"), area="4 MiB") as source:
        over = threading.Event()

        def look():
            while not over.is_set():
                states = source.area_map()
                if states.max() > (ChunkState.OFFERED | ChunkState.LEASED) or len(states) != chunks:
                    bad.append(states)

        chunks = len(source.area_map())
        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        with dial(source.address) as peer:
            sender = threading.Thread(target=peer.sendall, args=(LINE * 20_000,))
            sender.start()
            rows = 0
            while rows < 20_000:
                rows += source.next_batch(20).num_rows
            sender.join()
        over.set()
        for thread in threads:
            thread.join()
        assert not bad
        eventually(lambda: not len(leased(source)))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_is_told(wire):
    with wire.listen() as source:
        child = os.fork()
        if not child:
            try:
                source.area_map()
            except ForkedError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
