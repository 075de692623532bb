# SPDX-License-Identifier: Apache-2.0
"""The report as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from benchmarks.targets import targets

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.run import Report

SCHEMA = 2


def write(report: Report, path: Path) -> None:
    """Write every sample and every summary."""
    document = {"schema": SCHEMA} | asdict(report)
    document["targets"] = [asdict(target) | {"met": target.met} for target in targets(report)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
