# SPDX-License-Identifier: Apache-2.0
"""
Writes rolling files in children that its caller kills; a program of its own.

A child for each line of the input, ``PORT FOLDER KIND``; its process id is the answer. It asks a
sender at the port to go on where the files stop. Forked, since importing takes longer than writing.
"""

from __future__ import annotations

import os
import sys

import pyarrow as pa

import zcrx_arrow as zc
from zcrx_arrow import framing
from zcrx_arrow.connectors import rolling


def write(port: str, folder: str, kind: str) -> None:
    where = rolling.resume(folder)
    with zc.connect(
        f"127.0.0.1:{port}",
        greeting=b"FROM %d\n" % where.offset,
        framing=framing.Delimited(emit_unterminated=False),
        area="4 MiB",
    ) as source:
        rolling.write(source, folder, roll=("48 KiB", "20 ms"), rows=5000, format=kind, start=where)


pa.array([1.5])  # pyarrow looks for pandas with the first values; a child would take its time
for line in sys.stdin:
    child = os.fork()
    if not child:
        code = 1
        try:
            write(*line.split())
            code = 0
        finally:
            os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(status, flush=True)
