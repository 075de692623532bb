# SPDX-License-Identifier: Apache-2.0
"""What the kernel refuses, and what we say about it."""

from __future__ import annotations

import errno
import logging
import os
import re
import resource
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import zcrx_arrow as zc
from tests.conftest import ROOT
from tests.kernel.guest.conftest import reserve_huge_pages
from zcrx_arrow import _core
from zcrx_arrow.errors import ConfigError, UnsupportedError
from zcrx_arrow.nic import netlink, preflight

OPEN = """
    import zcrx_arrow as zc
    try:
        with zc.listen("127.0.0.1:0", transport="nodev", area="16 MiB") as source:
            print("opened", source.transport)
    except zc.ZcrxError as error:
        print(type(error).__name__, error.errno)
        print(error)
"""


def run_as(*prefix: str, script: str = OPEN, **options) -> str:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ip(*command: str) -> None:
    subprocess.run(["ip", *command], check=True, capture_output=True)


def virtio() -> str:
    """Name of the machine's one network card, whose driver has no queue management."""
    for link in Path("/sys/class/net").iterdir():
        if preflight.driver_of(link.name) == "virtio_net":
            return link.name
    pytest.fail("the virtual machine has no virtio-net device")


@pytest.fixture
def veth():
    ip("link", "add", "zt0", "type", "veth", "peer", "name", "zt1")
    yield "zt0"
    ip("link", "del", "zt0")


@pytest.fixture
def unlooked(monkeypatch):
    """Ask the kernel although we know better, to see its own errno."""
    monkeypatch.setattr(preflight, "require", lambda *_: None)


def refused(nic: str, area: zc.Area | str = "1 MiB", **options) -> zc.ZcrxError:
    with pytest.raises(zc.ZcrxError) as caught:
        zc.listen("127.0.0.1:0", transport="zcrx", nic=nic, area=area, **options)
    return caught.value


def test_without_the_capability():
    said = run_as("setpriv", "--reuid=65534", "--clear-groups")
    assert f"UnsupportedError {errno.EPERM}" in said
    assert "CAP_NET_ADMIN" in said
    assert "setcap" in said


def test_in_a_user_namespace():
    said = run_as("unshare", "--user", "--map-root-user")
    assert f"UnsupportedError {errno.EPERM}" in said
    assert "user namespace" in said


def test_locked_memory():
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (4 << 20, 4 << 20))

    said = run_as(
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "--inh-caps=+net_admin",
        "--ambient-caps=+net_admin",
        preexec_fn=little,
    )
    assert f"{errno.ENOMEM}" in said
    assert "RLIMIT_MEMLOCK is 4194304" in said
    assert "ulimit -l" in said


def test_the_capability_alone_is_enough():
    said = run_as(
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "--inh-caps=+net_admin,+ipc_lock",
        "--ambient-caps=+net_admin,+ipc_lock",
    )
    assert "opened nodev" in said


def test_no_such_interface():
    error = refused("nowhere0:0")
    assert error.errno == errno.ENODEV
    assert "no interface 'nowhere0' in this network namespace" in str(error)
    assert "lo" in error.remedy


def test_loopback():
    error = refused("lo:0")
    assert isinstance(error, UnsupportedError)
    assert error.errno == errno.EOPNOTSUPP
    assert "lo is no hardware" in str(error)


def test_loopback_as_the_kernel_says_it(unlooked):
    error = refused("lo:0")
    assert (error.errno, error.step) == (errno.EOPNOTSUPP, "zcrx")
    assert "cannot give a queue's memory" in str(error)
    assert error.remedy


def test_veth(veth, unlooked):
    error = refused(f"{veth}:0")
    assert error.errno == errno.EOPNOTSUPP
    assert f"{veth} is no hardware" in str(error)


def test_a_driver_without_queue_management():
    error = refused(f"{virtio()}:0")
    assert error.errno == errno.EOPNOTSUPP
    assert "the driver virtio_net" in str(error)
    assert "bnxt_en" in str(error)


def test_no_such_queue():
    error = refused(f"{virtio()}:77")
    assert error.errno == errno.ERANGE
    assert "there is no queue 77" in str(error)
    assert "ethtool -L" in error.remedy


def test_what_netlink_says_of_a_card():
    name = virtio()
    ip("link", "set", name, "up")
    assert netlink.queue(name, 0).holder is None
    assert netlink.xdp_program(name) is None
    assert netlink.rings(name).tcp_data_split in (None, "unknown", "disabled")
    with pytest.raises(OSError, match=r"[Nn]o such|[Ii]nvalid"):
        netlink.queue(name, 99)


def test_huge_pages_that_nobody_has_reserved():
    Path("/proc/sys/vm/nr_hugepages").write_text("0")
    with pytest.raises(zc.ZcrxError) as caught:
        zc.listen("127.0.0.1:0", transport="nodev", area=zc.Area(size="4 MiB", huge_pages=True))
    assert caught.value.errno == errno.ENOMEM
    assert "needs 2 huge pages of 2 MiB, and 0 are free" in str(caught.value)
    assert "vm.nr_hugepages=2" in caught.value.remedy


def test_huge_pages(send):
    reserve_huge_pages(8)
    with zc.listen(
        "127.0.0.1:0",
        transport="nodev",
        accept=1,
        area=zc.Area(size="4 MiB", huge_pages=True),
    ) as source:
        send(source.address, b"x" * 3_000_000)
        assert sum(p.as_buffer().size for b in source for p in b["payload"]) == 3_000_000
        smaps = Path("/proc/self/smaps").read_text()
        assert re.search(r"^Private_Hugetlb:\s+4096 kB", smaps, re.MULTILINE)
    Path("/proc/sys/vm/nr_hugepages").write_text("0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"area": "16 KiB"}, "it must hold 8 chunks"),
        ({"area": "8 GiB"}, "at most 4 GiB with zero-copy receive: kernels up to 7.2"),
        ({"area": zc.Area(size=1_000_001)}, "multiple of chunk"),
    ],
)
def test_areas_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        zc.listen("127.0.0.1:0", transport="nodev", **options)


def test_auto_says_why_not_the_better_one(caplog):
    caplog.set_level(logging.INFO, "zcrx_arrow")
    with zc.listen("127.0.0.1:0", nic="lo:0", area="1 MiB") as source:
        assert source.transport == "copy"
    assert re.search(r"transport copy", caplog.text)
    assert re.search(r"not zcrx: .*lo is no hardware", caplog.text)


def test_auto_never_takes_what_copies_for_nothing():
    with zc.listen("127.0.0.1:0", area="1 MiB") as source:
        assert source.transport == "copy"


class Mapped(list):
    """Address ranges of a process."""

    def __contains__(self, address) -> bool:
        return any(start <= address < end for start, end in self)


def mapped(process: int | str = "self") -> Mapped:
    lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    return Mapped([int(at, 16) for at in line.split()[0].split("-")] for line in lines)


def test_a_forked_child_has_no_area():
    with zc.listen("127.0.0.1:0", transport="nodev", area="16 MiB", accept=1) as source:
        with socket.create_connection(source.address) as peer:
            peer.sendall(b"for the parent")
        batch = source.next_batch("20 s")
        assert batch["area_offset"][0].as_py() is not None
        where = batch["payload"].buffers()[2].address
        child = os.fork()
        if not child:
            code = 1
            try:
                source.metrics()
            except zc.errors.ForkedError:
                code = 0 if where in mapped(os.getppid()) and where not in mapped() else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert batch["payload"][0].as_py() == b"for the parent"


def test_waiting_for_a_queue_that_is_still_bound(monkeypatch):
    """The kernel lets go of a queue after a moment: EEXIST until then."""
    answers = [errno.EEXIST, errno.EEXIST]
    make = _core._new

    def new(config):
        if answers:
            raise zc.ZcrxError(answers.pop(), "bound", step="zcrx")
        config.transport = _core.lib.ZA_TRANSPORT_NODEV
        return make(config)

    monkeypatch.setattr(preflight, "require", lambda *_: None)
    monkeypatch.setattr(_core, "_new", new)
    with zc.listen("127.0.0.1:0", transport="zcrx", nic="lo:0", area="1 MiB") as source:
        assert source.transport == "nodev"
    assert not answers
