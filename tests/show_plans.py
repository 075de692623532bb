# SPDX-License-Identifier: Apache-2.0
"""Prints what `zcrx-arrow nic plan` and `apply --dry-run` print for each driver: for docs/nic.md."""

from __future__ import annotations

import contextlib
import io
import os
from unittest import mock

from tests.fake_nic import FakeNic
from tests.unit.test_nic import DRIVERS
from zcrx_arrow.cli.nic import print_plan
from zcrx_arrow.nic.planning import Request, make_plan


def transcript() -> str:
    """Give the output, driver by driver."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), mock.patch.dict(os.environ, COLUMNS="116"):
        for driver in (name for name in DRIVERS if name != "ice"):
            plan = make_plan(FakeNic(DRIVERS[driver], driver).inspect(), Request.of(port=9000))
            print("$ zcrx-arrow nic plan eth0 --port 9000")
            print_plan(plan)
            print("$ zcrx-arrow nic apply eth0 --port 9000 --dry-run")
            print("\n".join(plan.commands), end="\n\n")
    lines = (line.rstrip() for line in said.getvalue().replace("fake0", "eth0").splitlines())
    return "\n".join(lines).strip()


if __name__ == "__main__":
    print(transcript())
