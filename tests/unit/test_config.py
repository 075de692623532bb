# SPDX-License-Identifier: Apache-2.0
"""Options are read and checked when they are made."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zcrx_arrow as zc
from zcrx_arrow import config
from zcrx_arrow.address import parse_address
from zcrx_arrow.errors import ConfigError, UnsupportedError, from_core


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (123, 123),
        ("123", 123),
        ("64k", 65536),
        ("64 KiB", 65536),
        ("1.5 MiB", 3 << 19),
        ("10 MB", 10_000_000),
        ("1gib", 1 << 30),
        (" 2 T ", 2 << 40),
    ],
)
def test_sizes(text, size):
    assert config.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "1 XB", "-1", -1, "1.0001 KiB", 1.5, True, None, "1 2"]
)
def test_no_sizes(text):
    with pytest.raises(ConfigError, match="area"):
        config.parse_size(text, "area")


@given(st.integers(0, 2**50))
def test_whole_numbers_are_exact(size):
    assert config.parse_size(str(size)) == config.parse_size(size) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(1, 1.0), (0.5, 0.5), ("10 ms", 0.01), ("200us", 0.0002), ("2 min", 120.0), ("1.5", 1.5)],
)
def test_durations(text, seconds):
    assert config.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "ms", "1 week", -1, "-1 s", math.inf, math.nan, True, None])
def test_no_durations(text):
    with pytest.raises(ConfigError, match="timeout"):
        config.parse_duration(text, "timeout")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("[::1]:9000", ("::1", 9000)),
        ("host.example:0", ("host.example", 0)),
        (":9000", ("", 9000)),
        (("::1", 9000), ("::1", 9000)),
    ],
)
def test_addresses(address, parts):
    assert parse_address(address) == parts


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        "host:",
        "host:port",
        "::1:9000",
        "host:65536",
        "h:-1",
        ("h", "1"),
        ("h",),
        7,
        None,
    ],
)
def test_no_addresses(address):
    with pytest.raises(ConfigError):
        parse_address(address)


@pytest.mark.parametrize(
    "make",
    [
        lambda: zc.Area(size="much"),
        lambda: zc.Batching(max_rows=0),
        lambda: zc.Batching(max_rows=True),
        lambda: zc.Batching(max_delay=-1),
        lambda: zc.Limits(connections=0),
        lambda: zc.Limits(queue_batches="8"),
        lambda: zc.Reconnect(factor=0.5),
        lambda: zc.Reconnect(jitter=2),
        lambda: zc.Reconnect(attempts=0),
        lambda: zc.framing.Delimited(b""),
        lambda: zc.framing.Delimited(b"123456789"),
        lambda: zc.framing.Delimited("\n"),
        lambda: zc.framing.Delimited(max_message=0),
        lambda: zc.framing.Delimited(max_message="2 GiB"),
    ],
)
def test_options_that_cannot_be(make):
    with pytest.raises(ConfigError):
        make()


@given(st.integers(32 * 1024, 1 << 40))
def test_any_area_size_gets_chunks_that_fit(size):
    area = zc.Area.of(size)
    chunk, window = config.parse_size(area.chunk), config.parse_size(area.window)
    assert size <= area.size < size + chunk
    assert area.size % chunk == 0
    assert area.size // chunk >= 8
    assert 2 * chunk <= window <= area.size // 2


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        zc.Limits().connections = 5


def test_errors_name_cause_step_and_remedy():
    error = from_core(-1, "io_uring_setup", "the kernel refuses")
    assert isinstance(error, UnsupportedError)
    assert "io_uring_setup: the kernel refuses [EPERM" in str(error)
    assert "kernel.io_uring_disabled" in str(error)
    assert issubclass(ConfigError, ValueError)
