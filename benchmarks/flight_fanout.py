# SPDX-License-Identifier: Apache-2.0
"""
Fan-out to 1 and 8 Flight clients: ours against a plain pyarrow server, batches from memory.

``python -m benchmarks.flight_fanout --rounds 7`` prints JSON and a table. Each sample has a server
process and a process with the clients, a thread and a connection each; the rounds are interleaved.
The plain server yields the batches to each client by itself. Ours pulls them from a stream, numbers
them, and shares them among the clients, and waits for the slowest (``slow="wait"``), so that all
get everything as fast as they can. Both are fed with one batch again and again, which the plain one
sends from the cache as it is; ours puts small ones together, which copies them, and says their
numbers with each message. ``live`` is ours too, from a TCP feed: Arrow IPC from the C
sender over loopback, received, decoded, copied once out of the receive memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import flight

from benchmarks import feeds, machine, processes
from benchmarks.load import quietly
from benchmarks.probe import cpu_seconds, say
from benchmarks.stats import Spread, paired_ratio, spread
from zcrx_arrow import decoders, listen
from zcrx_arrow.connectors.flight_server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLIENTS = (1, 8)
ROWS = {"1 MiB": feeds.IPC_ROWS, "64 KiB": feeds.IPC_ROWS // 16}
SERVERS = ("plain", "ours", "live")
NAME = "feed"
GOAL = 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one run of a server and its clients took."""

    gigabytes_per_second: float
    cpu_per_gigabyte: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A case over all rounds; ratios are to the plain server's in the same round."""

    server: str
    clients: int
    batch: str
    gigabytes_per_second: Spread
    cpu_per_gigabyte: Spread
    throughput_to_plain: Spread
    cpu_to_plain: Spread
    others_share: float


Case = tuple[int, str, str]


# --- the processes ---------------------------------------------------------------------------


class Plain(flight.FlightServerBase):  # type: ignore[misc] # pyarrow has no types
    """Yields the batch to each client."""

    def __init__(self, batch: pa.RecordBatch, count: int) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self._batch, self._count = batch, count

    def do_get(self, _context: Any, _ticket: Any) -> flight.FlightDataStream:
        """Serve the feed."""
        return flight.GeneratorStream(self._batch.schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for _ in range(self._count):
            yield self._batch


def _serve_plain(batch: pa.RecordBatch, count: int, _clients: int) -> None:
    server = Plain(batch, count)
    say(port=server.port)
    before = cpu_seconds()
    sys.stdin.read()
    say(cpu_seconds=cpu_seconds() - before)
    server.shutdown()


def _serve_ours(batch: pa.RecordBatch, count: int, clients: int) -> None:
    _serve(pa.RecordBatchReader.from_batches(batch.schema, (batch for _ in range(count))), clients)


def _serve_live(_batch: pa.RecordBatch, count: int, clients: int) -> None:
    feed = feeds.ipc(count * feeds.IPC_BATCH_BYTES).sender_arguments()
    with listen("127.0.0.1:0", decode=decoders.ArrowIpc(), accept=1) as source:
        sender = processes.native("sender", None, source.address[1], *feed)
        with sender:
            _serve(source, clients)


def _serve(source: Any, clients: int) -> None:
    with serve(source, name=NAME, keep=0, slow="wait", wait_for=clients) as server:
        say(port=server.port)
        before = cpu_seconds()
        sys.stdin.read()
        say(cpu_seconds=cpu_seconds() - before)


def _read(port: int, count: int) -> None:
    """Be the clients."""
    totals = [0] * count
    ready = threading.Barrier(count + 1)

    def read(number: int) -> None:
        with flight.connect(f"grpc://127.0.0.1:{port}") as client:
            client.wait_for_available(30)
            ready.wait()
            for chunk in client.do_get(flight.Ticket(NAME)):
                totals[number] += chunk.data.num_rows

    threads = [threading.Thread(target=read, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    begin = time.monotonic()
    for thread in threads:
        thread.join()
    say(seconds=time.monotonic() - begin, rows=totals)


def _child(given: dict[str, Any]) -> None:
    if given["role"] == "read":
        _read(given["port"], given["clients"])
        return
    batch = feeds.ipc_batch().slice(0, given["rows"])
    roles = {"plain": _serve_plain, "ours": _serve_ours, "live": _serve_live}
    roles[given["role"]](batch, given["count"], given["clients"])


# --- the measurement -------------------------------------------------------------------------


def _sample(case: Case, total: int) -> Sample:
    clients, size, server = case
    rows = ROWS[size]
    count = max(1, total // clients // (rows * feeds.IPC_ROW_BYTES))
    parameters = {"role": server, "rows": rows, "count": count, "clients": clients}
    with processes.python("flight_fanout", **parameters) as serving:
        port = serving.read()["port"]
        with processes.python("flight_fanout", role="read", port=port, clients=clients) as reading:
            read = reading.finish()
        if read["rows"] != [count * rows] * clients:
            raise processes.ChildError(f"{case}: {read['rows']} rows instead of {count * rows}")
        serving.tell()
        cpu = serving.finish()["cpu_seconds"]
    gigabytes = clients * count * rows * feeds.IPC_ROW_BYTES / 1e9
    return Sample(
        gigabytes_per_second=gigabytes / read["seconds"], cpu_per_gigabyte=cpu / gigabytes
    )


def _cases(*, live: bool) -> list[Case]:
    """Give the cases; the live feed has batches of one size."""
    return [
        (clients, size, server)
        for clients in CLIENTS
        for size in ROWS
        for server in SERVERS
        if server != "live" or (live and size == "1 MiB")
    ]


def measure(rounds: int, total: int, *, live: bool) -> list[Result]:
    """Take all samples, round by round."""
    cases = _cases(live=live)
    samples: dict[Case, list[Sample]] = {case: [] for case in cases}
    others = dict.fromkeys(cases, 0.0)
    for number in range(rounds):
        # Who goes first has the caches; so it takes turns.
        for case in cases if number % 2 == 0 else reversed(cases):
            sample, share = quietly(lambda case=case: _sample(case, total), _tell)  # type: ignore[misc]
            samples[case].append(sample)
            others[case] = max(others[case], share)
            _tell(f"round {number + 1}: {case} {sample.gigabytes_per_second:.2f} GB/s")
    return [_result(case, samples, others[case]) for case in cases]


def _result(case: Case, samples: dict[Case, list[Sample]], others: float) -> Result:
    clients, size, server = case
    rates, cpus = _columns(samples[case])
    plain_rates, plain_cpus = _columns(samples[clients, size, "plain"])
    return Result(
        server=server,
        clients=clients,
        batch=size,
        gigabytes_per_second=spread(rates),
        cpu_per_gigabyte=spread(cpus),
        throughput_to_plain=paired_ratio(rates, plain_rates),
        cpu_to_plain=paired_ratio(cpus, plain_cpus),
        others_share=others,
    )


def _columns(samples: Sequence[Sample]) -> tuple[list[float], list[float]]:
    rates = [sample.gigabytes_per_second for sample in samples]
    return rates, [sample.cpu_per_gigabyte for sample in samples]


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _table(results: Sequence[Result], rounds: int) -> str:
    lines = [
        "| clients | batch | server | GB/s, all clients | to plain | server CPU s/GB | to plain |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r.clients} | {r.batch} | {r.server} | {_of(r.gigabytes_per_second)} | "
        f"{r.throughput_to_plain.median:.2f}x | {_of(r.cpu_per_gigabyte)} | "
        f"{r.cpu_to_plain.median:.2f}x |"
        for r in results
    ]
    lines += ["", f"{machine.describe().one_line()}. Medians (extremes) of {rounds} rounds; ratios"]
    lines += [f"are medians of ratios within a round. Goal: ours at least {GOAL:g}x of plain."]
    others = max(result.others_share for result in results)
    lines += [f"Other work took at most {others:.0%} of the machine in a sample."]
    return "\n".join(lines)


def _of(values: Spread) -> str:
    return f"{values.median:.2f} ({values.low:.2f}–{values.high:.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="less bytes a sample")
    parser.add_argument("--no-live", action="store_true", help="leave out the TCP feed")
    options = parser.parse_args()
    total = 400_000_000 if options.quick else 4_000_000_000
    results = measure(options.rounds, total, live=not options.no_live)
    found = {
        "machine": dataclasses.asdict(machine.describe()),
        "rounds": options.rounds,
        "bytes_per_sample": total,
        "goal": GOAL,
        "results": [dataclasses.asdict(result) for result in results],
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n\n" + _table(results, options.rounds) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        _child(json.loads(sys.argv[1]))
    else:
        main()
