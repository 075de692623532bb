# SPDX-License-Identifier: Apache-2.0
"""Runs one receiver; its module is imported only then, so that none pays for another's imports."""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.probe import pin

MODULES = {
    "recv_into": "sockets",
    "recv_array": "sockets",
    "ipc": "arrow",
    "flight_get": "arrow",
    "raw": "ours",
    "lines": "ours",
    "keep": "ours",
    "arrow": "ours_arrow",
    "arrow_large": "ours_arrow",
    "arrow_trusted": "ours_arrow",
    "connections": "ours_many",
    "flatness": "ours_flat",
    "answer_socket": "answer",
    "answer_ours": "answer",
}


def main() -> None:
    """Run the receiver that the JSON argument names."""
    parameters = json.loads(sys.argv[1])
    case = parameters.pop("case")
    pin(parameters.pop("sender_cpu", None))
    module = importlib.import_module(f"benchmarks.receivers.{MODULES[case]}")
    getattr(module, case)(**parameters)


main()
