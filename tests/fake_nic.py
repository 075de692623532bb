# SPDX-License-Identifier: Apache-2.0
"""
A NIC at the boundary where settings are read and written, with the ways of drivers.

What is recorded here was read in Linux 7.2 and 7.3 or reported by others: nobody here has such
NICs. The way of the kernel's core - rules and tables that keep a queue from being taken away, a
split that cannot be switched off while a queue is bound - is the same for all of them, and is
checked on the real core with the software NIC.
"""

from __future__ import annotations

import copy
import errno
import os
from dataclasses import dataclass, field

from zcrx_arrow.nic.device import Device
from zcrx_arrow.nic.netlink import Link
from zcrx_arrow.nic.state import Channels, Driver, Features, Match, QueueState, Rings, Rss, Rule


def refuse(number: int, words: str | None = None) -> OSError:
    return OSError(number, words or os.strerror(number))


class Died(BaseException):
    """The process was killed."""


@dataclass
class State:
    channels: int = 4
    channels_max: int = 16
    split: str = "off"
    thresh: int | None = 0
    active: frozenset[str] = frozenset()
    table: tuple[int, ...] = ()
    configured: bool = False  # by somebody, not by default
    contexts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    rules: dict[int, Rule] = field(default_factory=dict)
    holders: dict[int, str] = field(default_factory=dict)
    xdp: int | None = None
    up: bool = True

    def __post_init__(self) -> None:
        if not self.table:
            self.table = default_table(self.channels)


def default_table(channels: int) -> tuple[int, ...]:
    return tuple(place % channels for place in range(128))


class FakeNic(Device):
    """
    A NIC.

    ``fail_at`` is the number of the change that fails, ``die_at`` of the one before which (or, with
    ``die_after``, after which) the process is killed.
    """

    def __init__(self, state: State, driver: str = "zcsim", rules_max: int = 64) -> None:
        super().__init__("fake0")
        # mlx5 does not tell how many rules there may be where others do
        self.rules_size = 0 if driver == "mlx5_core" else rules_max
        self.state, self.driver_name = state, driver
        self.changes = 0
        self.revive()
        self.ignores: set[str] = set()

    def revive(self) -> None:
        """Begin anew, as the next process does."""
        self.dead = False
        self.fail_at = self.die_at = self.die_after = -1

    def snapshot(self) -> State:
        return copy.deepcopy(self.state)

    def looks(self) -> State:
        """Give what can be read: a default cannot be told from a setting that is the same."""
        state = self.snapshot()
        state.split = self.rings().tcp_data_split
        state.configured &= state.table != default_table(state.channels)
        return state

    def change(self, what: str) -> bool:
        """Count a change; False if it is answered and not done."""
        number = self.changes
        self.changes += 1
        if self.dead or number == self.die_at:
            self.dead = True  # nothing of this process runs on
            raise Died
        if number == self.fail_at:
            raise refuse(errno.EIO, f"the firmware does not like {what}")
        return what not in self.ignores

    def done(self) -> None:
        if self.changes - 1 == self.die_after:
            self.dead = True
            raise Died

    # --- read

    def link(self) -> Link:
        if self.dead:
            raise Died
        return Link(index=7, up=self.state.up, xdp=self.state.xdp)

    def index(self) -> int:
        if self.dead:
            raise Died
        return 7

    def name_of(self, index: int) -> str | None:
        return self.name if index == 7 else None

    def driver(self) -> Driver:
        return Driver(self.driver_name, "1", "fw", "0000:01:00.0")

    def channels(self) -> Channels:
        state = self.state
        return Channels(0, 0, 0, state.channels, 0, 0, 0, state.channels_max)

    def rings(self) -> Rings:
        state = self.state
        split = state.split
        if split == "auto":
            split = {"mlx5_core": "on", "fbnic": "on", "bnxt_en": "off"}.get(self.driver_name)
        return Rings(split, state.thresh, None if state.thresh is None else 1024, 512, 4096)

    def features(self) -> Features:
        return Features(self.state.active, frozenset({"rx-gro-hw", "rx-ntuple-filter"}))

    def rss(self, context: int = 0) -> Rss:
        if context and context not in self.state.contexts:
            raise refuse(errno.ENOENT)
        table = self.state.contexts[context] if context else self.state.table
        return Rss(table, "00", 1, context)

    def rules(self) -> tuple[Rule, ...]:
        return tuple(self.state.rules[place] for place in sorted(self.state.rules))

    def rules_max(self) -> int | None:
        return self.rules_size or None

    def queues(self) -> tuple[QueueState, ...]:
        return tuple(
            QueueState(number, 100 + number, self.state.holders.get(number))
            for number in range(self.state.channels)
        )

    # --- change

    def set_channels(self, *, combined: int | None = None, rx: int | None = None) -> None:
        assert rx is None
        assert combined is not None
        if not self.change("channels"):
            return
        state = self.state
        used = {rule.queue for rule in state.rules.values() if rule.context is None}
        used |= {queue for table in state.contexts.values() for queue in table}
        used |= set(state.table) if state.configured else set()
        if max(used | set(state.holders), default=0) >= combined or combined > state.channels_max:
            raise refuse(errno.EINVAL, "requested channel counts are too low for existing rules")
        state.channels = combined
        if not state.configured:
            state.table = default_table(combined)
        self.done()

    def set_feature(self, name: str, *, on: bool) -> None:
        if not self.change(name):
            return
        state = self.state
        mlx5 = self.driver_name == "mlx5_core"
        if mlx5 and name == "rx-gro-hw" and not on and state.split == "on":
            raise refuse(errno.EINVAL, "TCP header-data split is configured")
        if name == "rx-ntuple-filter" and not on:
            state.rules.clear()  # as most drivers do
        state.active = state.active | {name} if on else state.active - {name}
        self.done()

    def set_rings(self, *, split: str | None = None, hds_thresh: int | None = None) -> None:
        if not self.change("rings"):
            return
        state, driver = self.state, self.driver_name
        if hds_thresh is not None and state.thresh is None:
            raise refuse(errno.EOPNOTSUPP, "setting hds-thresh is not supported")
        if split == "off" and driver == "bnxt_en":
            raise refuse(errno.EINVAL, "disabling TCP data split is not supported")
        if split != "on" and "io_uring" in state.holders.values():
            raise refuse(
                errno.EINVAL, "can't disable tcp-data-split while device has memory provider"
            )
        if split == "on" and driver == "mlx5_core" and "rx-gro-hw" not in state.active:
            raise refuse(errno.EINVAL, "TCP header-data split is not supported without HW-GRO")
        if split is not None:
            state.split = split
        if hds_thresh is not None:
            state.thresh = hds_thresh
        self.done()

    def set_rss(self, table: tuple[int, ...]) -> None:
        if not self.change("rss"):
            return
        if table and max(table) >= self.state.channels:
            raise refuse(errno.EINVAL)
        self.state.table = table or default_table(self.state.channels)
        self.state.configured = bool(table)
        self.done()

    def create_context(self, table: tuple[int, ...]) -> int:
        if not self.change("context"):
            return 0
        number = max(self.state.contexts, default=0) + 1
        self.state.contexts[number] = table
        self.done()
        return number

    def delete_context(self, context: int) -> None:
        self.change("delete context")
        if any(rule.context == context for rule in self.state.rules.values()):
            raise refuse(errno.EBUSY)
        if context not in self.state.contexts:
            raise refuse(errno.ENOENT)
        del self.state.contexts[context]
        self.done()

    def insert_rule(self, match: Match, queue: int, context: int | None) -> int:
        if not self.change("rule"):
            return 0
        if "rx-ntuple-filter" not in self.state.active:
            raise refuse(errno.EOPNOTSUPP)
        free = (place for place in range(self.rules_size or 1024) if place not in self.state.rules)
        place = next(free, None)
        if place is None:
            raise refuse(errno.ENOSPC)
        self.state.rules[place] = Rule(place, queue, context, match)
        self.done()
        return place

    def delete_rule(self, location: int) -> None:
        self.change("delete rule")
        if location not in self.state.rules:
            raise refuse(errno.ENOENT)
        del self.state.rules[location]
        self.done()


def interface_of(fake: FakeNic):
    """What `inspect` gives, with the driver that the fake has."""
    from zcrx_arrow.nic.state import Interface

    return Interface(
        name=fake.name, index=7, up=fake.state.up, driver=fake.driver(), channels=fake.channels(),
        rings=fake.rings(), features=fake.features(), rss=fake.rss(), contexts=fake.contexts(),
        rules=fake.rules(), rules_max=fake.rules_max(), xdp=fake.state.xdp, queues=fake.queues(),
        numa_node=0, missing={},
    )  # fmt: skip


FakeNic.inspect = interface_of
