# SPDX-License-Identifier: Apache-2.0
"""
What Ray adds to a feed: time for each block, and the share of CPU outside the engine.

``python -m benchmarks.ray_overhead [--quick] [--json FILE]`` starts a Ray of its own on this
machine, sends lines of 100 bytes over loopback TCP to a receiver actor, and takes the
micro-batches without reading them. For comparison the same feed goes to a source in a process
without Ray that drops its batches.

CPU is that of whole processes, from /proc. *Engine* is all that Ray adds: the actor's process
without receiving, pulling and decoding, the driver, raylet and GCS. *Outside* is the rest.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import zcrx_arrow as zc

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_DEDUP_LOGS": "0",
}
LINE = b"x" * 99 + b"\n"
PIECE = LINE * 10_000
TICK = os.sysconf("SC_CLK_TCK")


def send(address: tuple[str, int], total: int) -> None:
    with socket.create_connection(address) as peer:
        for _ in range(total // len(PIECE)):
            peer.sendall(PIECE)
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)


def cpu_of(pid: int) -> float:
    """User and system seconds of a process: proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def daemons(session: str) -> list[int]:
    """Processes of this Ray that are neither workers nor the driver."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = each.read_bytes()
        except OSError:
            continue
        program = command.split(b"\0")[0]
        if session.encode() in command and program.endswith((b"/raylet", b"/gcs_server")):
            found.append(int(each.parent.name))
    return found


def feeder(address: tuple[str, int], total: int) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=send, args=(address, total))
    process.start()
    return process


def without_ray(total: int) -> dict[str, float]:
    """Receive the same, in this process, and drop it."""
    with zc.listen("127.0.0.1:0", framing=zc.framing.Delimited(), accept=1) as source:
        peer = feeder(source.address, total)
        first = source.next_batch()
        began, cpu, rows = time.perf_counter(), time.process_time(), first.num_rows if first else 0
        del first
        for batch in source:
            rows += batch.num_rows
        wall, used = time.perf_counter() - began, time.process_time() - cpu
    peer.join()
    assert rows == total // len(LINE)
    return {"seconds": wall, "cpu": used}


def with_ray(total: int, target: int, session: str) -> dict[str, float]:
    """Receive with an actor, and take its micro-batches."""
    from zcrx_arrow.connectors import ray_source  # noqa: PLC0415 - after the environment is set

    receiver = ray_source.Receiver(
        listen="127.0.0.1:0", framing=zc.framing.Delimited(), resources={"bench": 1}
    )
    with ray_source.stream(receiver, target=target, backlog="64 MiB") as batches:
        (address,), (pid,) = batches.addresses.values(), batches.pids.values()
        others = daemons(session)
        peer = feeder(address, total)
        first = next(batches)
        ((before, _),) = batches.reports().values()
        raylet = sum(map(cpu_of, others))
        began, cpu, rows, blocks = time.perf_counter(), time.process_time(), first.rows, 1
        del first
        while rows < total // len(LINE):
            rows += next(batches).rows
            blocks += 1
        wall, driver = time.perf_counter() - began, time.process_time() - cpu
        daemon = sum(map(cpu_of, others)) - raylet
        ((after, metrics),) = batches.reports().values()
        assert metrics.copied_out_bytes == after.joined_bytes == 0
        assert metrics.chunks_leased == 0
        assert cpu_of(pid) > 0
    peer.join()
    receive = after.receiver_cpu_seconds - before.receiver_cpu_seconds
    pull = after.pull_cpu_seconds - before.pull_cpu_seconds
    actor = after.cpu_seconds - before.cpu_seconds
    engine = actor - receive - pull + driver + daemon
    return {
        "seconds": wall,
        "blocks": blocks,
        "block_kib": after.bytes / after.blocks / 1024,
        "receive_cpu": receive,
        "pull_cpu": pull,
        "put_cpu": after.put_cpu_seconds - before.put_cpu_seconds,
        "actor_cpu": actor,
        "driver_cpu": driver,
        "daemon_cpu": daemon,
        "engine_us_per_block": 1e6 * engine / (blocks - 1),
        "outside_share": (receive + pull) / (receive + pull + engine),
    }


def empty_calls(count: int) -> float:
    """Microseconds of CPU that Ray takes, in driver and actor, for a call with two results."""
    import ray  # noqa: PLC0415 - as above

    class Nothing:
        def take(self) -> tuple[None, None]:
            return None, None

        def cpu(self) -> float:
            return time.process_time()

    actor: Any = ray.remote(Nothing).remote()
    ask = actor.take.options(num_returns=2)
    ray.get(ask.remote())
    before, cpu = ray.get(actor.cpu.remote()), time.process_time()
    waiting = [ask.remote() for _ in range(32)]
    for _ in range(count):
        ray.get(waiting.pop(0))
        waiting.append(ask.remote())
    ray.get([each for pair in waiting for each in pair])
    used = time.process_time() - cpu + ray.get(actor.cpu.remote()) - before
    ray.kill(actor)
    return 1e6 * used / count


def measure(rounds: int, total: int) -> dict[str, Any]:
    os.environ.update(QUIET)
    import ray  # noqa: PLC0415 - as above

    context = ray.init(
        num_cpus=2,
        resources={"bench": 1},
        include_dashboard=False,
        object_store_memory=512 << 20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    session = Path(context.address_info["session_dir"]).name
    cases: dict[str, list[dict[str, float]]] = {}
    try:
        bare = empty_calls(2000)
        for _ in range(rounds + 1):  # the first one warms up
            cases.setdefault("without Ray", []).append(without_ray(total))
            for mib in (1, 8):
                found = with_ray(total, mib << 20, session)
                cases.setdefault(f"target {mib} MiB", []).append(found)
    finally:
        ray.shutdown()
    middle = {
        name: {key: statistics.median(run[key] for run in runs[1:]) for key in runs[0]}
        for name, runs in cases.items()
    }
    return {"bytes": total, "rounds": rounds, "empty_call_cpu_us": bare, "cases": middle}


def markdown(found: dict[str, Any]) -> str:
    gigabytes = found["bytes"] / 1e9
    columns = [
        "lines over loopback",
        "Gb/s",
        "block, KiB",
        "engine, us CPU a block",
        "receive + pull, CPU s/GB",
        "engine, CPU s/GB",
        "CPU outside the engine",
    ]
    lines = [f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(columns) - 1)]
    for name, each in found["cases"].items():
        speed = f"{8 * gigabytes / each['seconds']:.1f}"
        if "blocks" not in each:
            lines.append(f"| {name} | {speed} | – | – | {each['cpu'] / gigabytes:.3f} | – | 100% |")
            continue
        own = each["receive_cpu"] + each["pull_cpu"]
        engine = each["actor_cpu"] - own + each["driver_cpu"] + each["daemon_cpu"]
        lines.append(
            f"| {name} | {speed} | {each['block_kib']:.0f} | {each['engine_us_per_block']:.0f} "
            f"| {own / gigabytes:.3f} | {engine / gigabytes:.3f} | {each['outside_share']:.0%} |"
        )
    lines.append("")
    lines.append(
        f"A call of an actor that does nothing and gives two results: "
        f"{found['empty_call_cpu_us']:.0f} us of CPU in driver and actor."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of 200 MB")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    options = parser.parse_args()
    rounds, total = (1, 200_000_000) if options.quick else (5, 1_000_000_000)
    found = measure(rounds, total)
    text = json.dumps(found, indent=1)
    if options.json:
        options.json.write_text(text)
    sys.stdout.write(f"{text}\n\n{markdown(found)}\n")


if __name__ == "__main__":
    main()
