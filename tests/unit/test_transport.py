# SPDX-License-Identifier: Apache-2.0
"""Which transport is taken, and what is said of the others."""

from __future__ import annotations

import errno
import logging
import socket

import pytest

import zcrx_arrow as zc
from zcrx_arrow import _core
from zcrx_arrow.config import PAGE, Area, NicQueue, Zcrx
from zcrx_arrow.errors import ConfigError, UnsupportedError, from_core
from zcrx_arrow.nic import netlink, preflight
from zcrx_arrow.nic.netlink import QueueState, Rings


@pytest.mark.parametrize("text", ["eth0:3", "br0.100:0", "a:b:7"])
def test_nic_queue_as_text(text):
    queue = NicQueue.of(text)
    assert str(queue) == text
    assert NicQueue.of(queue) == queue


@pytest.mark.parametrize("wrong", ["eth0", "eth0:", ":3", "eth0:x", "eth0:-1", 7, ("eth0", 3)])
def test_wrong_nic_queues(wrong):
    with pytest.raises(ConfigError, match="nic"):
        NicQueue.of(wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transport": "zcrx"}, "needs to know the queue"),
        ({"transport": "copy", "nic": "eth0:3"}, "of no use"),
        ({"transport": "nodev", "nic": "eth0:3"}, "of no use"),
        ({"transport": "rdma"}, "must be one of"),
        ({"transport": "nodev", "area": "5 GiB"}, "at most 4 GiB"),
        ({"area": zc.Area(size="3 MiB", huge_pages=True)}, "multiple of 2 MiB"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        zc.listen("127.0.0.1:0", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"refill_entries": 0},
        {"refill_entries": 32769},
        {"turn": "many"},
        {"busy_poll": "-1 s"},
        {"bind_timeout": "soon"},
    ],
)
def test_wrong_details(options):
    with pytest.raises(ConfigError):
        Zcrx(**options)


def test_chunks_of_an_area():
    assert Area.of("64 MiB").chunk == 128 << 10
    assert Area.of("64 MiB", copied=False).chunk == PAGE
    assert Area.of(Area(size="64 MiB"), copied=False).chunk == PAGE
    assert Area.of(Area(size="64 MiB", chunk="16 KiB"), copied=False).chunk == "16 KiB"
    assert Area.of(Area(size="64 MiB", huge_pages=True)).huge_pages


def test_loopback_is_no_hardware():
    with pytest.raises(UnsupportedError, match="lo is no hardware") as caught:
        zc.listen("127.0.0.1:0", transport="zcrx", nic="lo:0")
    assert caught.value.remedy


def test_auto_says_why_not(caplog):
    caplog.set_level(logging.INFO, "zcrx_arrow")
    with zc.listen("127.0.0.1:0", nic="lo:0") as source:
        assert source.transport == "copy"
    assert "transport copy" in caplog.text
    assert "not zcrx: " in caplog.text
    assert "lo is no hardware" in caplog.text


def test_probe_agrees_with_what_opens():
    features = zc.probe()
    assert features.io_uring is None
    if features.nodev is None:
        zc.listen("127.0.0.1:0", transport="nodev", area="1 MiB").close()
        return
    with pytest.raises(UnsupportedError) as caught:
        zc.listen("127.0.0.1:0", transport="nodev", area="1 MiB")
    assert errno.errorcode[caught.value.errno] == features.nodev


class Machine:
    """A machine whose NIC is as the test says; everything else is this one."""

    def __init__(self, patch, **state) -> None:
        self.driver = "mlx5_core"
        self.split = Rings("on", 0)
        self.program = None
        self.holder = None
        self.__dict__.update(state)
        patch.setattr(socket, "if_nametoindex", lambda _: 77)
        patch.setattr(preflight, "_privileges", lambda: iter(()))
        patch.setattr(preflight, "_kernel", lambda **_: iter(()))
        patch.setattr(preflight, "_memory", lambda _: iter(()))
        patch.setattr(preflight, "driver_of", lambda _: self.driver)
        patch.setattr(netlink, "rings", lambda _: self.split)
        patch.setattr(netlink, "xdp_program", lambda _: self.program)
        patch.setattr(netlink, "queue", lambda *_: QueueState(1, 5, self.holder))


NIC = NicQueue("eth7", 1)


def found(patch, **state):
    Machine(patch, **state)
    return preflight.findings(NIC, Area())


def test_nothing_in_the_way(monkeypatch):
    assert found(monkeypatch) == []
    preflight.require(NIC, Area())


@pytest.mark.parametrize(
    ("state", "number", "words", "certain"),
    [
        ({"driver": "igb"}, errno.EOPNOTSUPP, "driver igb", False),
        ({"driver": None}, errno.EOPNOTSUPP, "no hardware", True),
        ({"split": Rings("off", 0)}, errno.EINVAL, "split of eth7 is off", True),
        ({"split": Rings("auto", 0)}, errno.EINVAL, "split of eth7 is auto", False),
        ({"split": Rings("on", 256)}, errno.EINVAL, "hds-thresh of eth7 is 256", True),
        ({"program": 12}, errno.EEXIST, "XDP program (id 12)", True),
    ],
)
def test_what_stands_in_the_way(monkeypatch, state, number, words, certain):
    (finding,) = found(monkeypatch, **state)
    assert (finding.number, finding.certain) == (number, certain)
    assert words in finding.cause
    assert finding.remedy
    if certain:
        with pytest.raises(UnsupportedError) as caught:
            preflight.require(NIC, Area())
        assert words in str(caught.value)


def test_a_failure_is_explained_by_what_was_found(monkeypatch):
    Machine(monkeypatch, split=Rings("auto", 0))
    bare = from_core(-errno.EINVAL, "zcrx", "the kernel says no")
    explained = preflight.explain(bare, NIC, Area())
    assert "the kernel says no: header/data split" in str(explained)
    assert explained.step == "zcrx"
    other = from_core(-errno.EFAULT, "zcrx", "the kernel says no")
    assert preflight.explain(other, NIC, Area()) is other


def test_who_holds_a_queue(monkeypatch):
    Machine(monkeypatch, holder="io_uring")
    with zc.listen("127.0.0.1:0"):  # a ring that is open in this process
        bare = from_core(-errno.EEXIST, "zcrx", "bound already")
        said = str(preflight.explain(bare, NIC, Area()))
    assert "queue 1 of eth7 is held by io_uring" in said
    assert "python" in said.lower() or "pytest" in said.lower()


def test_waiting_for_a_queue_ends(monkeypatch):
    Machine(monkeypatch, holder="AF_XDP")
    calls = []

    def refuse(config):
        calls.append(config)
        raise from_core(-errno.EEXIST, "zcrx", "bound already")

    monkeypatch.setattr(_core, "_new", refuse)
    with pytest.raises(zc.ZcrxError, match="held by AF_XDP") as caught:
        zc.listen("127.0.0.1:0", transport="zcrx", nic="eth7:1", zcrx=Zcrx(bind_timeout="200 ms"))
    assert caught.value.errno == errno.EEXIST
    assert 2 <= len(calls) <= 6


def test_huge_pages_that_nobody_has_reserved(monkeypatch):
    monkeypatch.setattr(preflight, "huge_pages", lambda: (1, 2 << 20))
    (finding,) = preflight._memory(Area(size="8 MiB", huge_pages=True))
    assert "needs 4 huge pages of 2 MiB, and 1 are free" in finding.cause


def test_cli_takes_a_transport(run_python):
    done = run_python(
        """
        import sys
        from zcrx_arrow.cli import main
        sys.argv = ["zcrx-arrow", "receive", "--listen", "127.0.0.1:0", "--transport", "zcrx",
                    "--nic", "lo:0"]
        main()
        """,
        code=None,
    )
    assert done.returncode != 0
    assert "lo is no hardware" in done.stderr
    assert "Traceback" not in done.stderr
