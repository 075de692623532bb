# SPDX-License-Identifier: Apache-2.0
"""Zero-copy receive for real: a kernel's NIC path, with a software NIC below it."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import zcrx_arrow as zc
from tests.conftest import ROOT, eventually
from tests.kernel.guest import nic
from tests.kernel.guest.feed import Checker, all_home, open_source, receive_all, start_sender
from tests.kernel.guest.test_nodev import pinned_pages
from tests.wire import dial
from zcrx_arrow.nic import netlink

pytestmark = pytest.mark.usefixtures("wired")


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
        peer(9001, total=16_000_000)
        eventually(lambda: stalled.metrics().paused == 1)
        peer(9002, total=2_000_000)
        receive_all(other, 1, 2_000_000)
        assert stalled.metrics().bytes < 16_000_000
        receive_all(stalled, 1, 16_000_000)


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
        # The peer doubles its wait with every try; it has tried for some seconds at most.
        recovery = time.monotonic() - released
        print(f"recovered after {recovery:.3f} s")
        assert recovery < 10
        while batch is not None:
            checker.take(batch)
            batch = source.next_batch("20 s")
        checker.check(1, 20_000_000)
        assert all_home(source).alloc_fails > 0


@pytest.mark.parametrize("fault", ["drop_every", "reorder_every"])
def test_a_bad_wire(steered, peer, fault):
    steered(9000, 1)
    nic.knob("zc1", fault, 50)
    with open_source(9000, 1, accept=2) as source:
        peer(9000, connections=2, total=2_000_000)
        receive_all(source, 2, 2_000_000)


def test_bound_already():
    with open_source(9000, 1), pytest.raises(zc.ZcrxError) as caught:
        open_source(9001, 1, zcrx=zc.Zcrx(bind_timeout="300 ms"))
    assert caught.value.errno == errno.EEXIST
    assert "queue 1 of zc0 is held by io_uring" in str(caught.value)


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
    for _ in range(3):
        sender = start_sender(9000, connections=2, total=50_000_000, stderr=subprocess.DEVNULL)
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
    sender = start_sender(9000, total=5_000_000, stderr=subprocess.DEVNULL)
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


@pytest.mark.timeout(400)
def test_a_gibibyte(steered, peer):
    """Through 32 MiB, every byte compared, and none copied."""
    total = (1 << 30) // 4
    steered(9000, 1)
    with open_source(9000, 1, accept=4, area="32 MiB") as source:
        peer(9000, connections=4, total=total)
        metrics = receive_all(source, 4, total)
    assert metrics.bytes == (1 << 30) + 4
    assert metrics.kernel_copied_bytes == metrics.copied_out_bytes == 0


def test_more_returns_than_the_refill_ring_takes(steered, peer):
    """What does not fit waits until the kernel has read the ring, which it does with new packets."""
    steered(9000, 1)
    total = 3_000_000
    options = {
        "zcrx": zc.Zcrx(refill_entries=8),
        "batching": zc.Batching(max_rows=8),
        "limits": zc.Limits(queue_batches=4096),
    }
    with open_source(9000, 1, copy_out="never", **options) as source:
        for number in range(3):
            peer(9000, total=total)
            checker, held = Checker(), []
            while sum(checker.positions.values()) <= total:
                held.append(source.next_batch("20 s"))
                checker.take(held[-1])
            checker.check(1, total)
            leased = source.metrics().chunks_leased
            held.clear()
            gc.collect()
            if not number:  # nobody sends: the receiver must ask the kernel to read the ring
                assert leased > 500
                eventually(lambda: source.metrics().flushes > 30)
        metrics = all_home(source)
        assert metrics.returns_pending == 0
    assert metrics.bytes == 3 * (total + 1)
    assert metrics.alloc_fails == metrics.kernel_copied_bytes == 0


@pytest.mark.parametrize("memory", ["own", "kernel"])
def test_a_receiver_that_is_not_ours(steered, memory):
    """The example of liburing receives and verifies; so the NIC is as it expects it."""
    steered(9000, 1)
    total = 10_000_000
    receiver = subprocess.Popen(
        [os.environ["ZCRX_ARROW_WITNESS"], "-p9000", "-izc0", "-q1", "-v", "-S8388608",
         f"-s{total}", f"-r{['own', 'kernel'].index(memory)}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        eventually(lambda: netlink.queue("zc0", 1).holder == "io_uring")
        before = nic.stats("zc0")["rx1_placed_bytes"]
        letters = bytes(range(ord("a"), ord("z") + 1))
        with dial((nic.HERE[4], 9000)) as sender:
            sender.sendall((letters * (total // 26 + 1))[:total])
            assert sender.recv(1) == b""
        assert nic.stats("zc0")["rx1_placed_bytes"] - before >= total
    finally:
        receiver.terminate()
        said = receiver.communicate()[0].decode()
    assert receiver.returncode == -signal.SIGTERM, said
    eventually(lambda: netlink.queue("zc0", 1).holder is None)
