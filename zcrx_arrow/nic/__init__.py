# SPDX-License-Identifier: Apache-2.0
"""
A NIC made ready for zero-copy receive, explained, checked and set back.

    state.py      values: what an interface is like
    netlink.py    what the kernel says and takes by netlink
    ioctl.py      by the ethtool ioctl: driver, RSS tables and contexts
    rules.py      and flow rules
    device.py     an interface: all of these together; `inspect`
    drivers.py    what drivers want differently
    planning.py   from what is to what is needed, in steps; `Plan`, `Step`
    change.py     one step carried out, read back, undone
    journal.py    what it was like, written down before
    manage.py     `plan`, `apply`, `restore`, `queue`, `queues`
    checks.py     `verify`, `placed`
    preflight.py  what is missing for zero-copy receive, in words

Only reading and writing of settings: the packets are the business of `zcrx_arrow.listen`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zcrx_arrow.nic.checks import Check, placed, verify
    from zcrx_arrow.nic.device import inspect
    from zcrx_arrow.nic.manage import apply, plan, queue, queues, restore
    from zcrx_arrow.nic.planning import Plan, Step
    from zcrx_arrow.nic.state import Interface, Match

__all__ = [
    "Check",
    "Interface",
    "Match",
    "Plan",
    "Step",
    "apply",
    "inspect",
    "placed",
    "plan",
    "queue",
    "queues",
    "restore",
    "verify",
]

_HOMES = {
    "device": ("inspect",),
    "manage": ("apply", "plan", "queue", "queues", "restore"),
    "planning": ("Plan", "Step"),
    "state": ("Interface", "Match"),
    "checks": ("Check", "placed", "verify"),
}


def __getattr__(name: str) -> Any:
    """Load what is asked for: netlink takes a tenth of a second, which most programs can spare."""
    from importlib import import_module  # noqa: PLC0415

    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"zcrx_arrow.nic.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
