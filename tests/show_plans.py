# SPDX-License-Identifier: Apache-2.0
"""Prints what `zcrx-arrow nic apply --dry-run` would print for each driver: for docs/nic.md."""

from __future__ import annotations

from tests.fake_nic import FakeNic
from tests.unit.test_nic import DRIVERS
from zcrx_arrow.nic.planning import Request, make_plan


def transcript() -> str:
    """Give the commands, driver by driver."""
    lines = []
    for driver in (name for name in DRIVERS if name != "ice"):
        plan = make_plan(FakeNic(DRIVERS[driver], driver).inspect(), Request.of(port=9000))
        lines += [f"# {driver}: queue {plan.queues[0]}", *plan.commands]
    return "\n".join(lines).replace("fake0", "eth0")


if __name__ == "__main__":
    print(transcript())
