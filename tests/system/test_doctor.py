# SPDX-License-Identifier: Apache-2.0
"""What the commands say of the machine they run on: they look, and change nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.conftest import ROOT, unavailable
from zcrx_arrow import doctor, nic
from zcrx_arrow.errors import ConfigError, UnsupportedError, ZcrxError
from zcrx_arrow.probe import Features

CLI = [sys.executable, "-m", "zcrx_arrow.cli"]


def run(
    *words: str, code: int = 0, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*prefix, *CLI, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def need_root(reason: str) -> None:
    if os.geteuid() != 0:
        unavailable(reason)


def features(**values) -> Features:
    found = dict.fromkeys(("io_uring", "zcrx_ring", "zcrx", "nodev"))
    found |= dict.fromkeys(
        ("answers_queries", "knows_nodev", "chunk_sizes", "events", "flush"), True
    )
    return Features(**(found | values))


def test_doctor_on_one_screen():
    said = run("doctor").stdout
    assert said.startswith(f"Linux {os.uname().release}")
    assert "io_uring           works" in said
    assert "transport='auto' without nic=: copy" in said
    assert "lo " in said
    assert len(said.splitlines()) <= 40


def test_doctor_for_machines():
    report = json.loads(run("doctor", "--json").stdout)
    assert report["auto"] == "copy"
    names = {each["name"]: each for each in report["interfaces"]}
    assert set(names) == {name for _, name in socket.if_nameindex()}
    assert names["lo"] == {
        "name": "lo", "driver": None, "ready": False, "why": "no hardware", "auto": "copy",
    }  # fmt: skip
    assert {each["verdict"] for each in report["machine"]} <= {"ok", "no", "note"}


def test_doctor_without_privileges():
    need_root("only root can become somebody else")
    nobody = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    report = json.loads(run("doctor", "--json", prefix=nobody).stdout)
    found = {each["name"]: each for each in report["machine"]}
    assert found["CAP_NET_ADMIN"]["verdict"] == "no"
    assert "setcap" in found["CAP_NET_ADMIN"]["remedy"]
    assert report["auto"] == "copy"


@pytest.mark.parametrize(
    ("values", "name", "verdict", "words"),
    [
        ({"io_uring": "EPERM", "zcrx": "EPERM"}, "io_uring", "no", "EPERM"),
        ({"zcrx": "EINVAL"}, "zero-copy receive", "no", "does not have it"),
        ({"zcrx": "EPERM"}, "zero-copy receive", "note", "not found out"),
        ({"answers_queries": False}, "its features", "note", "before 6.18"),
        ({"flush": False}, "its features", "ok", "not: flush"),
    ],
)
def test_doctor_of_other_kernels(monkeypatch, values, name, verdict, words):
    monkeypatch.setattr(doctor, "probe", lambda: features(**values))
    report = doctor.examine()
    finding = next(each for each in report.machine if each.name == name)
    assert finding.verdict == verdict
    assert words in finding.found
    if values.get("io_uring"):
        assert not report.works
        assert "io_uring_disabled" in report.next[0]


def test_every_interface_can_be_looked_at():
    for _, name in socket.if_nameindex():
        is_now = nic.inspect(name)
        assert is_now.name == name
        assert json.loads(run("nic", "show", name, "--json").stdout)["name"] == name
    is_now = nic.inspect("lo")
    assert is_now.up
    assert is_now.channels is None
    assert "channels" in is_now.missing


def test_an_interface_that_cannot():
    with pytest.raises(UnsupportedError, match="lo has no channels to set") as caught:
        nic.apply("lo", port=9000)
    assert "bnxt_en" in caught.value.remedy
    assert "transport='copy' works" in run("nic", "plan", "lo", "--port", "9000", code=1).stderr


def test_a_pair_of_virtual_ones():
    need_root("only root can make interfaces")
    name = f"za{os.getpid() % 10000}"
    make = ["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"]
    subprocess.run(make, check=True)
    try:
        with pytest.raises(ZcrxError, match=f"{name} is down"):
            nic.plan(name, port=9000)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        assert nic.inspect(name).driver.name == "veth"
        with pytest.raises(UnsupportedError, match=rf"{name} \(veth\)"):
            nic.plan(name, port=9000)
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


def test_no_such_interface():
    with pytest.raises(ZcrxError, match="there is no interface 'nope0'") as caught:
        nic.inspect("nope0")
    assert "lo" in caught.value.remedy
    for name in ("", "a/b", "x" * 16):
        with pytest.raises(ZcrxError):
            nic.inspect(name)


def test_usage():
    assert "say which connections" in run("nic", "plan", "lo", code=2).stderr
    wrong = ("nic", "plan", "lo", "--port", "1", "--queue", "1", "--queues", "2")
    assert "not both" in run(*wrong, code=2).stderr
    assert "give --queue" in run("nic", "verify", "lo", code=2).stderr
    assert "had not been changed" in run("nic", "restore", "lo").stdout
    with pytest.raises(ConfigError):
        nic.plan("lo")
    for command in ("show", "plan", "apply", "verify", "restore"):
        assert "--help" in run("nic", command, "--help").stdout
