# SPDX-License-Identifier: Apache-2.0
"""
Fuzzes all targets for a bounded time, the C ones under AddressSanitizer.

    python -m tests.fuzz [--seconds 100] [TARGET...]

What was learned is kept in build/fuzz/corpus for the next time. A finding is written to
build/fuzz/findings, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import clang, harness

NATIVE = clang.ROOT / "native" / "fuzz" / "corpus"
# Not libFuzzer's 1200 s: an input that takes that long has found something too.
LIMITS = ["-timeout=25", "-rss_limit_mb=2500", "-print_final_stats=1"]
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


@dataclass(frozen=True, slots=True)
class Target:
    """One fuzzer."""

    name: str
    share: int
    """Of the time."""
    length: int
    """Of an input, at most."""

    @property
    def native(self) -> bool:
        """Whether it is one of native/fuzz."""
        return self.name.startswith("native.")

    @property
    def last(self) -> str:
        """Name of its program or module."""
        return self.name.rpartition(".")[2]

    @property
    def seeds(self) -> Path:
        """The corpus that is part of the sources."""
        return (NATIVE if self.native else harness.CORPUS) / self.last

    def command(self, programs: Path) -> list[str]:
        """How to run it."""
        if self.native:
            return [str(programs / f"fuzz_{self.last}")]
        return [sys.executable, "-m", "tests.fuzz.harness", self.last]

    def again(self, programs: Path) -> str:
        """How to run one input."""
        if self.native:
            return str(programs / f"fuzz_{self.last}")
        return f"python -m tests.fuzz.harness --replay {self.last}"


TARGETS = (
    Target("native.framing", 3, 4096),
    Target("decoders.text", 3, 1024),
    Target("decoders.ipc", 2, 4096),
    Target("native.records", 2, 2048),
    Target("native.text", 2, 1024),
    Target("decoders.records", 1, 1024),
    Target("native.ipc", 1, 4096),
)


@dataclass(slots=True)
class Result:
    """What a fuzzer has to say."""

    target: Target
    code: int
    log: str
    seconds: float
    findings: list[Path]

    def number(self, pattern: str) -> int:
        """Give the last number that the log has of it; 0 if it has none."""
        found = re.findall(pattern, self.log)
        return int(found[-1]) if found else 0


def fuzz(target: Target, programs: Path, seconds: float) -> Result:
    """Run one fuzzer."""
    corpus = clang.BUILD / "corpus" / target.name
    findings = clang.BUILD / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    started = time.monotonic()
    done = subprocess.run(
        [
            *target.command(programs),
            *LIMITS,
            f"-max_total_time={max(1, round(seconds))}",
            f"-max_len={target.length}",
            f"-artifact_prefix={findings}/{target.name}-",
            str(corpus),
            str(target.seeds),
        ],
        cwd=clang.ROOT,
        env={**os.environ, **OPTIONS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=seconds + 300,
    )
    new = [each for each in findings.iterdir() if each not in before]
    log = done.stdout.decode(errors="replace")
    # An input that was found before is written under the same name.
    named = [Path(each) for each in re.findall(r"Test unit written to (\S+)", log)]
    return Result(target, done.returncode, log, time.monotonic() - started, sorted({*new, *named}))


def tell(result: Result, programs: Path) -> bool:
    """Print what came of it; True if nothing was found."""
    runs = result.number(r"stat::number_of_executed_units:\s+(\d+)")
    coverage, corpus = result.number(r"cov: (\d+)"), result.number(r"corp: (\d+)")
    print(
        f"{result.target.name:<18} {runs:>10,} runs {runs / result.seconds:>9,.0f}/s  "
        f"coverage {coverage:>5,}  corpus {corpus:>5,}  {result.seconds:>4.0f} s",
        flush=True,
    )
    if not result.code and runs:
        return True
    lines = [line for line in result.log.splitlines() if not re.match(r"#\d+\s|INFO:", line)]
    print(*lines[-60:], sep="\n")
    print(f"{result.target.name} has found something (exit code {result.code})")
    for each in result.findings:
        print(f"  {result.target.again(programs)} {each}")
    return False


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="in all, after building")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("targets", nargs="*", help=", ".join(each.name for each in TARGETS))
    given = parser.parse_args()
    targets = [each for each in TARGETS if not given.targets or each.name in given.targets]
    if len(targets) < len(set(given.targets)):
        parser.error(f"targets are {', '.join(each.name for each in TARGETS)}")
    missing = []
    programs = clang.BUILD
    try:
        if any(each.native for each in targets):
            programs = clang.build()
    except clang.Unavailable as error:
        missing.append(f"targets in C: {error}")
        targets = [each for each in targets if not each.native]
    if any(not each.native for each in targets) and not importlib.util.find_spec("atheris"):
        missing.append("targets in Python: pip install atheris")
        targets = [each for each in targets if each.native]
    for each in missing:
        print(f"left out are {each}", file=sys.stderr)
    if not targets or (missing and os.environ.get("CI")):
        return 1 if os.environ.get("CI") else 0
    each_share = given.seconds * given.jobs / sum(target.share for target in targets)
    with ThreadPoolExecutor(given.jobs) as pool:
        results = pool.map(
            lambda target: fuzz(target, programs, min(given.seconds, target.share * each_share)),
            targets,
        )
        good = [tell(result, programs) for result in results]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
