# SPDX-License-Identifier: Apache-2.0
"""Slow consumers and full areas: the peer waits or bytes are copied; none is lost."""

from __future__ import annotations

import hashlib
import random

import pytest

import zcrx_arrow as zc
from tests.conftest import eventually
from tests.rows import by_connection, payload_buffers, stream_of
from tests.wire import dial
from zcrx_arrow.errors import AreaExhaustedError

SMALL = zc.Area(size="1 MiB", chunk="16 KiB", window="128 KiB")


def test_consumer_that_stops_pulling(wire, send):
    data = random.Random(1).randbytes(40_000_000)
    with wire.listen(area=SMALL, accept=1) as source:
        sender = send(source.address, data)
        eventually(lambda: source.metrics().paused == 1)
        before = source.metrics()
        assert sender.is_alive(), "the peer must wait"
        assert before.bytes < len(data) // 2
        assert before.stalls >= 1
        assert stream_of(by_connection(source)[1]) == data
        after = source.metrics()
    assert after.stalled_ns > 0
    assert after.bytes == len(data)


def test_consumer_that_keeps_everything(wire, send):
    data = random.Random(2).randbytes(20_000_000)
    with wire.listen(area=SMALL, accept=1) as source:
        send(source.address, data)
        kept = list(source)
        metrics = source.metrics()
    assert stream_of(by_connection(kept)[1]) == data
    assert metrics.copied_out_batches > 0
    assert metrics.zero_copy_batches > 0
    copied = [batch for batch in kept if batch.column("area_offset").null_count]
    assert len(copied) == metrics.copied_out_batches
    assert all(b.column("area_offset").null_count == b.num_rows for b in copied)


def test_copying_stops_when_the_area_is_free_again(wire, send):
    data = random.Random(3).randbytes(30_000_000)
    with wire.listen(area=SMALL, accept=1) as source:
        send(source.address, data)
        digest, kept, received = hashlib.sha256(), [], 0
        for batch in source:
            for payload in batch.column("payload").to_pylist():
                digest.update(payload)
                received += len(payload)
            if received < 8_000_000:
                kept.append(batch)
            elif kept:
                before = source.metrics()
                kept.clear()
        after = source.metrics()
        del batch
    assert digest.digest() == hashlib.sha256(data).digest()
    assert before.copied_out_batches > 0
    assert after.zero_copy_batches > before.zero_copy_batches + 10


def test_never_copying_out_is_an_error_and_not_a_hang(wire, send):
    data = random.Random(4).randbytes(5_000_000)
    limits = zc.Limits(exhausted_after="100 ms")
    with wire.listen(area=SMALL, copy_out="never", limits=limits, accept=1) as source:
        send(source.address, data)
        kept = []
        with pytest.raises(AreaExhaustedError, match='copy_out="auto"') as caught:
            for batch in source:
                kept.append(batch)  # noqa: PERF402 - the batches before the error count
        assert "area" in caught.value.remedy
        assert source.metrics().copied_out_bytes == 0
        received = stream_of(by_connection(kept)[1])
        kept.clear()
        del batch
        position = len(received)
        for batch in source:  # releasing makes room, and it goes on where it was
            ((got,),) = [list(by_connection([batch]).values())]
            assert got[0][0] == position
            received += b"".join(payload for _, payload in got)
            position = len(received)
            del batch
        assert received == data
        assert source.metrics().starved >= 1


def test_always_copying_out(wire, send):
    data = random.Random(5).randbytes(3_000_000)
    with wire.listen(area=SMALL, copy_out="always", accept=1) as source:
        send(source.address, data)
        kept = list(source)
        metrics = source.metrics()
        assert stream_of(by_connection(kept)[1]) == data
    assert metrics.zero_copy_batches == 0
    assert metrics.copied_out_bytes == len(data)
    assert metrics.chunks_leased == 0, "copied batches hold nothing of the area"
    assert all(batch.column("area_offset").null_count == batch.num_rows for batch in kept)


def test_held_batches_are_never_written_over(wire, send):
    """Hashes of held bytes, taken when they came and when they go, are the same."""
    chance = random.Random(6)
    with wire.listen(area=SMALL, accept=3) as source:
        for seed in range(3):
            send(source.address, random.Random(seed).randbytes(8_000_000))
        held = []

        def digest(batch):
            return [hashlib.md5(buffer).digest() for buffer in payload_buffers(batch)]

        for batch in source:
            held.append((batch, digest(batch)))
            while len(held) > 12:
                old, before = held.pop(chance.randrange(len(held)))
                assert digest(old) == before
        for old, before in held:
            assert digest(old) == before
        held.clear()
        del batch, old


def test_batches_that_are_held_leave_the_nic_its_share(wire, send):
    """However much comes at once, or nothing would come that makes a consumer let go."""
    for _ in range(5):
        with wire.listen(area=SMALL, accept=3) as source:
            for seed in range(3):
                send(source.address, random.Random(seed).randbytes(1_000_000))
            held, most = [], 0
            for batch in source:
                held.append(batch)
                most = max(most, source.metrics().chunks_leased)
            rows = (each for batch in held for each in batch["payload"])
            assert sum(len(each.as_buffer()) for each in rows) == 3_000_000
            if wire.transport == "zcrx":
                # Half of it, the batch that crosses that line, and the one that is being filled.
                assert most <= source.metrics().chunks * 7 // 8
            del batch
            held.clear()


def test_a_stalled_connection_does_not_stop_others(wire, send):
    with wire.listen(framing=zc.framing.Delimited(), accept=2) as source:
        with dial(source.address) as quiet:
            quiet.sendall(b"half")
            eventually(lambda: source.metrics().bytes == 4)
            send(source.address, b"line\n" * 1000)
            seen = 0
            while seen < 1000:
                seen += source.next_batch(20).num_rows
        assert [row for got in by_connection(source).values() for row in got] == [(0, b"half")]
