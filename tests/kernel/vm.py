# SPDX-License-Identifier: Apache-2.0
"""
Runs a command in a virtual machine with a kernel of its own, on this machine's files.

virtme-ng boots the kernel under QEMU (by software emulation: no KVM is needed) with this machine's
root file system, read-only. What the command prints appears here as it comes, and its exit code is
this program's. The guest sees the same virtual environment; what it writes is gone with it, except
for the results folder.

    python -m tests.kernel.vm [--memory 3G] [--timeout 900] -- COMMAND...
    python -m tests.kernel.vm --prepare

KERNEL=path takes another kernel, KVM=1 hardware virtualisation.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.kernel import module, packages, witness

ROOT = Path(__file__).parents[2]
WARM = "warm"
BOOTS = 3
# The guest mounts the host's files a second time, cached: by default every import of a large module
# is read through the emulated bus again. Over the checkout lies a writable layer with the compiled
# module in it, since the editable install would look for a compiler.
GUEST = """\
#!/bin/sh
set -e
fail() {{ echo "the guest cannot be set up: $1"; exit 70; }}
mkdir -p /run/warm /run/layer
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 {warm} /run/warm \\
    || fail "9p"
mount -t tmpfs tmpfs /run/layer && mkdir /run/layer/upper /run/layer/work
mount -t overlay overlay \\
    -o lowerdir=/run/warm{root},upperdir=/run/layer/upper,workdir=/run/layer/work {root} \\
    || fail overlay
test -z "{python}" || mount --bind /run/warm{python} {python} || fail python
cp {build}/native/_native*.so {root}/zcrx_arrow/
ip link set lo up
modprobe virtio_net
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
cd {root}
export PATH={root}/.venv/bin:$PATH HOME=/run PYTHONDONTWRITEBYTECODE=1
export ZCRX_ARROW_GUEST=1 PYTHONPATH={root} MESONPY_EDITABLE_SKIP={build} PYTHONUNBUFFERED=1
{environment}
set +e
{command}
code=$?
dmesg > {results}/dmesg
echo $code > {results}/code
"""


class Unavailable(RuntimeError):
    """There is no kernel, or nothing to boot it with."""


TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "modprobe": "kmod",
    "zstd": "zstd",
}


def _missing() -> list[str]:
    return [package for tool, package in TOOLS.items() if not shutil.which(tool)]


def _need_tools() -> None:
    """See that everything is there; root gets from Debian's archive what is missing."""
    missing = _missing()
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {' '.join(missing)} with apt-get", flush=True)
        packages.install(*missing)
        missing = _missing()
    if missing:
        raise Unavailable(f"missing packages: apt-get install {' '.join(missing)}")
    if not (Path(sys.prefix) / "bin/vng").exists():
        raise Unavailable("virtme-ng is missing: pip install virtme-ng")


def _software_nic(kernel: Path) -> dict[str, str]:
    """
    Give the guest's environment for the software NIC, and what its tests need.

    Empty on a user's machine that cannot build it, or for $KERNEL.
    """
    try:
        return {
            "ZCRX_ARROW_ZCSIM": str(module.build(kernel)),
            "ZCRX_ARROW_ETHTOOL": str(packages.unpacked("ethtool") / "usr/sbin/ethtool"),
            "ZCRX_ARROW_WITNESS": str(witness.build()),
            "ZCRX_ARROW_TAP": str(witness.build_tap()),
        }
    except packages.ArchiveError as error:
        if os.environ.get("CI") and not os.environ.get("KERNEL"):
            raise
        print(f"without the software NIC: {error}", flush=True)
        return {}


def _guest_script(command: list[str], results: Path, nic: dict[str, str]) -> str:
    """What the guest runs."""
    python = Path(sys.base_prefix)
    # A Python of the distribution lies in /usr, which the guest has cached by itself.
    outside = str(python) if not python.is_relative_to("/usr") else ""
    passed = ("CI", "ZCRX_ARROW_TEST_TRANSPORTS", "ZCRX_ARROW_CACHE")
    values = {name: os.environ[name] for name in passed if name in os.environ} | nic
    return GUEST.format(
        warm=WARM,
        root=ROOT,
        python=outside,
        build=next((ROOT / "build").glob("cp3*")),
        environment="\n".join(f"export {name}={shlex.quote(values[name])}" for name in values),
        command=shlex.join(command),
        results=results,
    )


def _card() -> tuple[list[str], str]:
    """
    Give a network card that is connected to nothing, for what its driver can and cannot do.

    It has several queues only on a tap, which root makes in a network namespace of its own: a
    prefix for the command, and QEMU's options.
    """
    device = "-device virtio-net-pci,netdev=card"
    if os.geteuid() == 0 and Path("/dev/net/tun").exists() and shutil.which("unshare"):
        tap = "-netdev tap,id=card,ifname=card0,script=no,downscript=no,queues=4"
        return ["unshare", "--net"], f"{tap} {device},mq=on,rss=on,vectors=10"
    return [], f"-netdev hubport,id=card,hubid=0 {device}"


def _boot(kernel: Path, script: Path, results: Path, memory: str) -> subprocess.Popen[bytes]:
    prefix, card = _card()
    shared = (
        f"-fsdev local,id={WARM},path=/,security_model=none,readonly=on,multidevs=remap "
        f"-device virtio-9p-pci,fsdev={WARM},mount_tag={WARM} {card}"
    )
    command = [
        *prefix,
        str(Path(sys.prefix) / "bin/vng"),
        "--run",
        str(kernel),
        "--user",
        "root",
        "--memory",
        memory,
        "--cpus",
        "2",
        f"--rwdir={results}",
        f"--qemu-opts={shared}",
        "--verbose",
    ]
    # Where this machine is virtual itself, /dev/kvm may be there and not work.
    if not os.environ.get("KVM"):
        command.append("--disable-kvm")
    inside = f"sh {script} > {results}/output 2>&1"
    with (results / "console").open("wb") as console:
        return subprocess.Popen(
            [*command, "--", inside],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            cwd="/",
            start_new_session=True,
        )


def _follow(guest: subprocess.Popen[bytes], output: Path, timeout: float) -> bool:
    """Show what the guest prints; False if it took too long."""
    deadline = time.monotonic() + timeout
    shown = 0
    while True:
        over = guest.poll() is not None
        if output.exists():
            with output.open("rb") as stream:
                stream.seek(shown)
                shown += sys.stdout.buffer.write(stream.read())
                sys.stdout.flush()
        if over:
            return True
        if time.monotonic() > deadline:
            os.killpg(guest.pid, signal.SIGKILL)
            guest.wait()
            return False
        time.sleep(0.2)


def prepare() -> tuple[Path, dict[str, str]]:
    """
    Get the kernel and all that its guest needs.

    Returns
    -------
    Path, dict
        The kernel; the guest's environment for the software NIC.

    Raises
    ------
    Unavailable
        If a tool or the kernel is missing.
    """
    _need_tools()
    try:
        kernel = packages.kernel()
        return kernel, _software_nic(kernel)
    except packages.ArchiveError as error:
        raise Unavailable(f"{error}; KERNEL=path/to/vmlinuz takes another kernel") from error


def run(command: list[str], *, memory: str = "3G", timeout: float = 900) -> int:
    """
    Boot, run, and give the command's exit code.

    Raises
    ------
    Unavailable
        If a tool or the kernel is missing.
    """
    kernel, nic = prepare()
    with tempfile.TemporaryDirectory(prefix="zcrx-vm-") as folder:
        results = Path(folder)
        script = results / "guest.sh"
        script.write_text(_guest_script(command, results, nic))
        for _ in range(BOOTS):
            print(f"booting {kernel}", flush=True)
            guest = _boot(kernel, script, results, memory)
            in_time = _follow(guest, results / "output", timeout)
            # An emulated processor sometimes trips over a kernel that patches itself as it boots.
            # What goes wrong later, in a test, is never repeated.
            if not in_time or (results / "output").exists():
                break
            print("the kernel did not boot", flush=True)
        code = results / "code"
        if code.exists():
            return _verdict(int(code.read_text()), (results / "dmesg").read_text())
        print((results / "console").read_text(errors="replace")[-6000:])
        print("the guest ended without a result" if in_time else f"no result after {timeout} s")
        return 70


def _verdict(code: int, dmesg: str) -> int:
    """A kernel that has warned has failed, whatever the tests say."""
    signs = ("WARNING:", "BUG:", "Oops", "general protection", "page_pool_release_retry", "leak")
    bad = [line for line in dmesg.splitlines() if any(sign in line for sign in signs)]
    if bad:
        print("the kernel complains:", *bad, sep="\n")
        return code or 71
    return code


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernel.vm", description=__doc__)
    parser.add_argument("--memory", default="3G")
    parser.add_argument("--timeout", type=float, default=900, help="seconds")
    parser.add_argument("--prepare", action="store_true", help="only get what it takes")
    parser.add_argument("command", nargs="*")
    given = parser.parse_args()
    if not given.prepare and not given.command:
        parser.error("a command is missing")
    try:
        if given.prepare:
            prepare()
            return 0
        return run(given.command, memory=given.memory, timeout=given.timeout)
    except Unavailable as error:
        print(f"no virtual machine: {error}", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
