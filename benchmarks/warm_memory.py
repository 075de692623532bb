# SPDX-License-Identifier: Apache-2.0
"""Touches as much memory as the case that keeps everything is about to use, and frees it.

The first touch of a page costs a virtual machine an exit to its hypervisor, many times what the
page fault itself costs, and pages that were free for some seconds may have been taken back. That
cost is the machine's and comes and goes, so it is paid before the sample.
"""

from __future__ import annotations

import json
import sys

from benchmarks.probe import say


def main() -> None:
    """Touch memory."""
    total = json.loads(sys.argv[1])["total"]
    block = bytearray(b"x") * (total + total // 4)
    say(bytes=len(block))


main()
