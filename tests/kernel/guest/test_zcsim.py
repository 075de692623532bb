# SPDX-License-Identifier: Apache-2.0
"""Zero-copy receive for real: a kernel's NIC path, with a software NIC below it."""

from __future__ import annotations

import errno
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from pyroute2.netlink.exceptions import NetlinkError

import zcrx_arrow as zc
from tests.conftest import ROOT, eventually
from tests.kernel.guest import nic
from tests.kernel.guest.test_nodev import pinned_pages
from zcrx_arrow.errors import UnsupportedError
from zcrx_arrow.nic import netlink

# What the peer sends: byte p of connection c is PATTERN[(p + c * 7919) % len].
PATTERN = random.Random(3).randbytes(1_000_003)
TWICE = PATTERN + PATTERN
SEND = """
    import random, socket, sys, threading
    host, port, connections, total = sys.argv[1], *map(int, sys.argv[2:5])
    pattern = random.Random(3).randbytes(1_000_003)
    twice = pattern + pattern
    def send(number):
        with socket.create_connection((host, port)) as peer:
            peer.sendall(bytes([number]))
            sent = 0
            while sent < total:
                begin = (sent + number * 7919) % len(pattern)
                piece = memoryview(twice)[begin : begin + min(len(pattern), total - sent)]
                peer.sendall(piece)
                sent += len(piece)
            peer.shutdown(socket.SHUT_WR)
            peer.recv(1)
    threads = [threading.Thread(target=send, args=(n,)) for n in range(connections)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


@pytest.fixture(scope="module", autouse=True)
def card():
    if not os.environ.get("ZCRX_ARROW_ZCSIM"):
        pytest.skip("the software NIC could not be built; see above")
    nic.load()
    yield
    nic.unload()


@pytest.fixture(scope="module")
def huge_pages():
    """Enough for two areas of 16 MiB: the kernel lets go of one a moment after its ring is closed."""
    pages = Path("/proc/sys/vm/nr_hugepages")
    pages.write_text("16")
    assert int(pages.read_text()) == 16
    yield
    pages.write_text("0")


@pytest.fixture(autouse=True)
def no_faults():
    yield
    for device in ("zc0", "zc1"):
        for name in ("drop_every", "reorder_every", "fail_restarts"):
            nic.knob(device, name, 0)
        for name in ("linear", "share", "refuse_split"):
            nic.knob(device, name, False)


@pytest.fixture
def steered():
    rules: list[int] = []

    def to(port: int, queue: int) -> None:
        rules.extend(nic.steer("zc0", port, queue))

    yield to
    nic.forget("zc0", rules)


@pytest.fixture
def peer():
    """Start a sender on the far side of the wire."""
    running: list[subprocess.Popen[bytes]] = []

    def start(port: int, *, connections: int = 1, total: int, family: int = 4):
        command = ["ip", "netns", "exec", nic.FAR, sys.executable, "-c", textwrap.dedent(SEND)]
        arguments = [nic.HERE[family], str(port), str(connections), str(total)]
        running.append(subprocess.Popen([*command, *arguments]))
        return running[-1]

    yield start
    for process in running:
        assert process.wait(60) == 0, "a sender failed"


def open_source(port: int, queue: int, **options) -> zc.Source:
    options.setdefault("area", "8 MiB")
    host = options.pop("host", nic.HERE[4])
    source = zc.listen((host, port), transport="zcrx", nic=f"zc0:{queue}", **options)
    assert source.transport == "zcrx"
    return source


class Checker:
    """Compares what arrives with what was sent, byte for byte, by position."""

    def __init__(self) -> None:
        self.positions: dict[int, int] = {}
        self.numbers: dict[int, int] = {}

    def take(self, batch) -> None:
        columns = (batch["connection"], batch["position"], batch["payload"])
        for connection, position, payload in zip(*columns, strict=True):
            data = memoryview(payload.as_buffer()).cast("B")
            which, at = connection.as_py(), position.as_py()
            assert self.positions.get(which, 0) == at, "gap or repeat"
            self.positions[which] = at + len(data)
            if at == 0:
                self.numbers[which] = data[0]
                data, at = data[1:], 1
            begin = (at - 1 + self.numbers[which] * 7919) % len(PATTERN)
            assert data == memoryview(TWICE)[begin : begin + len(data)], "bytes differ"

    def check(self, connections: int, total: int) -> None:
        assert sorted(self.positions.values()) == [total + 1] * connections


def all_home(source: zc.Source) -> zc.metrics.Metrics:
    gc.collect()
    eventually(lambda: source.metrics().chunks_leased == 0)
    metrics = source.metrics()
    assert metrics.lease_faults == 0
    assert metrics.chunks_offered == metrics.chunks
    return metrics


def receive_all(source: zc.Source, connections: int, total: int) -> zc.metrics.Metrics:
    checker = Checker()
    for batch in source:
        checker.take(batch)
        del batch
    checker.check(connections, total)
    return all_home(source)


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_copies(steered, peer, family):
    total = 30_000_000
    steered(9000, 1)
    host = nic.HERE[family]
    before = nic.stats("zc0")["rx1_placed_bytes"]
    with open_source(9000, 1, accept=1, host=host, area="64 MiB") as source:
        assert netlink.queue("zc0", 1).holder == "io_uring"
        peer(9000, total=total, family=family)
        metrics = receive_all(source, 1, total)
    assert metrics.bytes == total + 1
    assert nic.stats("zc0")["rx1_placed_bytes"] - before >= total + 1
    assert metrics.kernel_copied_bytes == 0
    assert metrics.copied_out_bytes == 0
    assert metrics.stitched_bytes == 0
    assert metrics.flushes == 0
    assert metrics.zero_copy_share == 1.0


def test_linear_packets_are_copied_by_the_kernel(steered, peer):
    steered(9000, 1)
    nic.knob("zc0", "linear", True)
    before = nic.stats("zc0")
    with open_source(9000, 1, accept=1) as source:
        peer(9000, total=3_000_000)
        receive_all(source, 1, 3_000_000)
    after = nic.stats("zc0")
    assert after["rx1_placed_bytes"] == before["rx1_placed_bytes"]
    assert after["rx1_linear"] > before["rx1_linear"]


def test_wrong_steering_is_copied_and_counted(peer):
    """No rule: the packets come by queue 0, in ordinary pages."""
    with open_source(9000, 1, accept=1) as source:
        peer(9000, total=3_000_000)
        metrics = receive_all(source, 1, 3_000_000)
    assert metrics.kernel_copied_bytes > 2_000_000
    assert metrics.copy_events > 0


def test_several_connections_on_a_queue(steered, peer):
    steered(9000, 1)
    with open_source(9000, 1, accept=8) as source:
        peer(9000, connections=8, total=3_000_000)
        metrics = receive_all(source, 8, 3_000_000)
    assert metrics.kernel_copied_bytes == 0


def test_two_queues_in_one_process(steered, peer):
    steered(9001, 1)
    steered(9002, 2)
    with open_source(9001, 1, accept=2) as one, open_source(9002, 2, accept=2) as two:
        peer(9001, connections=2, total=2_000_000)
        peer(9002, connections=2, total=2_000_000)
        assert receive_all(one, 2, 2_000_000).kernel_copied_bytes == 0
        assert receive_all(two, 2, 2_000_000).kernel_copied_bytes == 0


def test_a_stalled_source_does_not_stop_another(steered, peer):
    steered(9001, 1)
    steered(9002, 2)
    with open_source(9001, 1, accept=1) as stalled, open_source(9002, 2, accept=1) as other:
        peer(9001, total=20_000_000)
        eventually(lambda: stalled.metrics().paused == 1)
        peer(9002, total=5_000_000)
        receive_all(other, 1, 5_000_000)
        assert stalled.metrics().bytes < 20_000_000
        receive_all(stalled, 1, 20_000_000)


def test_several_packets_in_a_chunk(steered, peer):
    """Fragments share chunks: every one of them must be returned, and none twice."""
    steered(9000, 1)
    nic.knob("zc0", "share", True)
    nic.run("ip", "-n", nic.FAR, "link", "set", "zc1", "mtu", "700")
    try:
        with open_source(9000, 1, accept=3, zcrx=zc.Zcrx(refill_entries=16)) as source:
            peer(9000, connections=3, total=2_000_000)
            metrics = receive_all(source, 3, 2_000_000)
    finally:
        nic.run("ip", "-n", nic.FAR, "link", "set", "zc1", "mtu", "1500")
    assert metrics.kernel_copied_bytes == 0


@pytest.mark.parametrize("chunk", [4096, 16384, 65536])
def test_chunk_sizes(steered, peer, chunk, huge_pages):
    steered(9000, 1)
    area = zc.Area(size="16 MiB", chunk=chunk, huge_pages=True)
    with open_source(9000, 1, accept=1, area=area) as source:
        assert source.chunk_bytes == chunk
        peer(9000, total=10_000_000)
        metrics = receive_all(source, 1, 10_000_000)
        assert metrics.chunks == (16 << 20) // chunk
    assert metrics.kernel_copied_bytes == 0


def test_chunks_that_the_memory_does_not_allow(steered, peer):
    """Without huge pages 64 KiB do not lie together: a page it is, and it works."""
    steered(9000, 1)
    area = zc.Area(size=8 << 20, chunk="64 KiB")
    with open_source(9000, 1, accept=1, area=area) as source:
        assert source.chunk_bytes in (4096, 65536)
        peer(9000, total=1_000_000)
        receive_all(source, 1, 1_000_000)


def test_a_dry_area(steered, peer):
    """The NIC finds no chunk and drops; the peer sends again; nothing is lost."""
    steered(9000, 1)
    limits = zc.Limits(queue_batches=512, exhausted_after="60 s", receive_buffer="16 MiB")
    with open_source(
        9000,
        1,
        accept=1,
        area="2 MiB",
        copy_out="never",
        limits=limits,
        batching=zc.Batching(max_rows=4),
    ) as source:
        peer(9000, total=20_000_000)
        checker, held = Checker(), []
        eventually(lambda: source.metrics().alloc_fails > 0)
        while source.metrics().queue_batches:
            held.append(source.next_batch("20 s"))
        for batch in held:
            checker.take(batch)
        held.clear()
        del batch
        gc.collect()
        released = time.monotonic()
        batch = source.next_batch("20 s")
        recovery = time.monotonic() - released
        print(f"recovered after {recovery:.3f} s")
        while batch is not None:
            checker.take(batch)
            batch = source.next_batch("20 s")
        checker.check(1, 20_000_000)
        assert all_home(source).alloc_fails > 0


@pytest.mark.parametrize("fault", ["drop_every", "reorder_every"])
def test_a_bad_wire(steered, peer, fault):
    steered(9000, 1)
    nic.run("ip", "netns", "exec", nic.FAR, "true")
    Path("/sys/kernel/debug/zcsim/zc1", fault).write_text("50")
    with open_source(9000, 1, accept=2) as source:
        peer(9000, connections=2, total=2_000_000)
        receive_all(source, 2, 2_000_000)


def test_bound_already():
    with open_source(9000, 1), pytest.raises(zc.ZcrxError) as caught:
        open_source(9001, 1, zcrx=zc.Zcrx(bind_timeout="300 ms"))
    assert caught.value.errno == errno.EEXIST
    assert "queue 1 of zc0 is held by io_uring" in str(caught.value)


def test_no_such_queue():
    with pytest.raises(UnsupportedError, match="no queue 40") as caught:
        open_source(9000, 40)
    assert caught.value.errno == errno.ERANGE


def test_split_is_off():
    nic.split("zc0", "off")
    try:
        with pytest.raises(UnsupportedError, match="split of zc0 is disabled") as caught:
            open_source(9000, 1)
        assert "ethtool -G zc0 tcp-data-split on" in caught.value.remedy
    finally:
        nic.split("zc0", "on")


def test_a_threshold_of_split():
    """A payload that stays with its headers is not zero-copy: the kernel wants 0."""
    nic.hds_thresh("zc0", 512)
    try:
        assert netlink.rings("zc0") == netlink.Rings("enabled", 512)
        with pytest.raises(UnsupportedError, match="hds-thresh of zc0 is 512") as caught:
            open_source(9000, 1)
        assert "ethtool -G zc0 hds-thresh 0" in caught.value.remedy
    finally:
        nic.hds_thresh("zc0", 0)


def test_a_device_that_refuses_split():
    nic.split("zc0", "off")
    nic.knob("zc0", "refuse_split", True)
    try:
        with pytest.raises(NetlinkError, match="Operation not supported"):
            nic.split("zc0", "on")
    finally:
        nic.knob("zc0", "refuse_split", False)
        nic.split("zc0", "on")


def test_channels(peer):
    assert nic.channels("zc0") == 4
    nic.set_channels("zc0", 6)
    rules = nic.steer("zc0", 9005, 5)
    try:
        with open_source(9005, 5, accept=1) as source:
            with pytest.raises(OSError, match="Invalid argument"):
                nic.set_channels("zc0", 4)
            peer(9005, total=1_000_000)
            assert receive_all(source, 1, 1_000_000).kernel_copied_bytes == 0
        eventually(lambda: netlink.queue("zc0", 5).holder is None)
    finally:
        nic.forget("zc0", rules)  # a rule keeps its queue from being taken away
        nic.set_channels("zc0", 4)
    assert nic.channels("zc0") == 4


def test_two_processes_on_two_queues(steered, peer):
    steered(9001, 1)
    steered(9002, 2)
    script = """
        import zcrx_arrow as zc
        with zc.listen(
            ("10.9.0.1", 9002), transport="zcrx", nic="zc0:2", area="8 MiB", accept=1
        ) as source:
            print("bound", flush=True)
            received = sum(p.as_buffer().size for batch in source for p in batch["payload"])
            print(received, source.metrics().kernel_copied_bytes, flush=True)
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"bound\n"
    with open_source(9001, 1, accept=1) as source:
        peer(9001, total=2_000_000)
        peer(9002, total=2_000_000)
        assert receive_all(source, 1, 2_000_000).kernel_copied_bytes == 0
    assert other.stdout.readline() == b"2000001 0\n"
    other.stdout.close()
    assert other.wait(60) == 0


def test_a_queue_that_does_not_restart():
    nic.knob("zc0", "fail_restarts", 1)
    with pytest.raises(zc.ZcrxError) as caught:
        open_source(9000, 1)
    assert caught.value.errno == errno.ENOMEM
    with open_source(9000, 1) as source:
        assert source.transport == "zcrx"


def test_killed_and_bound_again(steered, peer):
    """The kernel lets go of a queue after kill -9; the next one waits for it."""
    steered(9001, 1)
    script = """
        import time
        import zcrx_arrow as zc
        source = zc.listen(("10.9.0.1", 9000), transport="zcrx", nic="zc0:1", area="8 MiB")
        print("bound", flush=True)
        held = [batch for batch in source]
    """
    receiver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert receiver.stdout.readline() == b"bound\n"
    os.kill(receiver.pid, signal.SIGKILL)
    with open_source(9001, 1, accept=1) as source:
        peer(9001, total=1_000_000)
        receive_all(source, 1, 1_000_000)
    receiver.wait()
    receiver.stdout.close()


def test_link_down_and_up(steered, peer):
    steered(9000, 1)
    with open_source(9000, 1, accept=1) as source:
        peer(9000, total=20_000_000)
        eventually(lambda: source.metrics().bytes > 1_000_000)
        nic.run("ip", "-n", nic.FAR, "link", "set", "zc1", "down")
        time.sleep(0.3)
        nic.run("ip", "-n", nic.FAR, "link", "set", "zc1", "up")
        receive_all(source, 1, 20_000_000)


def test_close_in_the_middle(steered):
    steered(9000, 1)
    for _ in range(5):
        command = ["ip", "netns", "exec", nic.FAR, sys.executable, "-c", textwrap.dedent(SEND)]
        sender = subprocess.Popen(
            [*command, nic.HERE[4], "9000", "2", "50000000"], stderr=subprocess.DEVNULL
        )
        with open_source(9000, 1) as source:
            held = [source.next_batch("30 s") for _ in range(3)]
        before = [batch["payload"].to_pylist() for batch in held]
        sender.kill()
        sender.wait()
        assert [batch["payload"].to_pylist() for batch in held] == before
        held.clear()


@pytest.mark.timeout(300)
def test_binding_again_and_again(steered):
    steered(9000, 1)
    with open_source(9000, 1):
        pass
    eventually(lambda: netlink.queue("zc0", 1).holder is None and pinned_pages() == 0)
    for _ in range(200):
        with open_source(9000, 1, area="1 MiB"):
            pass
    eventually(lambda: netlink.queue("zc0", 1).holder is None)
    eventually(lambda: pinned_pages() == 0)


def test_the_device_goes_while_batches_are_held(peer, steered):
    steered(9000, 1)
    source = open_source(9000, 1)
    command = ["ip", "netns", "exec", nic.FAR, sys.executable, "-c", textwrap.dedent(SEND)]
    arguments = [nic.HERE[4], "9000", "1", "5000000"]
    sender = subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL)
    held = [source.next_batch("30 s") for _ in range(2)]
    before = [batch["payload"].to_pylist() for batch in held]
    sender.kill()
    sender.wait()
    nic.unload()
    try:
        assert [batch["payload"].to_pylist() for batch in held] == before
        source.close()
        assert [batch["payload"].to_pylist() for batch in held] == before
    finally:
        nic.load()
    steered(9000, 1)  # the rules went with the device
