# SPDX-License-Identifier: Apache-2.0
"""Syslog over TCP from the programs that send it: util-linux's logger, and rsyslog."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time

import pytest

import zcrx_arrow as zc
from tests.conftest import eventually, unavailable
from tests.formats.peers import Pulling, closed
from tests.kernel import packages
from zcrx_arrow import framing as fr

TEXTS = [
    "hello",
    "with 12 digits",
    "é and ü",
    "<13>not a header",
    "5 begins with a digit",
    "x" * 900,
    "tab\tand  blanks",
]


@pytest.fixture(scope="session")
def program():
    """Find a program; root gets its package if it is missing."""

    def find(name: str, package: str) -> str:
        if not shutil.which(name) and os.geteuid() == 0 and shutil.which("apt-get"):
            packages.install(package)
        path = shutil.which(name)
        if path is None:
            unavailable(f"{name} is missing: apt-get install {package}")
        return str(path)

    return find


def text_of(message: bytes) -> str:
    """Take RFC 5424's or RFC 3164's header off, down to the tag."""
    found = re.fullmatch(
        r"<\d+>.*?tagged(?::| \S+ \S+ (?:-|\[.*?\])) ?(.*)", message.decode(), re.DOTALL
    )
    assert found, message
    return found[1]


@pytest.mark.parametrize("rfc", ["--rfc3164", "--rfc5424"])
@pytest.mark.parametrize("counted", [True, False])
def test_logger(program, rfc, counted):
    logger = program("logger", "bsdutils")
    with zc.listen("127.0.0.1:0", framing=fr.Syslog(), accept=len(TEXTS)) as source:
        pulling = Pulling(source)
        for text in TEXTS:
            command = [
                logger,
                "-n",
                "127.0.0.1",
                "-P",
                str(source.address[1]),
                "-T",
                rfc,
                "-t",
                "tagged",
            ]
            subprocess.run(
                [*command, *(["--octet-count"] if counted else []), "--", text],
                check=True,
                timeout=20,
            )
            eventually(lambda: closed(source))
        batches = pulling.all()
        infos = source.connections().to_pylist()
    rows = [row for batch in batches for row in batch.to_pylist()]
    rows.sort(key=lambda row: row["connection"])
    assert [text_of(row["payload"]) for row in rows] == TEXTS
    assert {(row["close_reason"], row["error"], row["partial_bytes"]) for row in infos} == {
        ("eof", None, 0)
    }
    if counted:
        assert all(row["position"] == len(f"{len(row['payload'])} ") for row in rows)
    else:
        assert all(row["position"] == 0 for row in rows)


def test_several_messages_on_one_connection(program):
    logger = program("logger", "bsdutils")
    for counted in (True, False):
        with zc.listen("127.0.0.1:0", framing=fr.Syslog(), accept=1) as source:
            pulling = Pulling(source)
            subprocess.run(
                [logger, "-n", "127.0.0.1", "-P", str(source.address[1]), "-T", "-t", "tagged",
                 *(["--octet-count"] if counted else [])],
                input="\n".join(TEXTS * 20).encode() + b"\n",
                check=True,
                timeout=20,
            )  # fmt: skip
            batches = pulling.all()
        rows = [payload for batch in batches for payload in batch["payload"].to_pylist()]
        assert [text_of(payload) for payload in rows] == TEXTS * 20


@pytest.mark.parametrize("counted", [True, False])
def test_rsyslog(program, tmp_path, counted):
    """It reads lines from a socket of its own and forwards them by TCP."""
    rsyslogd, logger = program("rsyslogd", "rsyslog"), program("logger", "bsdutils")
    texts = TEXTS + [f"message {n} " + "y" * (n % 500) for n in range(300)]
    with zc.listen("127.0.0.1:0", framing=fr.Syslog()) as source:
        pulling = Pulling(source)
        config, log = tmp_path / "rsyslog.conf", tmp_path / "log"
        framing = "octet-counted" if counted else "traditional"
        config.write_text(
            f"""
            global(workDirectory="{tmp_path}" parser.escapeControlCharactersOnReceive="off")
            module(load="imuxsock" SysSock.Use="off")
            input(type="imuxsock" Socket="{log}" CreatePath="off" RateLimit.Interval="0")
            action(type="omfwd" target="127.0.0.1" port="{source.address[1]}" protocol="tcp"
                   TCP_Framing="{framing}" template="RSYSLOG_SyslogProtocol23Format")
            """
        )
        daemon = subprocess.Popen([rsyslogd, "-n", "-f", str(config), "-i", str(tmp_path / "pid")])
        try:
            eventually(log.exists)
            for text in texts[:20]:
                subprocess.run(
                    [logger, "-u", str(log), "-t", "tagged", "--", text], check=True, timeout=20
                )
            subprocess.run(
                [logger, "-u", str(log), "-t", "tagged"],
                input="\n".join(texts[20:]).encode() + b"\n",
                check=True,
                timeout=20,
            )
            eventually(lambda: source.metrics().rows >= len(texts), 30)
            time.sleep(0.2)
        finally:
            daemon.terminate()
            daemon.wait(20)
            source.stop()
        rows = [payload for batch in pulling.all() for payload in batch["payload"].to_pylist()]
    mine = [payload for payload in rows if b" tagged " in payload]
    assert all(payload.endswith(b"\n") == counted for payload in mine)  # its template ends with one
    # The blank behind the tag is part of a message by RFC 3164.
    assert [text_of(payload).removeprefix(" ").removesuffix("\n") for payload in mine] == texts
