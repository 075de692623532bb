# SPDX-License-Identifier: Apache-2.0
"""Takes one sample; what it needs is imported only then, when the process is pinned already."""

from __future__ import annotations

import importlib
import json
import os
import sys


def main() -> None:
    """Run the case that the JSON argument names, such as ``"lines.frame"``."""
    parameters = json.loads(sys.argv[1])
    if parameters["cpu"] is not None:
        os.sched_setaffinity(0, {parameters["cpu"]})
    os.environ["POLARS_MAX_THREADS"] = "1"
    module, _, function = parameters["case"].partition(".")
    work = importlib.import_module(f"benchmarks.memory.{module}")
    getattr(work, function)(parameters["total"])


main()
