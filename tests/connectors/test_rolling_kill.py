# SPDX-License-Identifier: Apache-2.0
"""``kill -9`` at any moment: what is visible is whole, and is the beginning of the feed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import ROOT, eventually
from tests.connectors.rolling_peer import Replaying, hidden, names, read
from zcrx_arrow.connectors import rolling

KILLS = 30


def feed(count: int) -> bytes:
    noise = np.random.default_rng(1).bytes(24 * count).hex()
    return b"".join(b"%d %s\n" % (i, noise[48 * i : 48 * i + 48].encode()) for i in range(count))


@pytest.fixture
def nursery():
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.connectors.rolling_nursery"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_killed_at_random_moments(tmp_path, nursery, kind):
    data = feed(200_000)
    sender = Replaying(data, rate=2 << 20)
    dice = random.Random(kind)
    whole, statuses = 0, []
    try:
        for _ in range(KILLS):
            nursery.stdin.write(f"{sender.address[1]} {tmp_path} {kind}\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())
            # From when it is about to connect, until some time after it has begun to write.
            if dice.random() < 0.9:
                eventually(lambda: len(sender.asked) > len(statuses))
            time.sleep(dice.uniform(0, 0.15))
            os.kill(child, signal.SIGKILL)
            statuses.append(int(nursery.stdout.readline()))
            del sender.asked[len(statuses) :]
            sender.asked += [0] * (len(statuses) - len(sender.asked))
            # Nothing half-written is visible, and what was visible stays.
            assert len(hidden(tmp_path)) <= 1
            assert len(names(tmp_path)) >= whole
            whole = len(names(tmp_path))
    finally:
        sender.close()
    table = read(tmp_path)  # each file is whole, or this fails
    table.validate(full=True)
    found = table["payload"].to_pylist()
    want = data.splitlines()
    assert found == want[: len(found)], "the files are not the beginning of the feed"
    assert statuses.count(signal.SIGKILL) > KILLS // 2
    said = rolling.positions(tmp_path)
    assert said["file"].to_pylist() == names(tmp_path)
    assert len(set(said["run"].to_pylist())) > 5
    assert sum(said["rows"].to_pylist()) == len(found)
    assert rolling.resume(tmp_path).last == data.index(found[-1])
