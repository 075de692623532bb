# SPDX-License-Identifier: Apache-2.0
"""Plan, apply, verify and restore on NICs that nobody here has, and every way for it to go wrong."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import unavailable
from tests.fake_nic import Died, FakeNic, State, default_table
from zcrx_arrow.config import NicQueue
from zcrx_arrow.errors import ConfigError, UnsupportedError, ZcrxError
from zcrx_arrow.logs import JsonFormatter
from zcrx_arrow.nic import checks, manage
from zcrx_arrow.nic.journal import Journal, process_mark
from zcrx_arrow.nic.planning import Request, make_plan, spread
from zcrx_arrow.nic.rules import parse, specification
from zcrx_arrow.nic.state import Match, Rule

DRIVERS = {
    "mlx5_core": State(split="off", thresh=0, active=frozenset({"rx-ntuple-filter"})),
    "bnxt_en": State(split="auto", thresh=0, active=frozenset({"rx-ntuple-filter"})),
    "gve": State(split="off", thresh=None, active=frozenset()),
    "fbnic": State(split="auto", thresh=256, active=frozenset({"rx-ntuple-filter"})),
    "ice": State(split="off", thresh=0),
}


@pytest.fixture
def journal(tmp_path):
    return Journal("fake0", tmp_path / "state.json")


def ready(device: FakeNic, journal: Journal, *, owned: bool = False, **wanted):
    request = Request.of(**wanted)
    return manage.prepare(device, journal, request, owned=owned)


def back(device: FakeNic, journal: Journal) -> None:
    with journal.locked():
        manage._take_back(device, journal, journal.read())


def new(driver: str = "zcsim", **values) -> FakeNic:
    state = DRIVERS.get(driver, State())
    merged = {name: getattr(state, name) for name in ("split", "thresh", "active")} | values
    return FakeNic(State(**merged), driver)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("queues", [1, 2, [1], [3, 5]])
def test_ready_and_back(driver, queues, journal):
    device = new(driver)
    before = device.looks()
    record = ready(device, journal, port=9000, queues=queues)
    assert (device.state.split, device.state.thresh or 0) == ("on", 0)
    assert not set(device.state.table) & set(record.queues)
    assert "rx-ntuple-filter" in device.state.active
    rules = device.rules()
    assert {rule.match for rule in rules} == {Match(4, 9000), Match(6, 9000)}
    handles = manage.handles(record)
    assert [each.queue for each in handles] == list(record.queues)
    found = checks.checks_of(device.inspect(), record.queues, record.request.matches)
    assert all(check.ok for check in found)
    back(device, journal)
    assert device.looks() == before
    assert journal.read() is None


def test_mlx5_goes_by_its_order():
    steps = make_plan(new("mlx5_core").inspect(), Request.of(port=9000)).steps
    assert [step.setting for step in steps] == ["feature", "rings", "rss", "rule", "rule"]
    assert steps[0].commands == ("ethtool -K fake0 rx-gro-hw on",)
    assert steps[1].commands == ("ethtool -G fake0 tcp-data-split on hds-thresh 0",)
    assert steps[2].commands == ("ethtool -X fake0 equal 3",)
    assert steps[3].commands == ("ethtool -N fake0 flow-type tcp4 dst-port 9000 action 3",)


def test_bnxt_goes_back_to_auto(journal):
    device = new("bnxt_en", split="on")
    device.state.split = "off"  # it cannot be told from auto
    ready(device, journal, port=9000)
    back(device, journal)
    assert device.state.split == "auto"


def test_gve_has_no_threshold():
    rings = next(
        step for step in make_plan(new("gve").inspect(), Request.of(port=1)).steps
        if step.setting == "rings"
    )  # fmt: skip
    assert rings.commands == ("ethtool -G fake0 tcp-data-split on",)


def test_fbnic_has_its_threshold_back(journal):
    device = new("fbnic")
    ready(device, journal, port=9000)
    assert device.state.thresh == 0
    back(device, journal)
    assert device.state.thresh == 256


def test_split_is_set_even_if_it_seems_to_be():
    """Drivers report their default like a setting, and registering wants a setting."""
    device = new("mlx5_core", split="auto", active=frozenset({"rx-ntuple-filter", "rx-gro-hw"}))
    assert device.rings().tcp_data_split == "on"
    settings_ = [step.setting for step in make_plan(device.inspect(), Request.of(port=1)).steps]
    assert "rings" in settings_


def test_more_queues_if_there_are_too_few(journal):
    device = new(channels=1)
    before = device.looks()
    record = ready(device, journal, port=9000)
    assert device.state.channels == 2
    assert record.queues == (1,)
    assert set(device.state.table) == {0}
    back(device, journal)
    assert device.looks() == before


def test_an_rss_table_of_ones_own_stays_as_far_as_it_can(journal):
    table = spread(128, [1, 1, 6, 0])
    device = new(table=table, configured=True)
    ready(device, journal, port=9000, queues=[2])
    assert set(device.state.table) == {0, 1}
    back(device, journal)
    assert device.state.table == table
    device = new(table=table, configured=True)
    steps = make_plan(device.inspect(), Request.of(port=1, queues=[3])).steps
    assert "rss" not in [step.setting for step in steps]


def test_spread_is_what_ethtool_does():
    assert spread(8, [1, 1]) == (0, 0, 0, 0, 1, 1, 1, 1)
    assert spread(8, [0, 1, 3]) == (1, 1, 2, 2, 2, 2, 2, 2)
    assert spread(5, [1, 0, 1]) == (0, 0, 0, 2, 2)


# --- whatever fails, nothing stays half-done ----------------------------------------------------


MATCHES = st.builds(
    Match,
    family=st.sampled_from([4, 6]),
    port=st.integers(1, 65535),
    source_port=st.none() | st.integers(1, 65535),
)


@st.composite
def states(draw):
    channels = draw(st.integers(1, 8))
    table = draw(
        st.none() | st.lists(st.integers(0, channels - 1), min_size=128, max_size=128).map(tuple)
    )
    found = draw(st.lists(MATCHES, unique=True, max_size=3))
    taken = draw(st.integers(0, channels - 1))
    split = draw(st.sampled_from(["auto", "off", "on"]))
    features = {"rx-ntuple-filter"} if found else draw(
        st.sets(st.sampled_from(["rx-ntuple-filter", "rx-gro-hw"]))
    )  # fmt: skip
    return State(
        channels=channels,
        channels_max=draw(st.integers(channels, 16)),
        split=split,
        thresh=draw(st.none() | st.integers(0, 1024)),
        active=frozenset(features),
        table=table or default_table(channels),
        configured=table is not None,
        contexts={1: (taken,) * 128} if draw(st.booleans()) else {},
        rules={place: Rule(place, taken, None, match) for place, match in enumerate(found)},
    )


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    state=states(),
    driver=st.sampled_from(["zcsim", "gve", "fbnic", "ice"]),
    queues=st.integers(1, 3) | st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True),
    trouble=st.sampled_from(["none", "fail", "die before", "die after", "ignored"]),
    when=st.integers(0, 9),
)
def test_always_back(tmp_path, state, driver, queues, trouble, when):
    """From any state, whatever happens at any step: afterwards it is as it was."""
    journal = Journal("fake0", tmp_path / "state.json")
    device = FakeNic(state, driver)
    if device.state.thresh is not None and driver == "gve":
        device.state.thresh = None
    before = device.looks()
    if trouble == "fail":
        device.fail_at = when
    elif trouble == "die before":
        device.die_at = when
    elif trouble == "die after":
        device.die_after = when
    elif trouble == "ignored":
        device.ignores = {("rings", "rss", "rule", "context", "channels")[when % 5]}
    wanted = {"port": 70000 - 4999, "queues": queues}
    try:
        record = ready(device, journal, **wanted)
    except ZcrxError:
        assert device.looks() == before, "a failure left something behind"
        assert journal.read() is None
        return
    except Died:
        device.revive()
        assert journal.read() is not None
    else:
        assert not set(device.state.table) & set(record.queues)
    try:
        back(device, journal)
    except (Died, ZcrxError):  # the trouble comes only now
        device.revive()
        back(device, journal)
    assert device.looks() == before
    assert journal.read() is None


def test_a_failure_while_setting_back_is_told_and_can_be_repeated(journal):
    device = new()
    before = device.looks()
    ready(device, journal, port=9000)
    device.fail_at = device.changes + 1
    with pytest.raises(ZcrxError, match="does not like delete rule") as caught:
        back(device, journal)
    assert str(journal.path) in caught.value.remedy
    back(device, journal)
    assert device.looks() == before


def test_what_the_driver_ignores_is_an_error(journal):
    device = new()
    device.ignores = {"rings"}
    with pytest.raises(ZcrxError, match="had no effect on fake0, although the kernel said so"):
        ready(device, journal, port=9000)


def test_the_kernels_words_reach_the_user(journal):
    device = new("mlx5_core")
    device.fail_at = 1
    with pytest.raises(ZcrxError) as caught:
        ready(device, journal, port=9000)
    assert "tcp-data-split on hds-thresh 0' is refused: the firmware does not like rings" in str(
        caught.value
    )


def test_without_the_capability(journal, monkeypatch):
    device = new()

    def refused(**_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(device, "set_rings", refused)
    monkeypatch.setattr(device, "set_feature", lambda *_, **__: refused())
    with pytest.raises(UnsupportedError, match="needs CAP_NET_ADMIN"):
        ready(device, journal, port=9000)


# --- twice, and by two --------------------------------------------------------------------------


def test_twice_is_harmless(journal):
    device = new()
    before = device.looks()
    record = ready(device, journal, port=9000)
    once, changes = device.snapshot(), device.changes
    assert ready(device, journal, port=9000) == record
    assert (device.state, device.changes) == (once, changes)
    device.state.split = "off"  # somebody has meddled
    ready(device, journal, port=9000)
    assert device.state == once
    back(device, journal)
    assert device.looks() == before


def test_for_something_else_it_is_refused(journal):
    device = new()
    ready(device, journal, port=9000)
    once = device.snapshot()
    with pytest.raises(
        ZcrxError, match="ready already, by 'zcrx-arrow nic apply': queue 3"
    ) as caught:
        ready(device, journal, port=9001)
    assert caught.value.errno == errno.EBUSY
    assert "restore fake0" in caught.value.remedy
    assert device.state == once


def test_another_process_is_named(journal):
    device = new()
    ready(device, journal, port=9000, owned=True)
    record = journal.read()
    living = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        text = journal.path.read_text().replace(record.owner, process_mark(living.pid))
        journal.path.write_text(text)
        with pytest.raises(ZcrxError, match=f"by process {living.pid}"):
            ready(device, journal, port=9000, owned=True)
    finally:
        living.kill()
        living.wait()
    # Now it is dead: what it left is set back, and done anew.
    record = ready(device, journal, port=9001, owned=True)
    assert record.owner_lives
    with pytest.raises(ZcrxError, match=f"by process {os.getpid()}"):
        ready(device, journal, port=9001, owned=True)


def test_what_apply_did_a_block_leaves(journal, monkeypatch):
    device = new()
    monkeypatch.setattr(manage, "Device", lambda _: device)
    with manage.queue("fake0", port=9000, state=journal.path) as queue:
        assert queue == NicQueue("fake0", 3)
        assert device.state.split == "on"
    assert device.state.split == "off"
    manage.apply("fake0", port=9000, state=journal.path)
    with manage.queues("fake0", port=9000, state=journal.path) as (queue,):
        assert queue == NicQueue("fake0", 3)
    assert device.state.split == "on"
    assert manage.restore("fake0", state=journal.path)
    assert not manage.restore("fake0", state=journal.path)


def test_several_queues_share_a_port(journal):
    device = new()
    record = ready(device, journal, port=[9000, 9001], queues=2)
    first, second = manage.handles(record)
    assert first == NicQueue("fake0", 2, share=(2, 3))
    assert second == NicQueue("fake0", 3, share=(2, 3))
    assert device.state.contexts == {1: spread(128, [0, 0, 1, 1])}
    assert {rule.context for rule in device.rules()} == {1}
    assert len(device.rules()) == 4


def test_a_held_queue_is_not_set_back(journal, monkeypatch):
    from zcrx_arrow.nic import change

    monkeypatch.setattr(change, "_UNBIND_SECONDS", 0.1)
    device = new()
    ready(device, journal, port=9000)
    device.state.holders[3] = "io_uring"
    with pytest.raises(ZcrxError, match="queue 3 of fake0 is still held by io_uring") as caught:
        back(device, journal)
    assert caught.value.errno == errno.EBUSY
    assert device.state.split == "on"
    device.state.holders.clear()
    back(device, journal)


def test_after_a_reboot_or_without_its_card_the_state_is_void(journal):
    device = new()
    ready(device, journal, port=9000)
    values = json.loads(journal.path.read_text())
    journal.path.write_text(json.dumps(values | {"boot": "another"}))
    assert journal.read() is None
    journal.path.write_text(json.dumps(values | {"index": 99}))
    fresh = new()
    assert ready(fresh, journal, port=9000).index == 7
    journal.path.write_text(json.dumps(values | {"interface": "eth9", "index": 9}))
    with pytest.raises(ConfigError, match="is of eth9, not of fake0"):
        back(fresh, journal)
    assert journal.path.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1}'])
def test_a_state_that_is_none(journal, text):
    journal.path.write_text(text)
    with pytest.raises(ZcrxError, match="is no state of an interface"):
        ready(new(), journal, port=9000)


def test_a_place_that_cannot_be_written():
    with pytest.raises(ZcrxError, match=r"cannot be written to /proc/nowhere/x\.json"):
        ready(new(), Journal("fake0", "/proc/nowhere/x.json"), port=9000)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "wanted", "words", "number"),
    [
        ({"up": False}, {}, "fake0 is down", errno.ENETDOWN),
        ({"xdp": 5}, {}, r"an XDP program \(id 5\)", errno.EEXIST),
        ({"channels": 1, "channels_max": 1}, {}, "1 receive queues at most", errno.ERANGE),
        ({}, {"queues": [16]}, "too few for queue 16", errno.ERANGE),
        ({}, {"queues": 16}, "too few for 16 of its own", errno.ERANGE),
        (
            {"holders": {2: "AF_XDP"}},
            {"queues": [2]},
            "queue 2 of fake0 is held by AF_XDP",
            errno.EBUSY,
        ),
        (
            {"channels": 2, "channels_max": 2, "holders": {1: "io_uring"}},
            {},
            "no spare queue: queue 1 is held by io_uring",
            errno.EBUSY,
        ),
        (
            {"rules": {0: Rule(0, 1, None, Match(4, 9000))}},
            {},
            "rule 0 of fake0 steers the same connections",
            errno.EEXIST,
        ),
        (
            {"rules": {n: Rule(n, 1, None, Match(4, n + 1)) for n in range(63)}},
            {},
            "room for 64 rules, and 63 are there",
            errno.ENOSPC,
        ),
        (
            {"rules": {0: Rule(0, 3, None, Match(4, 1))}},
            {"queues": [3]},
            "queue 3 of fake0 is the target of rule 0",
            errno.EBUSY,
        ),
        ({"contexts": {4: (3,) * 128}}, {"queues": [3]}, "in RSS context 4", errno.EBUSY),
    ],
)
def test_what_stands_in_the_way(state, wanted, words, number, journal):
    device = new(**state)
    before = device.looks()
    with pytest.raises(ZcrxError, match=words) as caught:
        ready(device, journal, **({"port": 9000} | wanted))
    assert caught.value.errno == number
    assert caught.value.remedy
    assert device.looks() == before
    assert device.changes == 0
    assert journal.read() is None


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({}, "say which connections"),
        ({"port": 0}, "port=0"),
        ({"port": 65536}, "port=65536"),
        ({"port": 1, "source": "nowhere"}, "is no IPv4 or IPv6 address"),
        ({"port": 1, "queues": 0}, "queues=0"),
        ({"port": 1, "queues": []}, "must name some queues"),
        ({"port": 1, "queues": [2, 2]}, "each once"),
        ({"source_port": -1}, "source_port=-1"),
        ({"port": 9000.0}, "numbers, or lists"),
        ({"port": 1, "queues": None}, "numbers, or lists"),
        ({"source": 123}, "must be an address"),
        ({"source": "fe80::1%eth0"}, "no plain IPv6 address"),
    ],
)
def test_nonsense(wanted, words):
    with pytest.raises(ConfigError, match=words):
        Request.of(**wanted)


def test_rules_are_read_as_they_are_written():
    addresses = {4: (None, "10.0.0.1"), 6: (None, "fd00::7")}
    for family, port, source_port in itertools.product((4, 6), (None, 9000), (None, 77)):
        for source, destination in itertools.product(addresses[family], repeat=2):
            match = Match(family, port, source, source_port, destination)
            for context in (None, 3):
                spec = specification(match, 5, 9, rss=context is not None)
                assert len(spec) == 168
                assert parse(spec, context or 0) == Rule(9, 5, context, match)


def test_rules_of_others_are_left_unread():
    spec = bytearray(specification(Match(4, 9000), 5, 9))
    spec[0] = 2  # UDP
    assert parse(bytes(spec), 0).match is None
    spec = bytearray(specification(Match(4, 9000), 5, 9))
    spec[4 + 52 + 20 + 10] = 0x0F  # half a port
    assert parse(bytes(spec), 0).match is None


def test_the_manual_shows_what_is_done():
    from tests.conftest import ROOT
    from tests.show_plans import transcript

    assert transcript() in (ROOT / "docs/nic.md").read_text()


def test_addresses_are_those_that_are_read_back(journal):
    device = new()
    ready(device, journal, source="FD00:0:0::7", source_port=77)
    assert [rule.match.source for rule in device.rules()] == ["fd00::7"]


def test_what_a_driver_makes_of_a_rule_is_taken_away(journal, monkeypatch):
    device = new()
    before = device.looks()
    insert = device.insert_rule

    def otherwise(match, queue, context):
        place = insert(match, queue, context)
        device.state.rules[place] = Rule(place, queue, context, None)
        return place

    monkeypatch.setattr(device, "insert_rule", otherwise)
    with pytest.raises(ZcrxError, match="had no effect"):
        ready(device, journal, port=9000)
    assert device.looks() == before


def test_a_table_that_the_driver_fills_anew(journal, monkeypatch):
    """With more channels it becomes longer, and leads to the new queue."""
    device = new(channels=2, table=(0, 0, 1, 1) * 16)
    before = device.looks()
    change = device.set_channels

    def anew(**options):
        change(**options)
        device.state.table = default_table(device.state.channels) * (
            2 if options["combined"] > 2 else 1
        )
        if options["combined"] == 2:
            device.state.table = before.table

    monkeypatch.setattr(device, "set_channels", anew)
    record = ready(device, journal, port=9000, queues=[2])
    assert record.queues == (2,)
    assert device.rss().queues == {0, 1}
    assert len(device.rss().table) == 256


def test_rules_that_others_add_stay(journal):
    device = new(active=frozenset())
    ready(device, journal, port=9000)
    place = device.insert_rule(Match(4, 1), 0, None)
    back(device, journal)
    assert set(device.state.rules) == {place}
    assert "rx-ntuple-filter" in device.state.active


def told(caplog) -> list[dict]:
    """Give the fields of what was logged, as a program reads them."""
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    ordinary = ("time", "level", "logger", "message")
    return [{name: each for name, each in line.items() if name not in ordinary} for line in lines]


def test_what_was_done_is_logged_with_fields(journal, caplog):
    caplog.set_level(logging.INFO, "zcrx_arrow")
    device = new(active=frozenset())
    record = ready(device, journal, port=9000, queues=[1])
    flows = "; ".join(map(str, record.request.matches))
    ready_now = {"event": "nic_ready", "source": "fake0", "queues": [1], "request": flows}
    assert told(caplog) == [ready_now]
    assert f"fake0: queue 1 ready for {flows}" in caplog.text
    device.insert_rule(Match(4, 1), 0, None)
    caplog.clear()
    back(device, journal)
    assert told(caplog) == [
        {"event": "nic_feature_kept", "source": "fake0", "feature": "rx-ntuple-filter"},
        {"event": "nic_set_back", "source": "fake0", "queues": [1]},
    ]
    assert caplog.records[0].filename == "change.py"


def test_what_somebody_left_is_named_in_the_log(journal, caplog):
    device = new()
    record = ready(device, journal, port=9000, owned=True)
    gone = process_mark(1).replace("1", "999999999", 1)
    journal.path.write_text(journal.path.read_text().replace(record.owner, gone))
    who = journal.read().who
    ready(device, journal, port=9001, owned=True)
    (left,) = [each for each in told(caplog) if each["event"] == "nic_left_behind"]
    assert left == {
        "event": "nic_left_behind",
        "source": "fake0",
        "owner": who,
        "queues": list(record.queues),
    }


def test_a_journal_of_somebody_else(journal):
    if os.geteuid() != 0:
        unavailable("only root can give a file away")
    ready(new(), journal, port=9000)
    os.chown(journal.path, 65534, 65534)
    with pytest.raises(ZcrxError, match="belongs to another user"):
        ready(new(), journal, port=9000)
    target = journal.path.with_name("target")
    target.touch()
    journal.path.unlink()
    journal.path.symlink_to(target)
    with pytest.raises(ZcrxError):
        ready(new(), journal, port=9000)


def test_in_a_running_event_loop():
    """As in a notebook: the netlink library has a loop of its own."""
    import asyncio

    from zcrx_arrow import nic

    async def look():
        return nic.inspect("lo")

    assert asyncio.run(look()).up
