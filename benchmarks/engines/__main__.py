# SPDX-License-Identifier: Apache-2.0
"""Runs the cases, interleaved, and writes what they found: ``python -m benchmarks.engines``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import binaries, machine, processes
from benchmarks.engines.feeds import feed
from benchmarks.load import quietly
from benchmarks.stats import Spread, paired_ratio, spread

RESULTS = Path(__file__).parent.parent / "results"
SEED = 20_240_917
GB = 1e9


@dataclass(frozen=True, slots=True)
class Case:
    """A receiver and its feed."""

    key: str
    kind: str
    title: str
    bytes: float  # of a sample


CASES = (
    Case("polars_ours", "records", "Polars, records: scan(source)", 1 * GB),
    Case("polars_numbers", "records", "Polars, records: the same, the symbol as a number", 1 * GB),
    Case("polars_peer", "records", "Polars, records: makefile + numpy + pl.DataFrame", 1 * GB),
    Case("polars_ours", "csv", "Polars, CSV: scan(source)", 1 * GB),
    Case("polars_peer", "csv", "Polars, CSV: makefile + pl.read_csv, told its columns", 1 * GB),
    Case("polars_untold", "csv", "Polars, CSV: makefile + pl.read_csv", 1 * GB),
    Case("polars_ours", "ndjson", "Polars, NDJSON: scan(source)", 1 * GB),
    Case("polars_peer", "ndjson", "Polars, NDJSON: makefile + pl.read_ndjson, told", 1 * GB),
    Case("polars_untold", "ndjson", "Polars, NDJSON: makefile + pl.read_ndjson", 1 * GB),
    Case("duckdb_ours", "records", "DuckDB, records: from source", 1 * GB),
    Case("duckdb_memory", "records", "DuckDB, records: batches in memory", 1 * GB),
    Case("duckdb_floor", "records", "records: receive and decode only", 1 * GB),
)


def sample(case: Case, total: int, cpu: int | None) -> dict[str, Any]:
    """Receive a feed once."""
    sent, rows = feed(case.kind, total)
    receiver = processes.python("engines.receive", case=case.key, kind=case.kind, sender_cpu=cpu)
    with receiver:
        port = receiver.read()["port"]
        with processes.native("sender", cpu, port, *sent.sender_arguments()) as sender:
            got = receiver.finish()
            started = sender.finish()["started_ns"]
    if got["bytes"] != sent.payload_bytes:
        message = f"{case.title}: {got['bytes']} bytes instead of {sent.payload_bytes}"
        raise AssertionError(message)
    counted = sum(row[3] for row in got["answer"])
    if got["answer"] and counted != rows:
        message = f"{case.title}: {counted} rows instead of {rows}"
        raise AssertionError(message)
    return got | {
        "rows": rows,
        "cpu_per_gb": got["cpu_seconds"] / got["bytes"] * GB,
        "mrows": rows / ((got["ended_ns"] - started) * 1e-9) / 1e6 if got["ended_ns"] else None,
    }


def _shown(value: Spread, digits: int = 2) -> str:
    return f"{value.median:.{digits}f} ({value.low:.{digits}f}–{value.high:.{digits}f})"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A comparison."""

    title: str
    value: Spread
    least: float | None = None
    most: float | None = None

    @property
    def aim(self) -> str:
        """In words."""
        if self.least is not None:
            return f"at least {self.least:g}"
        return "–" if self.most is None else f"at most {self.most:g}"

    @property
    def verdict(self) -> str:
        """Whether the aim is met."""
        if self.least is None and self.most is None:
            return "–"
        low, high = self.least or 0, self.most or float("inf")
        return "yes" if low <= self.value.median <= high else "no"


def ratios(samples: dict[Case, list[dict[str, Any]]]) -> list[Ratio]:
    """Compare CPU by the byte; where rows are sent in different forms, by the row."""
    of = {(case.key, case.kind): [s["cpu_per_gb"] for s in s_] for case, s_ in samples.items()}
    rows_of = {
        (case.key, case.kind): [s["cpu_seconds"] / s["rows"] for s in s_]
        for case, s_ in samples.items()
    }
    made = []
    for kind, name in (("csv", "CSV"), ("ndjson", "NDJSON")):
        ours = of["polars_ours", kind]
        less = paired_ratio(of["polars_peer", kind], ours)
        made.append(Ratio(f"Polars, {name}: less CPU than the peer that is told", less, least=3))
        less = paired_ratio(of["polars_untold", kind], ours)
        made.append(Ratio(f"Polars, {name}: less CPU than the other", less))
    less = paired_ratio(rows_of["polars_peer", "csv"], rows_of["polars_ours", "records"])
    made.append(
        Ratio("Polars, a row as a record, and as CSV to the peer that is told", less, least=3)
    )
    for key, which in (
        ("polars_ours", "by text"),
        ("polars_numbers", "by numbers, as it has them"),
    ):
        less = paired_ratio(of["polars_peer", "records"], of[key, "records"])
        made.append(Ratio(f"Polars, records {which}: less CPU than numpy by hand", less))
    base = zip(of["duckdb_memory", "records"], of["duckdb_floor", "records"], strict=True)
    more = paired_ratio(of["duckdb_ours", "records"], [sum(pair) for pair in base])
    return [*made, Ratio("DuckDB, records: CPU to (in memory + receive floor)", more, most=1.2)]


def markdown(samples: dict[Case, list[dict[str, Any]]], rounds: int) -> str:
    """Write the tables."""
    lines = ["| aggregate by symbol | million rows/s | CPU s/GB |", "| --- | ---: | ---: |"]
    for case, taken in samples.items():
        speeds = [s["mrows"] for s in taken if s["mrows"]]
        speed = _shown(spread(speeds), 1) if speeds else "–"
        cpu = _shown(spread([s["cpu_per_gb"] for s in taken]), 3)
        lines.append(f"| {case.title} | {speed} | {cpu} |")
    lines += ["", "| ratio | aim | measured | met |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {each.title} | {each.aim} | {_shown(each.value)} | {each.verdict} |"
        for each in ratios(samples)
    ]
    lines += [
        "",
        f"{machine.describe().one_line()} {rounds} interleaved rounds, medians (extremes).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, show, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 5)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, a quarter of the bytes")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    given = parser.parse_args()
    rounds = given.rounds or (3 if given.quick else 5)
    scale = 0.25 if given.quick else 1.0
    cpus = sorted(os.sched_getaffinity(0))
    cpu = cpus[-1] if len(cpus) > 1 else None
    binaries.build_all()
    order = random.Random(SEED)
    samples: dict[Case, list[dict[str, Any]]] = {case: [] for case in CASES}
    with machine.idle_polling(wanted=True):
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for case in order.sample(CASES, len(CASES)):
                taken, others = quietly(
                    lambda case=case: sample(case, int(case.bytes * scale), cpu),
                    lambda text: print(text, file=sys.stderr),
                )
                samples[case].append(taken | {"others_share": others})
    agree(samples)
    text = markdown(samples, rounds)
    print(text)
    (given.out / "engines.md").write_text(text)
    document = [
        {"case": dataclasses.asdict(case), "samples": taken} for case, taken in samples.items()
    ]
    (given.out / "engines.json").write_text(json.dumps(document, indent=1) + "\n")


def agree(samples: dict[Case, list[dict[str, Any]]]) -> None:
    """See that all who have aggregated a feed have found the same."""
    for kind in ("records", "csv", "ndjson"):
        answers = {
            json.dumps([row[:2] + row[3:] for row in taken["answer"]])
            for case, all_taken in samples.items()
            for taken in all_taken
            if case.kind == kind and taken["answer"]
        }
        if len(answers) != 1:
            message = f"{kind}: the engines do not agree: {answers}"
            raise AssertionError(message)


main()
