# SPDX-License-Identifier: Apache-2.0
"""A machine that refuses: the error says what is missing and what to do."""

from __future__ import annotations

import errno
import os
import socket

import pytest

import zcrx_arrow as zc
from tests.conftest import unavailable
from zcrx_arrow.errors import ConfigError


def test_address_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(zc.ZcrxError, match=f"127.0.0.1:{port}") as caught:
            zc.listen(("127.0.0.1", port))
    assert caught.value.errno == errno.EADDRINUSE
    assert "ss -ltnp" in caught.value.remedy


def test_unresolvable_host():
    with pytest.raises(zc.ZcrxError, match="cannot be resolved") as caught:
        zc.connect("no-such-host.invalid:9000")
    assert caught.value.step == "resolve"
    with pytest.raises(zc.ZcrxError, match="cannot be resolved"):
        zc.listen("no-such-host.invalid:9000")


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(zc.ZcrxError, match="cannot connect") as caught:
        zc.connect(("127.0.0.1", port))
    assert caught.value.errno == errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"area": 4096}, "area is too small"),
        ({"area": zc.Area(size="1 MiB", chunk="1 MiB")}, "8 chunks"),
        ({"area": zc.Area(size="1 MiB", window="1 MiB")}, "window"),
        ({"area": zc.Area(size="1 MiB", chunk=5000)}, "power of two"),
        ({"area": "1 MiB", "batching": zc.Batching(max_bytes="512 KiB")}, "max_bytes"),
        ({"payload_type": "string_view"}, "raw framing"),
        ({"payload_type": "text"}, "payload_type='text'"),
        ({"copy_out": "sometimes"}, "copy_out='sometimes'"),
        ({"transport": "carrier pigeon"}, "transport='carrier pigeon'"),
        ({"accept": 0}, "accept=0"),
        ({"framing": "lines"}, "framing must be"),
    ],
)
def test_options_that_cannot_work(options, named):
    with pytest.raises(ConfigError, match=named):
        zc.listen("127.0.0.1:0", **options)


SECCOMP = """
    import ctypes, struct
    def deny(number, error):
        # load nr; if it is `number` return ERRNO(error), else ALLOW   (linux/filter.h)
        steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | error),
                 (0x06, 0, 0, 0x7fff0000)]
        code = b"".join(struct.pack("HBBI", *step) for step in steps)
        buffer = ctypes.create_string_buffer(code)
        program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(buffer))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.prctl(38, 1, 0, 0, 0) == 0
        assert libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0
"""


@pytest.mark.parametrize(("error", "word"), [("EPERM", "io_uring_disabled"), ("ENOSYS", "seccomp")])
def test_io_uring_is_blocked(run_python, error, word):
    done = run_python(f"""
    {SECCOMP}
    import errno
    import zcrx_arrow as zc
    from zcrx_arrow.errors import UnsupportedError
    deny(425, errno.{error})  # io_uring_setup
    try:
        zc.listen("127.0.0.1:0")
    except UnsupportedError as caught:
        print(caught.errno == errno.{error}, caught.step, caught)
    """)
    assert done.stdout.startswith("True io_uring_setup")
    assert word in done.stdout


def test_descriptors_run_out_at_accept(run_python):
    done = run_python("""
    import os, resource, socket, time
    import zcrx_arrow as zc
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))  # an armed accept remembers the limit
    with zc.listen("127.0.0.1:0", framing=zc.framing.Delimited()) as source:
        client = socket.socket()
        hoard = []
        try:
            while True:
                hoard.append(os.dup(0))
        except OSError:
            pass
        client.connect(source.address)          # the kernel completes it, nobody can accept it
        client.sendall(b"patience\\n")
        deadline = time.monotonic() + 20
        while not source.metrics().accept_errors and time.monotonic() < deadline:
            time.sleep(0.01)
        print("errors", source.metrics().accept_errors > 0)
        for fd in hoard:
            os.close(fd)
        print(source.next_batch(20).column("payload").to_pylist())
        client.close()
    """)
    assert done.stdout.splitlines() == ["errors True", "[b'patience']"]


def test_too_little_locked_memory(run_python):
    if os.geteuid():
        unavailable("needs root, to become somebody without CAP_IPC_LOCK")
    done = run_python("""
    import os, resource
    import zcrx_arrow as zc
    "loaded while it can be read".encode("idna")
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    try:
        zc.listen("127.0.0.1:0").close()
        print("not limited")
    except zc.ZcrxError as caught:
        print(caught.step, caught.errno, caught.remedy)
    """)
    # Kernels before 6.14 do not count the rings as locked memory: there it just works.
    if done.stdout.strip() != "not limited":
        assert "RLIMIT_MEMLOCK" in done.stdout
        assert done.stdout.split()[1] == str(errno.ENOMEM)
