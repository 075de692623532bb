# SPDX-License-Identifier: Apache-2.0
"""The software NIC as a NIC: what can be set, what is refused, where packets go."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import struct
import time
from contextlib import ExitStack, suppress

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

import zcrx_arrow as zc
from tests.conftest import eventually
from tests.kernel.guest import nic
from tests.kernel.guest.feed import Checker, all_home, open_source, receive_all
from tests.wire import dial
from zcrx_arrow.errors import UnsupportedError
from zcrx_arrow.nic import netlink

pytestmark = pytest.mark.usefixtures("wired")


def test_no_such_queue():
    with pytest.raises(UnsupportedError, match="no queue 40") as caught:
        open_source(9000, 40)
    assert caught.value.errno == errno.ERANGE


def test_split_is_off():
    nic.split("zc0", "off")
    try:
        with pytest.raises(UnsupportedError, match="split of zc0 is off") as caught:
            open_source(9000, 1)
        assert "ethtool -G zc0 tcp-data-split on" in caught.value.remedy
    finally:
        nic.split("zc0", "on")


def test_a_threshold_of_split():
    """A payload that stays with its headers is not zero-copy: the kernel wants 0."""
    nic.hds_thresh("zc0", 512)
    try:
        assert netlink.rings("zc0").hds_thresh == 512
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


def test_a_queue_that_does_not_restart():
    nic.knob("zc0", "fail_restarts", 1)
    with pytest.raises(zc.ZcrxError) as caught:
        open_source(9000, 1)
    assert caught.value.errno == errno.ENOMEM
    with open_source(9000, 1) as source:
        assert source.transport == "zcrx"


def test_ethtool_reads_everything(wired):
    assert "driver: zcsim" in nic.ethtool("-i", "zc0")
    rings = nic.ethtool("-g", "zc0")
    assert re.search(r"TCP data split:\s+on", rings)
    assert re.search(r"HDS thresh:\s+1024\b.*HDS thresh:\s+0\b", rings, re.DOTALL)
    assert re.search(r"Combined:\s+16\b.*Combined:\s+4\b", nic.ethtool("-l", "zc0"), re.DOTALL)
    assert "RX flow hash indirection table" in nic.ethtool("-x", "zc0")
    assert "rx3_placed_bytes" in nic.ethtool("-S", "zc0")


def test_rings():
    nic.ethtool("-G", "zc0", "rx", "256", "tx", "128")
    try:
        assert re.search(r"RX:\s+4096.*RX:\s+256\b", nic.ethtool("-g", "zc0"), re.DOTALL)
        assert re.search(r"TX:\s+4096.*TX:\s+128\b", nic.ethtool("-g", "zc0"), re.DOTALL)
        assert netlink.rings("zc0").tcp_data_split == "on"
        with pytest.raises(AssertionError, match="at least 64 entries"):
            nic.ethtool("-G", "zc0", "rx", "8")
        with pytest.raises(AssertionError, match="exceeds maximum"):
            nic.ethtool("-G", "zc0", "rx", "8192")
        with pytest.raises(AssertionError):
            nic.ethtool("-G", "zc0", "hds-thresh", "1025")
    finally:
        nic.ethtool("-G", "zc0", "rx", "1024", "tx", "1024")


def test_rules_are_listed_as_they_were_given():
    before = nic.ethtool("-n", "zc0")
    nic.ethtool("-K", "zc0", "ntuple", "on")
    nic.ethtool(
        "-N", "zc0", "flow-type", "tcp4", "src-ip", "10.9.0.2", "dst-ip", "10.9.0.1",
        "src-port", "77", "dst-port", "9100", "action", "2", "loc", "9",
    )  # fmt: skip
    nic.ethtool("-N", "zc0", "flow-type", "tcp6", "dst-port", "9101", "action", "3", "loc", "12")
    try:
        listed = nic.ethtool("-n", "zc0")
        assert "Total 2 rules" in listed
        assert re.search(
            r"Filter: 9\s+Rule Type: TCP over IPv4\s+Src IP addr: 10.9.0.2 mask: 0.0.0.0\s+"
            r"Dest IP addr: 10.9.0.1 mask: 0.0.0.0\s+TOS: 0x0 mask: 0xff\s+"
            r"Src port: 77 mask: 0x0\s+Dest port: 9100 mask: 0x0\s+Action: Direct to queue 2",
            listed,
        )
        assert re.search(
            r"Filter: 12\s+Rule Type: TCP over IPv6.*Dest port: 9101 mask: 0x0\s+"
            r"Action: Direct to queue 3",
            listed,
            re.DOTALL,
        )
        with pytest.raises(AssertionError):
            nic.ethtool("-N", "zc0", "flow-type", "tcp4", "dst-port", "1", "action", "4")
        with pytest.raises(AssertionError, match="not supported"):
            nic.ethtool("-N", "zc0", "flow-type", "udp4", "dst-port", "1", "action", "1")
    finally:
        nic.ethtool("-N", "zc0", "delete", "9")
        nic.ethtool("-N", "zc0", "delete", "12")
    with pytest.raises(AssertionError):
        nic.ethtool("-N", "zc0", "delete", "12")
    assert nic.ethtool("-n", "zc0") == before


def test_a_full_rule_table():
    rules = []
    try:
        for port in range(32):
            rules += nic.steer("zc0", 9200 + port, 1)
        with pytest.raises(OSError, match="No space left"):
            nic.steer("zc0", 9999, 1)
    finally:
        nic.forget("zc0", rules)


def test_a_rule_of_five_values_is_exact():
    """Of two flows to the same port only the one that the rule names comes by its queue."""
    nic.ethtool("-K", "zc0", "ntuple", "on")
    nic.ethtool(
        "-N", "zc0", "flow-type", "tcp4", "src-ip", nic.THERE[4], "src-port", "7001",
        "dst-ip", nic.HERE[4], "dst-port", "9000", "action", "2", "loc", "0",
    )  # fmt: skip
    try:
        with socket.create_server((nic.HERE[4], 9000)) as server:
            queues = []
            for port in (7001, 7002):
                with nic.far(), socket.socket() as peer:
                    peer.bind((nic.THERE[4], port))
                    peer.connect((nic.HERE[4], 9000))
                    accepted, _ = server.accept()
                queues.append(queue_of(accepted))
    finally:
        nic.ethtool("-N", "zc0", "delete", "0")
    assert queues == [2, 0]


def queue_of(connection: socket.socket) -> int:
    """Give the receive queue that a connection's packets come by; closes it."""
    with connection:
        napi = connection.getsockopt(socket.SOL_SOCKET, 56)  # SO_INCOMING_NAPI_ID
    count = nic.channels("zc0")
    return {netlink.queue("zc0", number).napi_id: number for number in range(count)}[napi]


@pytest.mark.parametrize("family", [4, 6])
def test_connections_know_their_napi(steered, family):
    steered(9000, 3)
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with (
        socket.create_server((nic.HERE[family], 9000), family=kind) as server,
        dial((nic.HERE[family], 9000)),
    ):
        assert queue_of(server.accept()[0]) == 3


@pytest.fixture
def context(wired):
    """Queues 1 and 2 share the connections to port 9000."""
    answer = nic.ethtool("-X", "zc0", "context", "new", "start", "1", "equal", "2")
    number = re.search(r"New RSS context is (\d+)", answer).group(1)
    nic.ethtool("-K", "zc0", "ntuple", "on")
    rule = ("flow-type", "tcp4", "dst-port", "9000", "context", number, "loc", "5")
    nic.ethtool("-N", "zc0", *rule)
    yield number
    nic.ethtool("-N", "zc0", "delete", "5")
    nic.ethtool("-X", "zc0", "context", number, "delete")


def test_two_queues_of_a_context_in_one_process(context, peer):
    """Each source accepts what comes by its queue, so nothing is copied."""
    assert f"Direct to RSS Context {context}" in nic.ethtool("-n", "zc0")
    assert re.search(
        r"^\s*0:\s+1\s+2\s+1\s+2", nic.ethtool("-x", "zc0", "context", context), re.MULTILINE
    )
    total, connections = 500_000, 16
    with ExitStack() as stack:
        sources = [
            stack.enter_context(
                open_source(9000, 1, nic=zc.NicQueue("zc0", queue, share=(1, 2)), area="16 MiB")
            )
            for queue in (1, 2)
        ]
        peer(9000, connections=connections, total=total)
        checkers = [Checker() for _ in sources]
        deadline = time.monotonic() + 60
        # In turn: one whose queue is full accepts no more.
        while sum(sum(each.positions.values()) for each in checkers) < connections * (total + 1):
            assert time.monotonic() < deadline
            for source, checker in zip(sources, checkers, strict=True):
                with suppress(TimeoutError):
                    checker.take(source.next_batch("100 ms"))
        shares = [source.metrics().accepted for source in sources]
        for source, checker, mine in zip(sources, checkers, shares, strict=True):
            checker.check(mine, total)
            assert all_home(source).kernel_copied_bytes == 0
    assert sum(shares) == connections
    assert min(shares) > 0


def test_a_context_can_be_changed(context):
    nic.ethtool("-X", "zc0", "context", context, "weight", "0", "1", "0", "3")
    table = nic.ethtool("-x", "zc0", "context", context)
    entries = re.findall(r"^\s*\d+:((?:\s+\d+)+)\s*$", table, re.MULTILINE)
    queues = [int(queue) for row in entries for queue in row.split()]
    assert (len(queues), queues.count(1), queues.count(3)) == (128, 32, 96)
    with pytest.raises(OSError, match="Invalid argument"):
        nic.set_channels("zc0", 2)  # a queue of the context would be gone


class Program:
    """An XDP program that lets everything pass, loaded by bpf(2)."""

    def __init__(self, flags: int) -> None:
        code = struct.pack("=BBhi", 0xB7, 0, 0, 2) + struct.pack("=BBhi", 0x95, 0, 0, 0)
        self.code = ctypes.create_string_buffer(code, len(code))
        self.license = ctypes.create_string_buffer(b"GPL")
        # union bpf_attr of BPF_PROG_LOAD (include/uapi/linux/bpf.h): BPF_PROG_TYPE_XDP is 6
        attr = struct.pack(
            "=IIQQIIQII", 6, 2, ctypes.addressof(self.code), ctypes.addressof(self.license),
            0, 0, 0, 0, flags,
        ).ljust(128, b"\0")  # fmt: skip
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.syscall(321, 5, ctypes.create_string_buffer(attr, len(attr)), len(attr))
        assert self.fd >= 0, os.strerror(ctypes.get_errno())


def set_xdp(fd: int) -> None:
    with IPRoute() as route:
        attributes = {"attrs": [("IFLA_XDP_FD", fd)]}
        route.link("set", index=socket.if_nametoindex("zc0"), xdp=attributes)


def test_xdp_and_a_bound_queue_exclude_each_other():
    whole, parts = Program(0), Program(1 << 5)  # BPF_F_XDP_HAS_FRAGS
    try:
        with pytest.raises(NetlinkError, match="busy"):
            set_xdp(whole.fd)
        set_xdp(parts.fd)
        assert netlink.xdp_program("zc0") is not None
        with pytest.raises(zc.ZcrxError, match="XDP program") as caught:
            open_source(9000, 1)
        assert caught.value.errno == errno.EEXIST
        assert "ip link set zc0 xdp off" in caught.value.remedy
        set_xdp(-1)
        assert netlink.xdp_program("zc0") is None
        with open_source(9000, 1), pytest.raises(NetlinkError, match=r"busy|exists"):
            set_xdp(parts.fd)
    finally:
        set_xdp(-1)
        os.close(whole.fd)
        os.close(parts.fd)


def test_small_payloads_stay_with_their_headers():
    """Up to hds-thresh; without a bound queue, since the kernel wants it to be 0 there."""
    nic.hds_thresh("zc0", 512)
    try:
        for size, kind in ((512, "linear"), (513, "placed_bytes")):
            with (
                socket.create_server((nic.HERE[4], 9000)) as server,
                dial((nic.HERE[4], 9000)) as peer,
            ):
                here, _ = server.accept()
                before = nic.stats("zc0")
                peer.sendall(bytes(size))
                assert here.recv(2000, socket.MSG_WAITALL if size > 2000 else 0) == bytes(size)
                after = nic.stats("zc0")
                here.close()
            placed = after["rx0_placed_bytes"] - before["rx0_placed_bytes"]
            assert placed == (size if kind == "placed_bytes" else 0)
    finally:
        nic.hds_thresh("zc0", 0)


@pytest.mark.parametrize("tso", ["on", "off"])
def test_what_is_sent_large_or_small_arrives(steered, peer, tso):
    """Large segments as the sender's, or small ones that GRO puts together."""
    steered(9000, 1)
    nic.ethtool("-K", "zc1", "tso", tso, there=True)
    before = nic.stats("zc0")["rx1_packets"]
    try:
        with open_source(9000, 1, accept=2) as source:
            peer(9000, connections=2, total=3_000_000)
            metrics = receive_all(source, 2, 3_000_000)
    finally:
        nic.ethtool("-K", "zc1", "tso", "on", there=True)
    assert metrics.kernel_copied_bytes == 0
    packets = nic.stats("zc0")["rx1_packets"] - before
    assert packets > 4000 if tso == "off" else packets < 3000


def test_statistics_of_queues_and_links(steered, peer):
    steered(9000, 1)

    def sent() -> int:
        text = nic.run("ip", "-n", nic.FAR, "-s", "-j", "link", "show", "zc1")
        return int(re.search(r'"tx":\{"bytes":(\d+)', text).group(1))

    def received() -> int:
        text = nic.run("ip", "-s", "-j", "link", "show", "zc0")
        return int(re.search(r'"rx":\{"bytes":(\d+)', text).group(1))

    before = sent(), received(), nic.stats("zc0")
    with open_source(9000, 1, accept=1) as source:
        peer(9000, total=1_000_000)
        receive_all(source, 1, 1_000_000)
    after = nic.stats("zc0")
    assert sent() - before[0] > 1_000_000
    assert received() - before[1] > 1_000_000
    assert after["rx1_bytes"] - before[2]["rx1_bytes"] > 1_000_000
    assert after["rx2_bytes"] == before[2]["rx2_bytes"]


def test_a_long_wire(steered, peer):
    steered(9000, 1)
    nic.knob("zc0", "delay_us", 20_000)
    nic.knob("zc1", "delay_us", 20_000)
    with open_source(9000, 1, accept=1) as source:
        begin = time.monotonic()
        with dial((nic.HERE[4], 9000)):
            elapsed = time.monotonic() - begin
        assert source.next_batch("20 s") is None
    assert elapsed >= 0.040, "SYN and SYN-ACK take 20 ms each"
    with open_source(9000, 1, accept=1) as source:
        peer(9000, total=1_000_000)
        receive_all(source, 1, 1_000_000)


def test_more_pairs_and_queues():
    nic.unload()
    nic.load(pairs=2, queues=6)
    try:
        assert nic.channels("zc0") == nic.channels("zc2") == 6
        nic.run("ip", "link", "set", "zc2", "up")
        nic.run("ip", "link", "set", "zc3", "up")
        assert netlink.queue("zc2", 5).napi_id is not None
    finally:
        nic.unload()
        nic.load()
