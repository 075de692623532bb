# SPDX-License-Identifier: Apache-2.0
"""A NIC made ready, used and set back: on the real kernel, with the software NIC below."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading

import pytest
from typer.testing import CliRunner

import zcrx_arrow as zc
from tests.conftest import ROOT, eventually, unavailable
from tests.kernel.guest import nic as card_nic
from tests.kernel.guest.feed import Checker, all_home, receive_all
from tests.wire import dial
from zcrx_arrow import nic
from zcrx_arrow.cli.app import app
from zcrx_arrow.errors import UnsupportedError, ZcrxError
from zcrx_arrow.nic.device import Device
from zcrx_arrow.nic.journal import Journal


@pytest.fixture(scope="module")
def card_as_it_comes(card):
    card_nic.unload()
    card_nic.load(ready=False)
    yield
    card_nic.unload()
    card_nic.load()


@pytest.fixture
def fresh(card_as_it_comes):
    """What the card is like as it comes; a test that leaves it otherwise has a new one loaded."""
    before = look()
    yield before
    eventually(lambda: all(queue.holder is None for queue in nic.inspect("zc0").queues))
    if Journal("zc0").read() is not None or look() != before:
        Journal("zc0").remove()
        card_nic.unload()
        card_nic.load(ready=False)


def look():
    """Everything that can be read and that a restart of a queue does not change."""
    is_now = nic.inspect("zc0")
    queues = tuple(dataclasses.replace(each, napi_id=None) for each in is_now.queues)
    return dataclasses.replace(is_now, queues=queues)


def cli(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, f"{arguments}: {done.exit_code}\n{done.output}"
    return done.stdout if code == 0 else done.output


def test_the_card_as_it_comes(fresh):
    assert fresh.driver.name == "zcsim"
    assert (fresh.channels.receive, fresh.channels.receive_max) == (4, 16)
    # The kernel does not report a split that nobody has set.
    assert (fresh.rings.tcp_data_split, fresh.rings.hds_thresh) == (None, 0)
    assert fresh.rss.queues == {0, 1, 2, 3}
    assert len(fresh.rss.table) == 128
    assert (fresh.contexts, fresh.rules, fresh.rules_max, fresh.xdp) == ((), (), 64, None)
    assert [queue.number for queue in fresh.queues] == [0, 1, 2, 3]
    assert all(queue.napi_id for queue in nic.inspect("zc0").queues)
    assert "rx-ntuple-filter" in fresh.features.changeable
    assert not fresh.missing


@pytest.mark.parametrize("family", [4, 6])
def test_all_of_it(fresh, family):
    """Plan, apply, verify, receive, restore."""
    plan = nic.plan("zc0", port=9000)
    assert [step.setting for step in plan.steps] == ["feature", "rings", "rss", "rule", "rule"]
    assert look() == fresh, "a plan has changed something"
    with nic.queue("zc0", port=9000) as queue:
        assert (queue.queue, queue.share) == (3, ())
        assert all(check.ok for check in nic.verify(queue, matches=plan.request.matches))
        address = (card_nic.HERE[family], 9000)
        with zc.listen(address, nic=queue, transport="zcrx", accept=1, area="16 MiB") as source:
            threading.Thread(target=send, args=(address, 3_000_000)).start()
            metrics = receive_all(source, 1, 3_000_000)
        assert metrics.kernel_copied_bytes == 0
        assert metrics.zero_copy_share == 1.0
    assert look() == fresh


def send(address, total: int) -> None:
    from tests.kernel.guest.feed import TWICE

    with dial(address) as peer:
        peer.sendall(b"\0")
        at = 0
        while at < total:
            begin = at % (len(TWICE) // 2)
            piece = memoryview(TWICE)[begin : begin + min(len(TWICE) // 2, total - at)]
            peer.sendall(piece)
            at += len(piece)
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)


def test_a_feed_that_we_connect_to(fresh):
    """Told apart by the peer's port."""
    with card_nic.far():
        server = socket.create_server((card_nic.THERE[4], 7777))
    with server, nic.queue("zc0", source=card_nic.THERE[4], source_port=7777) as queue:

        def serve():
            peer, _ = server.accept()
            with peer:
                peer.sendall(bytes(1_000_000))

        thread = threading.Thread(target=serve)
        thread.start()
        address = (card_nic.THERE[4], 7777)
        with zc.connect(address, nic=queue, transport="zcrx", area="16 MiB") as source:
            received = sum(p.as_buffer().size for batch in source for p in batch["payload"])
            assert source.metrics().kernel_copied_bytes == 0
        thread.join()
    assert received == 1_000_000
    assert look() == fresh


def test_several_queues(fresh):
    """An RSS context spreads connections; each source gets those of its own queue."""
    with nic.queues("zc0", port=9000, queues=2) as (one, two):
        assert (one.share, two.share) == ((2, 3), (2, 3))
        address = (card_nic.HERE[4], 9000)
        options = {"transport": "zcrx", "area": "8 MiB"}
        with (
            zc.listen(address, nic=one, **options) as a,
            zc.listen(address, nic=two, **options) as b,
        ):
            threads = [threading.Thread(target=send, args=(address, 100_000)) for _ in range(12)]
            for thread in threads:
                thread.start()
            eventually(lambda: a.metrics().accepted + b.metrics().accepted == 12)
            for source in (a, b):
                checker = Checker()
                while sum(checker.positions.values()) < 100_001 * source.metrics().accepted:
                    checker.take(source.next_batch("20 s"))
                assert source.metrics().accepted > 0
                assert all_home(source).kernel_copied_bytes == 0
            for thread in threads:
                thread.join()
    assert look() == fresh


def test_more_channels_are_made_and_taken_away(fresh):
    card_nic.set_channels("zc0", 1)
    before = look()
    with nic.queues("zc0", port=9000, queues=[1, 2]) as queues:
        assert card_nic.channels("zc0") == 3
        assert [queue.queue for queue in queues] == [1, 2]
    assert look() == before
    card_nic.set_channels("zc0", 4)


# --- what fails ---------------------------------------------------------------------------------


STEPS = range(6)


@pytest.mark.parametrize("at", STEPS)
def test_a_fault_at_every_step(fresh, at, monkeypatch):
    """The kernel refuses the n-th change: the earlier ones are undone."""
    count = 0

    def break_at(name):
        original = getattr(Device, name)

        def change(self, *arguments, **options):
            nonlocal count
            count += 1
            if count - 1 == at:
                raise OSError(22, "the test forbids it")
            return original(self, *arguments, **options)

        monkeypatch.setattr(Device, name, change)

    for name in (
        "set_channels",
        "set_feature",
        "set_rings",
        "set_rss",
        "create_context",
        "insert_rule",
    ):
        break_at(name)
    with pytest.raises(ZcrxError, match="the test forbids it"):
        nic.apply("zc0", port=9000, queues=2)
    monkeypatch.undo()
    assert look() == fresh
    assert Journal("zc0").read() is None


def test_a_device_that_refuses_the_split(fresh):
    card_nic.knob("zc0", "refuse_split", True)
    with pytest.raises(ZcrxError) as caught:
        nic.apply("zc0", port=9000)
    card_nic.knob("zc0", "refuse_split", False)
    assert "'ethtool -G zc0 tcp-data-split on hds-thresh 0' is refused" in str(caught.value)
    assert "this device cannot split headers from data" in str(caught.value)
    assert look() == fresh


CHANGES = (
    "set_feature", "set_rings", "set_rss", "create_context", "delete_context", "insert_rule",
    "delete_rule",
)  # fmt: skip


def killed(work, at: int) -> int:
    """Do it in a process that is killed before the n-th change; give its end."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count = 0

    def deadly(original):
        def change(self, *arguments, **options):
            nonlocal count
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return original(self, *arguments, **options)

        return change

    try:
        for name in CHANGES:
            setattr(Device, name, deadly(getattr(Device, name)))
        work()
        if count == at:  # after the last
            os.kill(os.getpid(), signal.SIGKILL)
    finally:
        os._exit(0 if count else 1)


@pytest.mark.parametrize("at", range(7))
def test_killed_while_applying(fresh, at):
    """SIGKILL between any two changes: restore mends it."""
    end = killed(lambda: nic.apply("zc0", port=9000, queues=2), at)
    assert end == -signal.SIGKILL, "there are six changes"
    assert nic.restore("zc0")
    assert look() == fresh
    assert not nic.restore("zc0")


@pytest.mark.parametrize("at", range(7))
def test_killed_while_restoring(fresh, at):
    nic.apply("zc0", port=9000, queues=2)
    assert killed(lambda: nic.restore("zc0"), at) == -signal.SIGKILL, "there are six changes"
    assert nic.restore("zc0") == (at < 6)
    assert look() == fresh


def test_a_block_after_a_kill_begins_anew(fresh):

    def work():
        with nic.queue("zc0", port=9000):
            os.kill(os.getpid(), signal.SIGKILL)

    assert killed(work, 1000) == -signal.SIGKILL
    assert look() != fresh
    with nic.queue("zc0", port=9001) as queue:
        assert queue.queue == 3
        assert {rule.match.port for rule in nic.inspect("zc0").rules} == {9001}
    assert look() == fresh


def test_restore_waits_for_the_source(fresh):
    (queue,) = nic.apply("zc0", port=9000)
    source = zc.listen((card_nic.HERE[4], 9000), nic=queue, transport="zcrx", area="8 MiB")
    with pytest.raises(ZcrxError, match="queue 3 of zc0 is still held by io_uring") as caught:
        nic.restore("zc0")
    assert str(os.getpid()) in caught.value.remedy
    source.close()
    assert nic.restore("zc0")
    assert look() == fresh


def test_bound_by_another(fresh):
    card_nic.split("zc0", "on")
    with zc.listen((card_nic.HERE[4], 9000), nic="zc0:3", transport="zcrx", area="8 MiB"):
        with pytest.raises(ZcrxError, match="queue 3 of zc0 is held by io_uring"):
            nic.plan("zc0", port=9000, queues=[3])
        assert nic.plan("zc0", port=9000).queues == (2,)


def test_a_full_rule_table(fresh):
    rules = []
    for port in range(32):
        rules += card_nic.steer("zc0", 9200 + port, 1)
    with pytest.raises(ZcrxError, match="room for 64 rules, and 64 are there"):
        nic.apply("zc0", port=9000)
    card_nic.forget("zc0", rules)
    card_nic.ethtool("-K", "zc0", "ntuple", "off")
    assert look() == fresh


def test_an_interface_that_is_down_or_elsewhere(fresh):
    card_nic.run("ip", "link", "set", "zc0", "down")
    with pytest.raises(ZcrxError, match="zc0 is down"):
        nic.plan("zc0", port=9000)
    card_nic.run("ip", "link", "set", "zc0", "up")
    with pytest.raises(ZcrxError, match="no interface 'zc1' in this network namespace") as caught:
        nic.plan("zc1", port=9000)
    assert "ip netns exec far" in caught.value.remedy


def test_without_the_capability(fresh):
    script = """
        from zcrx_arrow import nic
        try:
            nic.apply("zc0", port=9000, state="/tmp/zc0.json")
        except Exception as error:
            print(type(error).__name__, error)
    """
    command = [
        "setpriv",
        "--bounding-set=-net_admin",
        sys.executable,
        "-c",
        textwrap.dedent(script),
    ]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert said.startswith("UnsupportedError")
    assert "needs CAP_NET_ADMIN" in said
    assert look() == fresh


def test_with_the_capability_alone(fresh, tmp_path):
    """Not root, but CAP_NET_ADMIN: enough to apply and to restore."""
    script = f"""
        import os
        from zcrx_arrow import nic
        assert os.getuid() == 65534
        print(nic.apply("zc0", port=9000, state="{tmp_path}/zc0.json"))
        assert nic.restore("zc0", state="{tmp_path}/zc0.json")
    """
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.is_relative_to("/tmp") and parent.name:
            parent.chmod(0o755)
    command = [
        "setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=+net_admin",
        "--ambient-caps=+net_admin", sys.executable, "-c", textwrap.dedent(script),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "queue=3" in done.stdout, done.stderr
    assert look() == fresh


# --- the command line ---------------------------------------------------------------------------


def test_by_the_command_line(fresh):
    assert "tcp-data-split" in cli("nic", "show", "zc0")
    assert json.loads(cli("nic", "show", "zc0", "--json"))["driver"]["name"] == "zcsim"
    planned = cli("nic", "plan", "zc0", "--port", "9000")
    assert "zc0 (zcsim): queue 3 for zero-copy receive" in planned
    commands = cli("nic", "apply", "zc0", "--port", "9000", "--dry-run").splitlines()
    assert commands == [
        "ethtool -K zc0 rx-ntuple-filter on",
        "ethtool -G zc0 tcp-data-split on hds-thresh 0",
        "ethtool -X zc0 equal 3",
        "ethtool -N zc0 flow-type tcp4 dst-port 9000 action 3",
        "ethtool -N zc0 flow-type tcp6 dst-port 9000 action 3",
    ]
    assert look() == fresh
    assert "zc0 is ready: --nic zc0:3" in cli("nic", "apply", "zc0", "--port", "9000")
    assert "zc0 is ready: --nic zc0:3" in cli("nic", "apply", "zc0", "--port", "9000")
    assert "made ready by 'zcrx-arrow nic apply': queue 3" in cli(
        "nic", "plan", "zc0", "--port", "9000"
    )
    assert "ready already" in cli("nic", "apply", "zc0", "--port", "9001", code=1)
    assert "NO" not in cli("nic", "verify", "zc0")
    card_nic.ethtool("-G", "zc0", "hds-thresh", "100")
    assert "NO  hds-thresh" in cli("nic", "verify", "zc0", code=1)
    cli("nic", "apply", "zc0", "--port", "9000")

    def knock():
        with dial((card_nic.HERE[4], 9000)) as peer, contextlib.suppress(ConnectionResetError):
            peer.sendall(b"is anybody there?")
            peer.recv(1)

    dialler = threading.Timer(3, knock)
    dialler.start()
    placed = json.loads(cli("nic", "verify", "zc0", "--wait", "20s", "--json"))
    dialler.join()
    assert placed["ready"]
    assert placed["checks"][-1]["found"].startswith("packets came by queue 3")
    assert examined() == (True, "zcrx")
    assert "zc0 is as it was" in cli("nic", "restore", "zc0")
    assert "zc0 had not been changed" in cli("nic", "restore", "zc0")
    assert look() == fresh
    assert examined() == (True, "copy"), "it could, once it is made ready"


def examined() -> tuple[bool, str]:
    """What doctor says of the card: whether it can, and what `auto` would take now."""
    report = json.loads(cli("doctor", "--json"))
    (mine,) = (each for each in report["interfaces"] if each["name"] == "zc0")
    return mine["ready"], mine["auto"]


def test_the_dry_run_does_the_same(fresh):
    """Its commands, typed, lead to the same state as applying."""
    for queues in (["--queues", "1"], ["--queues", "2"]):
        commands = cli("nic", "apply", "zc0", "--port", "9000", *queues, "--dry-run")
        cli("nic", "apply", "zc0", "--port", "9000", *queues)
        applied = look()
        cli("nic", "restore", "zc0")
        for line in commands.splitlines():
            card_nic.ethtool(*line.replace("context N", "context 1").split()[1:])
        assert look() == applied
        card_nic.unload()
        card_nic.load(ready=False)


# --- other cards --------------------------------------------------------------------------------


@pytest.fixture
def virtio(card):
    """The virtual machine's own card."""
    name = next(
        name
        for _, name in socket.if_nameindex()
        if (driver := nic.inspect(name).driver) and driver.name == "virtio_net"
    )
    card_nic.run("ip", "link", "set", name, "up")
    return Device(name)


def test_a_card_that_cannot(virtio):
    """virtio-net: no split, no rules; and it is told in words."""
    with pytest.raises(UnsupportedError) as caught:
        nic.apply(virtio.name, port=9000)
    assert f"{virtio.name} (virtio_net)" in str(caught.value)
    assert "no flow rules" in str(caught.value)
    assert "does not offer header/data split" in str(caught.value)
    with pytest.raises(
        OSError, match="TCP data split is not supported"
    ):  # the kernel's own sentence
        virtio.set_rings(split="on")


def test_channels_and_rss_of_another_driver(virtio):
    """virtio-net on a tap with several queues: what it can, set, read back and set back."""
    channels = virtio.channels()
    if channels.combined_max < 4:
        unavailable("the virtual machine has no card with several queues: that takes root and tun")
    before = channels.combined
    virtio.set_channels(combined=4)
    assert virtio.channels().combined == 4
    table = virtio.rss().table
    assert len(table) == 128
    wanted = tuple(1 + place % 3 for place in range(128))
    virtio.set_rss(wanted)
    assert virtio.rss().table == wanted
    with pytest.raises(OSError, match="too low for existing indirection table"):
        virtio.set_channels(combined=1)
    virtio.set_rss(())  # the driver's default, which leaves the number of channels free
    assert virtio.rss().table == table
    virtio.set_channels(combined=before)
    assert virtio.channels() == channels


# --- byte for byte what the ethtool program sends -----------------------------------------------


def heard(command: list[str], **environment: str) -> list[tuple[str, bytes]]:
    """Run a command; give what it asked the kernel."""
    reader, writer = os.pipe()
    env = (
        os.environ | {"TAP": str(writer), "LD_PRELOAD": os.environ["ZCRX_ARROW_TAP"]} | environment
    )
    lines: list[bytes] = []
    with os.fdopen(reader, "rb") as stream:
        collecting = threading.Thread(target=lambda: lines.extend(stream))
        collecting.start()
        done = subprocess.run(
            command,
            env=env,
            pass_fds=[writer],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        os.close(writer)
        collecting.join()
    assert done.returncode == 0, done.stdout + done.stderr
    pairs = (line.split() for line in lines)
    return [(kind.decode(), bytes.fromhex(text.decode())) for kind, text in pairs]


def by_ethtool(*arguments: str) -> list[tuple[str, bytes]]:
    return heard([os.environ["ZCRX_ARROW_ETHTOOL"], *arguments])


NETLINK = {
    "-G zc0 tcp-data-split on hds-thresh 0": "netlink.set_rings('zc0', split='on', hds_thresh=0)",
    "-G zc0 tcp-data-split auto": "netlink.set_rings('zc0', split='auto')",
    "-G zc0 tcp-data-split off hds-thresh 7": "netlink.set_rings('zc0', split='off', hds_thresh=7)",
    "-L zc0 combined 5": "netlink.set_channels('zc0', combined=5)",
    "-K zc0 ntuple off": "netlink.set_feature('zc0', 'rx-ntuple-filter', on=False)",
    "-K zc0 ntuple on": "netlink.set_feature('zc0', 'rx-ntuple-filter', on=True)",
}
# The command in the buffer, and what of it that command reads.
TABLE, RULE = [(0, 536)], [(0, 4), (16, 184)]
IOCTLS = {
    "-X zc0 equal 3": ("ioctl.set_rss('zc0', tuple(i % 3 for i in range(128)))", 0x47, TABLE),
    "-X zc0 default": ("ioctl.set_rss('zc0', ())", 0x47, [(0, 24)]),
    "-X zc0 context new start 2 equal 2": (
        "ioctl.create_context('zc0', tuple(2 + i % 2 for i in range(128)))",
        0x47,
        TABLE,
    ),
    "-N zc0 flow-type tcp4 dst-port 9000 action 3": (
        "rules.insert('zc0', state.Match(4, 9000), 3)",
        0x32,
        RULE,
    ),
    "-N zc0 flow-type tcp6 src-ip fd09::2 dst-ip fd09::1 src-port 77 dst-port 9000 action 2": (
        "rules.insert('zc0', state.Match(6, 9000, 'fd09::2', 77, 'fd09::1'), 2)",
        0x32,
        RULE,
    ),
}


def by_us(calls: list[str]) -> list[list[tuple[str, bytes]]]:
    """What each call asks, all made by one process."""
    lines = ["import os", "from zcrx_arrow.nic import ioctl, netlink, rules, state"]
    for call in calls:
        lines += [call, "os.write(int(os.environ['TAP']), b'mark 00\\n')"]
    found: list[list[tuple[str, bytes]]] = [[]]
    for kind, message in heard([sys.executable, "-c", "\n".join(lines)]):
        if kind == "mark":
            found.append([])
        else:
            found[-1].append((kind, message))
    return found[:-1]


def test_netlink_messages_are_ethtools(fresh):
    """The last message; its sequence number and port (bytes 8 to 15) are each program's own."""
    ours = by_us(list(NETLINK.values()))
    card_nic.unload()
    card_nic.load(ready=False)
    for calls, theirs in zip(ours, NETLINK, strict=True):
        kind, mine = calls[-1]
        assert kind == "netlink"
        wanted = [message for kind, message in by_ethtool(*theirs.split()) if kind == "netlink"][-1]
        assert mine[:8] == wanted[:8]
        assert mine[16:20] == wanted[16:20], "the header of generic netlink"
        assert attributes(mine[20:]) == attributes(wanted[20:]), theirs


def attributes(data: bytes) -> list[tuple[int, object]]:
    """Take attributes apart, since `ethtool` leaves anything in the bytes between them."""
    found: list[tuple[int, object]] = []
    while data:
        size, kind = struct.unpack_from("=HH", data)
        value = data[4:size]
        found.append((kind, attributes(value) if kind & 0x8000 else value))
        data = data[-(-size // 4) * 4 :]
    return found


def test_ioctl_buffers_are_ethtools(fresh):
    card_nic.ethtool("-K", "zc0", "ntuple", "on")
    ours = by_us([call for call, _, _ in IOCTLS.values()])
    card_nic.unload()
    card_nic.load(ready=False)
    card_nic.ethtool("-K", "zc0", "ntuple", "on")
    for calls, (theirs, (_, command, parts)) in zip(ours, IOCTLS.items(), strict=True):

        def only(calls, command=command, parts=parts):
            (*_, last) = (b for kind, b in calls if kind == "ioctl" and b[0] == command)
            return [last[begin:end].hex() for begin, end in parts]

        assert only(calls) == only(by_ethtool(*theirs.split())), theirs
