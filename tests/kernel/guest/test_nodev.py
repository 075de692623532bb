# SPDX-License-Identifier: Apache-2.0
"""The interface of zero-copy receive on a real kernel, without a NIC."""

from __future__ import annotations

import gc
import random
import re
import socket
import threading
import time
from pathlib import Path

import pytest

import zcrx_arrow as zc
from tests.conftest import eventually, open_fds

MIB = 1 << 20
PATTERN = random.Random(1).randbytes(1_000_003)  # a prime length, so that no two places are alike
TWICE = PATTERN + PATTERN


def check_rows(batch, position: int) -> int:
    """Compare a batch of one connection with the pattern; give the position behind it."""
    for at, payload in zip(batch["position"].to_pylist(), batch["payload"], strict=True):
        data = payload.as_buffer()
        assert at == position, "gap or repeat"
        begin = at % len(PATTERN)
        assert memoryview(data).cast("B") == memoryview(TWICE)[begin : begin + data.size]
        position += data.size
    return position


def pinned_pages() -> int:
    """Pages that the kernel has pinned and not let go of (/proc/vmstat)."""
    values = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(values["nr_foll_pin_acquired"]) - int(values["nr_foll_pin_released"])


def mapped_kib() -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"^Rss:\s+(\d+)", text, re.MULTILINE).group(1))


def test_this_kernel_has_it_all():
    features = zc.probe()
    assert (features.io_uring, features.zcrx_ring, features.zcrx, features.nodev) == (None,) * 4
    assert features.knows_nodev
    assert features.flush


@pytest.mark.timeout(400)
def test_a_gibibyte_through_four_mebibytes():
    total = 1 << 30
    chance = random.Random(2)

    def send(address) -> None:
        with socket.create_connection(address) as peer:
            sent = 0
            while sent < total:
                begin = sent % len(PATTERN)
                piece = memoryview(TWICE)[begin : begin + min(len(PATTERN), total - sent)]
                peer.sendall(piece)
                sent += len(piece)

    with zc.listen("127.0.0.1:0", transport="nodev", area="4 MiB", accept=1) as source:
        sender = threading.Thread(target=send, args=(source.address,))
        sender.start()
        position, held = 0, []
        for batch in source:
            position = check_rows(batch, position)
            held.append(batch)
            if not chance.randrange(400):
                time.sleep(chance.random() / 20)
            if len(held) > chance.randrange(12):
                held.clear()
        sender.join()
        assert position == total
        (connection,) = source.connections().to_pylist()
        assert (connection["bytes"], connection["close_reason"]) == (total, "eof")
        held.clear()
        del batch
        gc.collect()
        eventually(lambda: source.metrics().chunks_leased == 0)
        metrics = source.metrics()
        assert metrics.chunks_offered == metrics.chunks == 1024
        assert metrics.lease_faults == 0
        assert metrics.kernel_copied_bytes > 0
        assert metrics.stitched_bytes == 0


@pytest.mark.timeout(600)
def test_a_thousand_sources_leave_nothing_behind():
    def once() -> None:
        with zc.listen("127.0.0.1:0", transport="nodev", area="64 KiB", accept=1) as source:
            with socket.create_connection(source.address) as peer:
                peer.sendall(b"a few bytes for the feed")
            batch = source.next_batch("20 s")
            assert batch["payload"][0].as_py() == b"a few bytes for the feed"
            del batch
            assert source.next_batch("20 s") is None
            assert source.metrics().chunks_offered == 16

    for _ in range(100):
        once()
    gc.collect()
    eventually(lambda: pinned_pages() == 0)
    fds, memory = open_fds(), mapped_kib()
    for _ in range(1000):
        once()
    gc.collect()
    assert open_fds() == fds
    assert mapped_kib() - memory < 4096
    # The kernel lets go of a ring a moment after its descriptor is closed.
    eventually(lambda: pinned_pages() == 0)


def test_a_dry_area_goes_on_when_a_batch_is_released():
    batching = zc.Batching(max_delay="2 s", max_rows=1)
    limits = zc.Limits(queue_batches=64, exhausted_after="60 s")
    with zc.listen(
        "127.0.0.1:0",
        transport="nodev",
        area="64 KiB",
        accept=1,
        copy_out="never",
        batching=batching,
        limits=limits,
    ) as source:
        data = TWICE[: 40 * 4096]

        def send() -> None:
            with socket.create_connection(source.address) as peer:
                peer.sendall(data)

        sender = threading.Thread(target=send)
        sender.start()
        held = [source.next_batch("20 s") for _ in range(12)]
        eventually(lambda: source.metrics().starved > 0)
        while source.metrics().queue_batches:
            held.append(source.next_batch("20 s"))
        with pytest.raises(TimeoutError):
            source.next_batch("300 ms")
        assert source.metrics().chunks_offered == 0
        position = sum(batch["payload"][0].as_buffer().size for batch in held)
        held.clear()
        gc.collect()
        released = time.monotonic()
        batch = source.next_batch("20 s")
        resumed = time.monotonic() - released
        assert resumed < 2, "not within one batch delay"
        while batch is not None:
            position = check_rows(batch, position)
            batch = source.next_batch("20 s")
        sender.join()
        assert position == len(data)
        assert source.metrics().nobufs > 0
        assert source.metrics().flushes > 0


def test_several_registrations_in_one_process():
    sources = [
        zc.listen("127.0.0.1:0", transport="nodev", area="1 MiB", accept=1) for _ in range(3)
    ]
    for number, source in enumerate(sources):
        with socket.create_connection(source.address) as peer:
            peer.sendall(bytes([number]) * 100_000)
    for number, source in enumerate(sources):
        data = b"".join(p.as_py() for batch in source for p in batch["payload"])
        assert data == bytes([number]) * 100_000
        source.close()


@pytest.mark.parametrize(
    "options",
    [
        zc.Zcrx(kernel_memory=True),
        zc.Zcrx(refill_entries=3),
        zc.Zcrx(turn="10 KiB"),
        zc.Zcrx(busy_poll="50 us", prefer_busy_poll=True),
    ],
    ids=["kernel memory", "small refill ring", "turns", "busy polling"],
)
def test_details(options, send):
    with zc.listen(
        "127.0.0.1:0", transport="nodev", area="1 MiB", accept=3, zcrx=options
    ) as source:
        for _ in range(3):
            send(source.address, TWICE[:700_000])
        positions: dict[int, int] = {}
        for batch in source:
            for row in batch.to_pylist():
                at = positions.setdefault(row["connection"], 0)
                assert row["position"] == at
                assert row["payload"] == TWICE[at : at + len(row["payload"])]
                positions[row["connection"]] = at + len(row["payload"])
        assert list(positions.values()) == [700_000] * 3
        assert set(source.connections()["close_reason"].to_pylist()) == {"eof"}


def test_a_chunk_for_every_small_message(send):
    """The kernel takes a whole chunk for ten bytes: batches must give them back in time."""
    with zc.listen(
        "127.0.0.1:0", transport="nodev", area="64 KiB", accept=1, framing=zc.framing.Delimited()
    ) as source:
        with socket.create_connection(source.address) as peer:
            for number in range(300):
                peer.sendall(b"message number %d\n" % number)
                if number % 7 == 0:
                    time.sleep(0.001)
        rows = [p.as_py() for batch in source for p in batch["payload"]]
        assert rows == [b"message number %d" % number for number in range(300)]


def test_bounded_receive_buffers():
    limits = zc.Limits(receive_buffer="64 KiB")
    with (
        zc.listen("127.0.0.1:0", transport="nodev", area="1 MiB", limits=limits) as source,
        socket.create_connection(source.address) as peer,
    ):
        eventually(lambda: source.metrics().connections == 1)
        peer.setblocking(False)
        sent = 0
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:  # nobody pulls: the window must close
            try:
                sent += peer.send(b"x" * 65536)
            except BlockingIOError:
                time.sleep(0.05)
        assert sent < 16 * MIB
