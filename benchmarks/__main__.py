# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmarks and writes what they found: ``python -m benchmarks``."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from benchmarks.options import parse
from benchmarks.report import document, markdown, plot, terminal
from benchmarks.run import run


def main() -> None:
    """Run, show, write."""
    options = parse(sys.argv[1:], tuple(sorted(os.sched_getaffinity(0))))
    console = Console()
    progress = Console(stderr=True, highlight=False)
    with progress.status("building") as status:

        def tell(step: str) -> None:
            if progress.is_terminal:
                status.update(step)
            else:
                progress.print(step, markup=False)

        report = run(options, tell)
    document.write(report, options.json)
    markdown.write(report, options.markdown)
    written = [options.json, options.markdown]
    if plot.write(report, options.plot):
        written.append(options.plot)
    terminal.show(report, console)
    for path in written:
        console.print(f"wrote {path}", markup=False, soft_wrap=True)


main()
